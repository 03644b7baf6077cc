// Checks of the audit log: the process can write it, and its hash chain is whole.

import { accessSync, constants, statSync } from 'node:fs';
import path from 'node:path';
import { formatSize } from '../../../core/mod.ts';
import { auditFiles, verifyLog, type LogCheck } from '../../audit/mod.ts';
import type { Config } from '../../config/mod.ts';
import { fail, ok, warn, type Finding } from './finding.ts';

/** Bytes that `katamari doctor` reads, so that it stays fast. `--security` reads the whole log. */
export const CHAIN_BYTES_MAX: number = 16 * 1024 * 1024;

export function auditFolderOf({ dataDir }: Pick<Config, 'dataDir'>): string {
  return path.join(dataDir, 'audit');
}

/** @param bytesMax bytes of the log that are read; the newest files come first */
export async function checkAuditLog(config: Config, bytesMax: number): Promise<Finding[]> {
  const folder = auditFolderOf(config);
  if (statSync(folder, { throwIfNoEntry: false }) === undefined)
    return [ok(SUBJECT, `${folder} begins at the first start`)];
  try {
    accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK);
    const newest = (await auditFiles(folder)).at(-1);
    if (newest !== undefined) accessSync(newest, constants.R_OK | constants.W_OK);
    return describe(folder, await verifyLog(folder, { bytesMax }), bytesMax);
  } catch (error) {
    const text = `${folder} cannot be used: ${(error as Error).message}: changes and refusals would leave no trace`;
    return [fail(SUBJECT, text, `give this user write access to ${folder} and its files`)];
  }
}

function describe(folder: string, { verdict, hasHead, filesSkipped }: LogCheck, bytesMax: number): Finding[] {
  if (verdict === undefined) return [ok(SUBJECT, `${folder} has no lines yet`)];
  if (!verdict.isIntact) {
    const text = `${verdict.file}:${verdict.line}: ${verdict.why}`;
    return [
      fail(SUBJECT, text, `keep a copy of ${folder}, find out who wrote there, and move it away to begin a new log`),
    ];
  }
  const { lines, files, lost, isPartial } = verdict;
  const early =
    filesSkipped === 0 && !isPartial
      ? ''
      : `; stopped after ${formatSize(bytesMax)}, \`katamari audit verify\` reads the rest`;
  const findings = [
    ok(
      SUBJECT,
      `the chain of ${lines} ${lines === 1 ? 'line' : 'lines'} in ${files} ${files === 1 ? 'file' : 'files'} is intact${early}`,
    ),
  ];
  if (!hasHead) {
    const text = `${path.join(folder, 'head.json')} is missing: lines that are removed at the end are not noticed`;
    findings.push(warn(SUBJECT, text, 'find out who removed it; the next line of the log writes it again'));
  }
  if (lost > 0) {
    const text = `${lost} ${lost === 1 ? 'entry was' : 'entries were'} lost while it could not be written`;
    findings.push(warn(SUBJECT, text, 'katamari audit shows when (audit_gap); give the log a disk with room'));
  }
  return findings;
}

const SUBJECT = 'audit log';

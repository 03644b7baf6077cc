// Adds what changed in the configuration since the last start or reload to the audit log. A file in the data directory
// keeps the documents of that time, without secrets, and a hash of each that also covers its secrets.

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { redactChange, type AuditEntry } from '../audit/mod.ts';
import { desiredDeployment, type Config } from '../config/mod.ts';
import { deploymentId } from '../mesh/mod.ts';
import type { ProcessContext } from './process-context.ts';
import { z } from 'zod';
import { replaceFile } from '../../core/mod.ts';

interface ConfiguredDocument {
  readonly subject: string;
  /** Hash of the whole document. */
  readonly sha256: string;
  /** The document without secrets. */
  readonly shown: unknown;
}

/** Never rejects: the mesh starts without its line too. */
export async function recordConfiguration({
  config,
  roles,
  audit,
  events,
}: Pick<ProcessContext, 'config' | 'roles' | 'audit' | 'events'>): Promise<void> {
  const file = path.join(config.dataDir, 'configured.json');
  const before = new Map((await readDocuments(file)).map((document) => [document.subject, document]));
  const after = new Map(documentsOf(config, roles.includes('manager')).map((document) => [document.subject, document]));
  const changed = [...new Set([...after.keys(), ...before.keys()])].filter(
    (subject) => before.get(subject)?.sha256 !== after.get(subject)?.sha256,
  );
  if (changed.length === 0) return;
  for (const subject of changed) audit.record(entryOf(subject, before.get(subject), after.get(subject)));
  try {
    await replaceFile(file, JSON.stringify({ documents: [...after.values()] }));
  } catch (error) {
    const text = `cannot be written: ${(error as Error).message}; the next start records the same changes again`;
    events.add('audit_failed', file, text);
  }
}

function entryOf(
  subject: string,
  before: ConfiguredDocument | undefined,
  after: ConfiguredDocument | undefined,
): AuditEntry {
  const isSecret = JSON.stringify(before?.shown) === JSON.stringify(after?.shown);
  return {
    who: 'katamari.yaml',
    from: 'configuration',
    action: 'configure',
    subject,
    result: 'done',
    ...(isSecret ? { reason: 'a masked value changed' } : {}),
    before: before?.shown ?? null,
    after: after?.shown ?? null,
  };
}

/** The deployments and routes of the configuration, and all of its other settings as one document. */
function documentsOf(config: Config, hasManager: boolean): ConfiguredDocument[] {
  const { deployments, routes, ...settings } = config;
  return [
    documentOf('settings', settings),
    ...Object.entries(routes).map(([service, route]) => documentOf(`route ${service}`, route)),
    ...(hasManager ? deployments.map(desiredDeployment) : []).map((one) => documentOf(deploymentId(one), one)),
  ];
}

function documentOf(subject: string, document: object): ConfiguredDocument {
  const text = JSON.stringify(document);
  const shown = redactChange(undefined, JSON.parse(text)).after;
  return { subject, sha256: createHash('sha256').update(text).digest('hex'), shown };
}

async function readDocuments(file: string): Promise<readonly ConfiguredDocument[]> {
  try {
    return SAVED.parse(JSON.parse(await readFile(file, 'utf8'))).documents;
  } catch {
    // The first start, or a damaged file: everything is recorded as new.
    return [];
  }
}

const SAVED: z.ZodType<{ readonly documents: readonly ConfiguredDocument[] }> = z.object({
  documents: z.array(z.object({ subject: z.string(), sha256: z.string(), shown: z.unknown() })).max(100_000),
});

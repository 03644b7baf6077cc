// The directories of a process: its data directory and the one for the sockets of its chassis, both for this user
// alone, and that of its shards. Checked before anything starts, so that a wrong one ends the start with its reason.

import { readdirSync, statSync } from 'node:fs';
import { ensurePrivateDirectory, findSocketBase, KatamariError } from '../../core/mod.ts';
import type { Config } from './config.ts';
import { EXIT, ExitError } from './exit-error.ts';
import type { Role } from './roles.ts';

/**
 * Makes or checks the directories of a process.
 * @returns warnings, one sentence each
 * @throws ExitError that says which directory cannot be used, and why
 */
export function prepareDirectories({ dataDir, content }: Config, roles: readonly Role[]): string[] {
  try {
    const changed = ensurePrivateDirectory(dataDir, isDataDirectory);
    const warnings = changed === '' ? [] : [`dataDir: ${changed}`];
    if (!roles.includes('manager')) return warnings;
    checkShardDirectory(content.directory);
    const { directory, skipped } = findSocketBase();
    return [...warnings, ...skipped.map((why) => `${why}; the sockets of chassis are in ${directory}`)];
  } catch (error) {
    if (!(error instanceof KatamariError)) throw error;
    throw new ExitError(EXIT.badConfiguration, error.message, error);
  }
}

/** Other users may enter the directory of the shards, if its owner lets them, but not replace what is in it. */
function checkShardDirectory(directory: string): void {
  const refuse = (why: string): never => {
    throw new KatamariError('bad_request', `content.directory: ${directory} ${why}`);
  };
  const found = statSync(directory, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isDirectory()) refuse('is not a directory');
  const uid = process.geteuid?.() ?? found.uid;
  if (found.uid !== uid) refuse(`belongs to user ${found.uid}, and the mesh runs as user ${uid}; correct its owner`);
  if ((found.mode & OTHERS_WRITE) !== 0)
    refuse(`can be written by others (mode ${(found.mode & 0o7777).toString(8)}); use chmod go-w`);
  const other = readdirSync(directory).find((name) => !SHARD_NAMES.has(name));
  if (other !== undefined) refuse(`has other files, such as ${other}; name a directory for shards alone`);
}

/** Whether a directory with these files is the data directory of a Katamari process. */
export function isDataDirectory(names: readonly string[]): boolean {
  return names.some((name) => OWN_NAMES.has(name));
}

const OWN_NAMES: ReadonlySet<string> = new Set([
  'audit',
  'configured.json',
  'consul-token',
  'link-secret',
  'admin-token',
  'consul',
  'orders.json',
  'policy.json',
  'snapshot.json',
  'wanted.json',
]);

/** What the shard store of a manager makes, and what a file system of its own has. */
const SHARD_NAMES: ReadonlySet<string> = new Set(['live', 'part', 'old', 'trash', 'manifests', 'lost+found']);
const OTHERS_WRITE = 0o022;

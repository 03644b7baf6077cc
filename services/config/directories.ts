// The directories of a process: its data directory and the one for the sockets of its chassis. Both are for this user
// alone. Checked before anything starts, so that a wrong one ends the start with its reason.

import { ensurePrivateDirectory, findSocketBase, KatamariError } from '../../core/mod.ts';
import type { Config } from './config.ts';
import { EXIT, ExitError } from './exit-error.ts';
import type { Role } from './roles.ts';

/**
 * Makes or checks the directories of a process.
 * @returns warnings, one sentence each
 * @throws ExitError that says which directory cannot be used, and why
 */
export function prepareDirectories({ dataDir }: Config, roles: readonly Role[]): string[] {
  try {
    const changed = ensurePrivateDirectory(dataDir, isDataDirectory);
    const warnings = changed === '' ? [] : [`dataDir: ${changed}`];
    if (!roles.includes('manager')) return warnings;
    const { directory, skipped } = findSocketBase();
    return [...warnings, ...skipped.map((why) => `${why}; the sockets of chassis are in ${directory}`)];
  } catch (error) {
    if (!(error instanceof KatamariError)) throw error;
    throw new ExitError(EXIT.badConfiguration, error.message, error);
  }
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

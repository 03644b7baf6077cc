// Paths of the programs that tests need beyond npm: `.tools/bin` first, then PATH. A missing program fails the test
// and names the command that installs it. No test is skipped.

import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { REPOSITORY } from './repository.ts';

/**
 * Absolute path of a program such as `consul`, `thrift`, `promtool` or `chromium`. @throws Error that says how to
 * install it
 */
export function toolPath(name: string): string {
  // Same order as scripts/install-test-tools.sh. Some programs are for root, whose folders are not on every PATH.
  const folders = [
    join(REPOSITORY, '.tools', 'bin'),
    ...(process.env['PATH'] ?? '').split(delimiter),
    '/usr/sbin',
    '/sbin',
  ];
  for (const folder of folders) {
    if (folder === '') continue;
    const path = join(folder, name);
    if (isProgram(path)) return path;
  }
  throw new Error(
    `Cannot find "${name}" in .tools/bin or on PATH. Run: sh scripts/install-test-tools.sh (it installs on Debian as root, and elsewhere says what is needed)`,
  );
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

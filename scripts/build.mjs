// Builds dist/ for Node: tsc, then what tsc leaves behind (IDL, word lists, pages, sample configuration) is copied beside the built code, so
// that every `new URL('./file', import.meta.url)` works the same from the sources and from dist/. Does nothing when dist/ is up to date.

import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const rooms = ['idl', 'core', 'client', 'chassis-sdk', 'faceplates', 'services', 'examples', 'test/fixtures'];
const settings = ['package.json', 'tsconfig.json', 'tsconfig.build.json'];
const stamp = path.join(root, 'dist', '.built');

/** Time of the newest change below a folder, folders included: a deleted file counts too. */
function newest(folder) {
  const times = readdirSync(folder, { withFileTypes: true }).map((entry) => {
    const at = path.join(folder, entry.name);
    return entry.isDirectory() ? newest(at) : statSync(at).mtimeMs;
  });
  return Math.max(statSync(folder).mtimeMs, ...times);
}

const changedAtMs = Math.max(
  ...rooms.map((room) => newest(path.join(root, room))),
  ...settings.map((file) => statSync(path.join(root, file)).mtimeMs),
);
if (existsSync(stamp) && statSync(stamp).mtimeMs > changedAtMs) process.exit(0);

const startedAt = new Date();
const tsc = path.join(root, 'node_modules', '.bin', 'tsc');
const { status } = spawnSync(tsc, ['-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' });
if (status !== 0) {
  rmSync(stamp, { force: true });
  process.exit(status ?? 1);
}
const compiled = /\.(ts|py|rb|cc|md)$/;
for (const room of rooms) {
  cpSync(path.join(root, room), path.join(root, 'dist', room), {
    recursive: true,
    filter: (from) => statSync(from).isDirectory() || !compiled.test(from),
  });
}
cpSync(path.join(root, 'package.json'), path.join(root, 'dist', 'package.json'));
writeFileSync(stamp, '');
// What was changed while tsc ran is built next time.
utimesSync(stamp, startedAt, startedAt);

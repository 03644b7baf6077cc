// Builds dist/ for Node. `node scripts/build.mjs` builds the product, `--examples` the samples too, `--dev` also test
// fixtures, scripts and benches. tsc compiles the code. The script copies files that the code reads (IDL, pages,
// sample configuration), so that `new URL('./file', import.meta.url)` works the same in the sources and in dist/. It
// does nothing if dist/ is up to date.

import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const PRODUCT = ['idl', 'core', 'client', 'chassis-sdk', 'content-servers', 'faceplates', 'services'];
const DEV = ['test/fixtures', 'test/fuzz', 'test/kit', 'scripts', 'bench'];
const builds = [
  {
    config: 'tsconfig.build.json',
    folders: PRODUCT,
    copied: ['idl', 'core', 'client', 'content-servers', 'faceplates', 'services'],
  },
];
if (process.argv.some((flag) => flag === '--examples' || flag === '--dev')) {
  builds.push({ config: 'tsconfig.examples.json', folders: [...PRODUCT, 'examples'], copied: ['examples'] });
}
if (process.argv.includes('--dev')) {
  builds.push({ config: 'tsconfig.dev.json', folders: [...PRODUCT, ...DEV], copied: ['test/fixtures'] });
}

for (const build of builds) buildUnlessCurrent(build);

function buildUnlessCurrent({ config, folders, copied }) {
  const stamp = path.join(root, 'dist', `.built-${config}`);
  const times = [
    ...folders.map((folder) => newest(path.join(root, folder))),
    ...['package.json', 'tsconfig.json', 'tsconfig.build.json', config].map(changed),
  ];
  if (existsSync(stamp) && statSync(stamp).mtimeMs > Math.max(...times)) return;
  const startedAt = new Date();
  const tsc = path.join(root, 'node_modules', '.bin', 'tsc');
  const { status } = spawnSync(tsc, ['-p', config], { cwd: root, stdio: 'inherit' });
  if (status !== 0) {
    rmSync(stamp, { force: true });
    process.exit(status ?? 1);
  }
  for (const folder of copied) copyBeside(folder);
  cpSync(path.join(root, 'package.json'), path.join(root, 'dist', 'package.json'));
  writeFileSync(stamp, '');
  // Date the stamp before tsc ran, so that a file that changed meanwhile is built next time.
  utimesSync(stamp, startedAt, startedAt);
}

/** Copies the files that tsc does not emit. Chassis kits in other languages are used from their sources. */
function copyBeside(folder) {
  cpSync(path.join(root, folder), path.join(root, 'dist', folder), {
    recursive: true,
    filter: (from) =>
      statSync(from).isDirectory() ? path.basename(from) !== 'node_modules' : !/\.(ts|py|rb|cc|md)$/.test(from),
  });
}

/** Returns the time of the newest change below a folder. Folders count, because deleting a file changes only them. */
function newest(folder) {
  const times = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.name !== 'node_modules')
    .map((entry) => {
      const at = path.join(folder, entry.name);
      return entry.isDirectory() ? newest(at) : statSync(at).mtimeMs;
    });
  return Math.max(statSync(folder).mtimeMs, ...times);
}

/** Returns the time of the last change of a file in the root. */
function changed(file) {
  return statSync(path.join(root, file)).mtimeMs;
}

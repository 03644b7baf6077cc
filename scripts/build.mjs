// Builds dist/ for Node. `node scripts/build.mjs` builds the product, `--examples` the samples too, `--dev` also test
// fixtures, scripts and benches. tsc compiles the code. The files beside it that it reads (IDL, pages, sample
// configuration) are copied, so that `new URL('./file', import.meta.url)` works the same from the sources and from
// dist/. Does nothing when dist/ is up to date.

import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const PRODUCT = ['idl', 'core', 'client', 'chassis-sdk', 'faceplates', 'services'];
const DEV = ['test/fixtures', 'test/kit', 'scripts', 'bench'];
const builds = [
  { config: 'tsconfig.build.json', folders: PRODUCT, copied: ['idl', 'core', 'client', 'faceplates', 'services'] },
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
  // A file that changed while tsc ran is built next time.
  utimesSync(stamp, startedAt, startedAt);
}

/** Copies what tsc leaves behind; chassis kits in other languages are used from their sources. */
function copyBeside(folder) {
  cpSync(path.join(root, folder), path.join(root, 'dist', folder), {
    recursive: true,
    filter: (from) =>
      statSync(from).isDirectory() ? path.basename(from) !== 'node_modules' : !/\.(ts|py|rb|cc|md)$/.test(from),
  });
}

/** Time of the newest change below a folder, folders included: a deleted file counts too. */
function newest(folder) {
  const times = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.name !== 'node_modules')
    .map((entry) => {
      const at = path.join(folder, entry.name);
      return entry.isDirectory() ? newest(at) : statSync(at).mtimeMs;
    });
  return Math.max(statSync(folder).mtimeMs, ...times);
}

/** Time of the last change of a file in the root. */
function changed(file) {
  return statSync(path.join(root, file)).mtimeMs;
}

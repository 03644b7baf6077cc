// Builds the C++ kit as a user does: installs it with CMake, and programs that use it find it with find_package.
// Cached in node_modules/.cache under a hash of all inputs, so only the first run after a change compiles (20 s of
// one CPU).

import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { CONTENT_CONFORMANCE } from './content-exam.ts';
import { REPOSITORY } from './repository.ts';
import { toolPath } from './tools.ts';

export const CPP_TOUR: string = path.join(REPOSITORY, 'chassis-sdk', 'cpp', 'examples', 'tour');
export const CONFORMANCE: string = path.join(REPOSITORY, 'idl', 'conformance.thrift');
/** Timeout for hooks that build: a busy machine takes a few minutes. */
export const CPP_BUILD_MS = 400_000;

export interface CppPrograms {
  readonly tour: string;
  readonly conformance: string;
  readonly contentConformance: string;
}

export async function cppPrograms(): Promise<CppPrograms> {
  const kit = path.join(REPOSITORY, 'chassis-sdk', 'cpp');
  const fixtures = path.join(REPOSITORY, 'test', 'fixtures', 'chassis', 'cpp');
  const hash = createHash('sha256');
  for (const file of [...filesBelow(kit), ...filesBelow(fixtures), CONFORMANCE, CONTENT_CONFORMANCE]) {
    if (!file.endsWith('.md')) hash.update(file.slice(REPOSITORY.length)).update(readFileSync(file));
  }
  const cache = path.join(REPOSITORY, 'node_modules', '.cache', 'katamari-cpp');
  const folder = path.join(cache, hash.digest('hex').slice(0, 16));
  const programs = {
    tour: path.join(folder, 'tour'),
    conformance: path.join(folder, 'conformance'),
    contentConformance: path.join(folder, 'content_conformance'),
  };
  if (existsSync(folder)) return programs;
  mkdirSync(cache, { recursive: true });
  const unfinished = mkdtempSync(path.join(cache, 'unfinished-'));
  try {
    const [built, installed, using, done] = ['kit', 'installed', 'using', 'done'].map((name) =>
      path.join(unfinished, name),
    ) as [string, string, string, string];
    // Unoptimized and with combined sources, which takes about a third of the time.
    const quickly = ['-DCMAKE_CXX_FLAGS=-O0', '-DCMAKE_UNITY_BUILD=ON'];
    await cmake('-S', kit, '-B', built, ...quickly, `-DCMAKE_INSTALL_PREFIX=${installed}`);
    await cmake('--build', built, '--target', 'install');
    await cmake(
      '-S',
      fixtures,
      '-B',
      using,
      ...quickly,
      `-DCMAKE_PREFIX_PATH=${installed}`,
      `-DREPOSITORY=${REPOSITORY}`,
    );
    await cmake('--build', using);
    mkdirSync(done);
    copyFileSync(path.join(using, 'tour', 'tour'), path.join(done, 'tour'));
    for (const name of ['conformance', 'content_conformance'])
      copyFileSync(path.join(using, name), path.join(done, name));
    renameSync(done, folder);
  } catch (error) {
    // A concurrent run was faster.
    if (!existsSync(folder)) throw error;
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
  return programs;
}

async function cmake(...args: readonly string[]): Promise<void> {
  try {
    await promisify(execFile)(toolPath('cmake'), args, { timeout: CPP_BUILD_MS, maxBuffer: 2 ** 26 });
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string };
    throw new Error(`cmake ${args.join(' ')} failed:\n${stdout ?? ''}${stderr ?? ''}`, { cause: error });
  }
}

/** Skips build folders that somebody made there by hand. */
function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter(({ name }) => name !== 'build')
    .flatMap((entry) => {
      const at = path.join(folder, entry.name);
      return entry.isDirectory() ? filesBelow(at) : [at];
    })
    .sort();
}

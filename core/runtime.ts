// Which JavaScript runtime this is, and how to start a script on the same one. The only file that knows the names Bun
// and Deno; everything else speaks `node:` modules, which all three have.

import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';

export type RuntimeName = 'node' | 'bun' | 'deno';

export function runtimeName(): RuntimeName {
  // Both also fill process.versions.node, so they are asked for first.
  if (process.versions['bun'] !== undefined) return 'bun';
  if (process.versions['deno'] !== undefined) return 'deno';
  return 'node';
}

/** For example `20.20.2`: the runtime's own version, without its name. */
export function runtimeVersion(): string {
  return process.versions[runtimeName()] ?? '';
}

/**
 * Whether the server of `node:http` reads a socket that its listener for connections is given, with what was put back
 * by `unshift`. The others' `node:http` is a server of their own under the same names, and reads its sockets itself.
 */
export function httpTakesSockets(): boolean {
  return runtimeName() === 'node';
}

/**
 * Has V8 look for garbage in the old memory of this process in small steps between other work, not with threads
 * beside it. What passes through a mesh is gone at once and what stays is little, but long messages set such a search
 * off every few calls, and its threads take more time than the work itself from the processors that chassis need.
 * Does nothing where the engine is another one.
 */
export function markMemoryInSteps(): void {
  setFlagsFromString('--no-concurrent-marking');
}

/**
 * The command line that runs a script on this same runtime; arguments of the script are appended by the caller. Node
 * without type stripping cannot run `.ts`: there the built `.js` beside the file, or in the package's `dist/`, is
 * meant.
 * @throws Error when there is no built file to run.
 */
export function scriptCommand(file: string | URL): string[] {
  const script = runnable(file);
  return runtimeName() === 'deno' ? [process.execPath, 'run', '-A', script] : [process.execPath, script];
}

/** The same script for a thread of this process. @throws Error when there is no built file to run */
export function threadScript(file: string | URL): URL {
  return pathToFileURL(runnable(file));
}

function runnable(file: string | URL): string {
  const script = path.resolve(typeof file === 'string' && !file.startsWith('file:') ? file : fileURLToPath(file));
  return runtimeName() !== 'node' || nodeCanRun(script) ? script : builtFrom(script);
}

function nodeCanRun(script: string): boolean {
  if (!/\.[cm]?ts$/.test(script)) return true;
  // In dist/ only the built file is there, also for a Node that could run the source.
  if (!existsSync(script)) return false;
  // Absent before Node 22.10; false when the running one has stripping switched off.
  const { typescript } = process.features as { readonly typescript?: string | false };
  // Node never strips types inside node_modules, so an installed package runs its built files.
  return typeof typescript === 'string' && !script.includes(`${path.sep}node_modules${path.sep}`);
}

function builtFrom(script: string): string {
  const beside = script.replace(/ts$/, 'js');
  if (existsSync(beside)) return beside;
  for (let folder = path.dirname(script); folder !== path.dirname(folder); folder = path.dirname(folder)) {
    if (!existsSync(path.join(folder, 'package.json'))) continue;
    const built = path.join(folder, 'dist', path.relative(folder, beside));
    if (existsSync(built)) return built;
  }
  throw new Error(
    `Cannot run ${script} on Node ${process.versions.node}: it needs the built ${path.basename(beside)}, run "npm run build" first`,
  );
}

// Detects the JavaScript runtime (Node, Bun or Deno) and builds command lines that start a script on the same runtime.
// No other file distinguishes runtimes; all code uses `node:` modules, which all three provide.

import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';

export type RuntimeName = 'node' | 'bun' | 'deno';

/** Returns the runtime of this process. */
export function runtimeName(): RuntimeName {
  // Bun and Deno also set process.versions.node, so they are tested first.
  if (process.versions['bun'] !== undefined) return 'bun';
  if (process.versions['deno'] !== undefined) return 'deno';
  return 'node';
}

/** Returns the version of the runtime without its name, for example `20.20.2`. */
export function runtimeVersion(): string {
  return process.versions[runtimeName()] ?? '';
}

/**
 * Whether a `node:http` server accepts a socket through its `connection` event and reads the bytes that were put back
 * with `unshift`. Bun and Deno implement `node:http` on their own servers, which read only sockets that they
 * accepted.
 */
export function httpTakesSockets(): boolean {
  return runtimeName() === 'node';
}

/**
 * Whether a connection stays open for replies when its client has closed its writing side. Deno does not report a
 * client that then closes altogether, so there each of them counts as one that has left.
 */
export function keepsHalfOpen(): boolean {
  return runtimeName() !== 'deno';
}

/** Whether a TLS server of `node:https` tells which certificate a client showed. Bun keeps it to itself. */
export function httpReadsClientCertificates(): boolean {
  return runtimeName() !== 'bun';
}

/** Whether `fs.copyFile` shares the blocks of a file or fails when told to. Deno ignores the mode and copies. */
export function canCloneFiles(): boolean {
  return runtimeName() !== 'deno';
}

/** Whether `fs.write` to a pipe that is not read blocks the event loop. On Deno it does; others use a thread for it. */
export function pipeWritesBlock(): boolean {
  return runtimeName() === 'deno';
}

/**
 * Switches V8 from concurrent to incremental marking: the garbage collector marks the old generation in small steps
 * on the main thread instead of on background threads. Little data of a mesh process survives a call, but long
 * messages start a marking cycle every few calls. The marking threads then take more CPU time than the calls
 * themselves, on the cores that the chassis need. Has no effect on other engines.
 */
export function markMemoryInSteps(): void {
  setFlagsFromString('--no-concurrent-marking');
}

/**
 * Returns the command line that runs a script on the runtime of this process. The caller appends the script's
 * arguments. Node without type stripping cannot run `.ts`; there the command names the built `.js` next to the file or
 * in the package's `dist/`.
 * @throws Error when there is no built file to run.
 */
export function scriptCommand(file: string | URL): string[] {
  const script = runnable(file);
  return runtimeName() === 'deno' ? [process.execPath, 'run', '-A', script] : [process.execPath, script];
}

/** Returns the URL of a script for a worker thread. @throws Error when there is no built file to run */
export function threadScript(file: string | URL): URL {
  return pathToFileURL(runnable(file));
}

function runnable(file: string | URL): string {
  const script = path.resolve(typeof file === 'string' && !file.startsWith('file:') ? file : fileURLToPath(file));
  return runtimeName() !== 'node' || nodeCanRun(script) ? script : builtFrom(script);
}

function nodeCanRun(script: string): boolean {
  if (!/\.[cm]?ts$/.test(script)) return true;
  // In dist/ there are only built files, so a `.ts` file does not exist there.
  if (!existsSync(script)) return false;
  // Undefined before Node 22.10; false when type stripping is disabled.
  const { typescript } = process.features as { readonly typescript?: string | false };
  // Node does not strip types inside node_modules, so an installed package runs its built files.
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

// Loads and starts a faceplate that the user added, with a timeout for each step. The module checks its own options.
// Errors that it throws while the mesh runs or shuts down are reported and affect nothing else. Every error of a start
// names the place in the configuration.

import { createRequire } from 'node:module';
import { existsSync } from 'node:fs';
import os from 'node:os';
import { sleep, threadScript } from '../../core/mod.ts';
import type { Faceplate, FaceplateContext, FaceplateModule } from '../../faceplates/kit/mod.ts';
import { ExitError, EXIT, describeValue, type AddedFaceplate } from '../config/mod.ts';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
/** What the mesh gives to a faceplate beside its entry in the configuration. */
export type GivenToFaceplate = Pick<FaceplateContext, 'mesh' | 'book' | 'limits' | 'host'>;

/** @param tell receives later errors, one line each @throws ExitError when it does not start to listen */
export async function startAddedFaceplate(
  entry: AddedFaceplate,
  given: GivenToFaceplate,
  tell: (line: string) => void,
): Promise<Faceplate> {
  const module = await loadModule(entry);
  const options = checkOptions(entry, module.options);
  const started = Promise.resolve().then(() => module.start({ ...given, name: entry.name, port: entry.port, options }));
  let front: unknown;
  try {
    front = await within(START_MS, 'start() has not settled', started);
  } catch (error) {
    // Close it if it starts to listen after the timeout.
    started.then((late) => (isFaceplate(late) ? late.close() : undefined)).catch(() => undefined);
    throw refusalOf(entry, error);
  }
  if (isFaceplate(front)) return new GuardedFaceplate(entry.name, front, () => given.mesh.timeoutMs(), tell);
  throw new ExitError(
    EXIT.failed,
    `${entry.where(['module'])}: start() of ${entry.module} returned ${describeValue(front)}, expected an object with address (text with the port) and the functions connections, drain and close`,
  );
}

async function loadModule(entry: AddedFaceplate): Promise<FaceplateModule> {
  const place = entry.where(['module']);
  const file = fileOf(entry, place);
  let loaded: { readonly default?: unknown };
  try {
    loaded = (await within(START_MS, 'loading it has not ended', import(file.href))) as typeof loaded;
  } catch (error) {
    throw new ExitError(
      EXIT.badConfiguration,
      `${place}: ${entry.module} cannot be loaded: ${messageOf(error)}`,
      error,
    );
  }
  const found = loaded.default as Partial<FaceplateModule> | null | undefined;
  if (typeof found === 'object' && found !== null && typeof found.start === 'function') return found as FaceplateModule;
  const what = found === undefined ? 'no default export' : `a default export that has no function start`;
  throw new ExitError(
    EXIT.badConfiguration,
    `${place}: ${entry.module} has ${what}, expected export default { start(context) { ... } }; docs/faceplates.md shows one`,
  );
}

function fileOf({ module, directory }: AddedFaceplate, place: string): URL {
  if (!/^(\.{1,2}\/|\/|~\/)/.test(module)) return packageOf(module, directory, place);
  const file = path.resolve(directory, module.replace(/^~(?=\/)/, os.homedir()));
  try {
    const runnable = threadScript(file);
    if (existsSync(runnable)) return runnable;
  } catch (error) {
    if (!existsSync(file)) throw noFile(place, file);
    throw new ExitError(
      EXIT.badConfiguration,
      `${place}: ${module} is TypeScript, which Node ${process.versions.node} does not run here, and there is no built .js of it; compile it, write it in JavaScript, or use Node 22.18 or later`,
      error,
    );
  }
  throw noFile(place, file);
}

function noFile(place: string, file: string): ExitError {
  return new ExitError(
    EXIT.badConfiguration,
    `${place}: there is no file ${file}; name it relative to the configuration`,
  );
}

function packageOf(name: string, directory: string, place: string): URL {
  try {
    return pathToFileURL(createRequire(path.join(directory, 'katamari.yaml')).resolve(name));
  } catch (error) {
    const hint = existsSync(path.join(directory, name))
      ? `write "./${name}" for the file`
      : `npm install it there, or write "./..." for a file`;
    throw new ExitError(
      EXIT.badConfiguration,
      `${place}: no package ${name} can be found from ${directory}; ${hint}`,
      error,
    );
  }
}

function checkOptions(entry: AddedFaceplate, check: FaceplateModule['options']): unknown {
  const { options, where, module } = entry;
  if (check === undefined) {
    const [first] = Object.keys(options);
    if (first === undefined) return options;
    throw new ExitError(EXIT.badConfiguration, `${where(['options', first])}: unknown key, ${module} takes no options`);
  }
  if (typeof check === 'function') {
    try {
      return check(options);
    } catch (error) {
      throw new ExitError(EXIT.badConfiguration, `${where(['options'])}: ${messageOf(error)}`, error);
    }
  }
  const checked = check.safeParse(options);
  if (checked.success) return checked.data;
  const lines = checked.error.issues.map(({ path: steps, message }) => `${where(['options', ...steps])}: ${message}`);
  throw new ExitError(EXIT.badConfiguration, lines.join('\n'));
}

/** Describes why it does not listen. A taken port reads as for the built-in faceplates. */
function refusalOf(entry: AddedFaceplate, error: unknown): ExitError {
  const { code, port = entry.port } = (error ?? {}) as { readonly code?: unknown; readonly port?: number };
  if (code === 'EADDRINUSE') {
    return new ExitError(
      EXIT.failed,
      `${entry.where(['port'])}: port ${port} is taken; \`katamari doctor\` tells who holds it. Choose another there, 0 for any.`,
      error,
    );
  }
  return new ExitError(
    EXIT.failed,
    `${entry.where([])}: faceplate ${entry.name} (${entry.module}) did not start: ${messageOf(error)}`,
    error,
  );
}

/** @throws the rejection of `work`, or an Error if it has not settled within `limitMs` */
async function within<T>(limitMs: number, what: string, work: Promise<T>): Promise<T> {
  const settled = new AbortController();
  const tooLate = sleep(limitMs, settled.signal).then(() => Promise.reject(new Error(`${what} within ${limitMs} ms`)));
  try {
    return await Promise.race([work, tooLate]);
  } finally {
    settled.abort();
  }
}

function isFaceplate(value: unknown): value is Faceplate {
  if (typeof value !== 'object' || value === null) return false;
  const { address, connections, drain, close } = value as Readonly<Record<keyof Faceplate, unknown>>;
  return (
    typeof address === 'string' &&
    /:\d+\D*$/.test(address) &&
    [connections, drain, close].every((one) => typeof one === 'function')
  );
}

/** Contains the errors of an added faceplate. A shutdown waits for it only for a limited time. */
class GuardedFaceplate implements Faceplate {
  readonly address: string;
  readonly #name: string;
  readonly #front: Faceplate;
  readonly #timeoutMs: () => number;
  readonly #tell: (line: string) => void;

  constructor(name: string, front: Faceplate, timeoutMs: () => number, tell: (line: string) => void) {
    this.address = front.address;
    this.#name = name;
    this.#front = front;
    this.#timeoutMs = timeoutMs;
    this.#tell = tell;
  }

  connections(): number {
    try {
      const count = this.#front.connections();
      return Number.isInteger(count) && count >= 0 ? count : 0;
    } catch {
      return 0;
    }
  }

  /** Waits until the deadline of the latest call, plus CLOSE_MS. */
  async drain(): Promise<void> {
    await this.#end('drain', () => this.#front.drain(), this.#timeoutMs() + CLOSE_MS);
    await this.close();
  }

  async close(): Promise<void> {
    await this.#end('close', () => this.#front.close(), CLOSE_MS);
  }

  async #end(what: string, how: () => Promise<void>, limitMs: number): Promise<void> {
    try {
      await within(limitMs, 'it is left behind, for it has not settled', Promise.resolve().then(how));
    } catch (error) {
      this.#tell(`${what}() of faceplate ${this.#name} failed: ${messageOf(error)}`);
    }
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Timeout for loading a module, and again for its start. */
const START_MS = 10_000;
const CLOSE_MS = 2_000;

// Loads and starts a faceplate that the user added, with a timeout for each step. The module checks its own options.
// Every error during the start names the location in the configuration. Later errors of the module are reported and
// affect nothing else.

import { createRequire } from 'node:module';
import { existsSync } from 'node:fs';
import os from 'node:os';
import { sleep, threadScript } from '../../core/mod.ts';
import type { Faceplate, FaceplateContext, FaceplateModule } from '../../faceplates/kit/mod.ts';
import { ExitError, EXIT, describeValue, type AddedFaceplate } from '../config/mod.ts';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

/** The part of a faceplate's context that comes from the mesh and not from its entry in the configuration. */
export type SharedContext = Pick<
  FaceplateContext,
  'mesh' | 'callStats' | 'limits' | 'ledger' | 'host' | 'access' | 'identify'
>;

/** @param report called with each later error, as one line @throws ExitError when the faceplate does not start */
export async function startAddedFaceplate(
  entry: AddedFaceplate,
  shared: SharedContext,
  report: (line: string) => void,
): Promise<Faceplate> {
  const module = await loadModule(entry);
  const options = checkOptions(entry, module.options);
  const started = Promise.resolve().then(() =>
    module.start({ ...shared, name: entry.name, port: entry.port, options }),
  );
  let faceplate: unknown;
  try {
    faceplate = await within(START_MS, 'start() did not settle', started);
  } catch (error) {
    // Close it if it starts to listen after the timeout.
    started.then((late) => (isFaceplate(late) ? late.close() : undefined)).catch(() => undefined);
    throw refusalOf(entry, error);
  }
  if (isFaceplate(faceplate)) return new GuardedFaceplate(entry.name, faceplate, () => shared.mesh.timeoutMs(), report);
  throw new ExitError(
    EXIT.failed,
    `${entry.where(['module'])}: start() of ${entry.module} returned ${describeValue(faceplate)}, expected an object with address (text with the port) and the functions connections, drain and close`,
  );
}

async function loadModule(entry: AddedFaceplate): Promise<FaceplateModule> {
  const place = entry.where(['module']);
  const file = fileOf(entry, place);
  let loaded: { readonly default?: unknown };
  try {
    loaded = (await within(START_MS, 'it did not load', import(file.href))) as typeof loaded;
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
    `${place}: there is no file ${file}; paths are relative to the configuration file`,
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

/** Describes why the faceplate does not listen. */
function refusalOf(entry: AddedFaceplate, error: unknown): ExitError {
  const { code, port = entry.port } = (error ?? {}) as { readonly code?: unknown; readonly port?: number };
  if (code === 'EADDRINUSE') {
    return new ExitError(
      EXIT.failed,
      `${entry.where(['port'])}: port ${port} is in use; \`katamari doctor\` shows which process has it. Set another port, or 0 for any free one.`,
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

/** Catches the errors of an added faceplate, and limits the time that a shutdown waits for it. */
class GuardedFaceplate implements Faceplate {
  readonly address: string;
  readonly #name: string;
  readonly #faceplate: Faceplate;
  readonly #timeoutMs: () => number;
  readonly #report: (line: string) => void;

  constructor(name: string, faceplate: Faceplate, timeoutMs: () => number, report: (line: string) => void) {
    this.address = faceplate.address;
    this.#name = name;
    this.#faceplate = faceplate;
    this.#timeoutMs = timeoutMs;
    this.#report = report;
  }

  connections(): number {
    try {
      const count = this.#faceplate.connections();
      return Number.isInteger(count) && count >= 0 ? count : 0;
    } catch {
      return 0;
    }
  }

  /** Waits until the deadline of the latest call, plus CLOSE_MS. */
  async drain(): Promise<void> {
    await this.#end('drain', () => this.#faceplate.drain(), this.#timeoutMs() + CLOSE_MS);
    await this.close();
  }

  async close(): Promise<void> {
    await this.#end('close', () => this.#faceplate.close(), CLOSE_MS);
  }

  async #end(what: string, how: () => Promise<void>, limitMs: number): Promise<void> {
    try {
      await within(limitMs, 'abandoned, because it did not settle', Promise.resolve().then(how));
    } catch (error) {
      this.#report(`${what}() of faceplate ${this.#name} failed: ${messageOf(error)}`);
    }
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Timeout for loading a module, and again for its start. */
const START_MS = 10_000;
const CLOSE_MS = 2_000;

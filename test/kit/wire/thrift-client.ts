// Real Thrift clients for tests: generated code for the `thrift` package and for Debian's Python library.

import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { REPOSITORY } from '../tools/repository.ts';
import { toolPath } from '../tools/tools.ts';

export interface Generated {
  /** Folder of the generated code; `gen-py` is for PYTHONPATH. */
  readonly directory: string;
  /** A module of the generated JavaScript, for example `Exchange` or `exchange_types`. */
  load(module: string): unknown;
  remove(): void;
}

/** Compiles an IDL file for Node and Python. @param includes folders with included files */
export async function generate(idl: string, includes: readonly string[] = []): Promise<Generated> {
  const directory = mkdtempSync(path.join(tmpdir(), 'katamari-idl-'));
  // The generated code requires `thrift`.
  symlinkSync(path.join(REPOSITORY, 'node_modules'), path.join(directory, 'node_modules'));
  writeFileSync(path.join(directory, 'package.json'), '{"type":"commonjs"}');
  mkdirSync(path.join(directory, 'js'));
  const thrift = toolPath('thrift');
  // With `es6`, the code uses native promises. Without it, it needs a library that the package no longer brings.
  const folders = includes.flatMap((one) => ['-I', one]);
  await run(thrift, [...folders, '-r', '-out', path.join(directory, 'js'), '--gen', 'js:node,es6', idl]);
  await run(thrift, [...folders, '-r', '-o', directory, '--gen', 'py', idl]);
  const load = createRequire(path.join(directory, 'js', 'index.js'));
  return {
    directory,
    load: (module) => load(`./${module}.js`) as unknown,
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}

/** Runs a Python program with the stock Thrift library and the generated code. Returns its standard output. */
export async function python(generated: Generated, program: string, ...args: readonly string[]): Promise<string> {
  const env = { ...process.env, PYTHONPATH: path.join(generated.directory, 'gen-py') };
  const { stdout } = await run('/usr/bin/python3', ['-c', program, ...args], { env, timeout: 15_000 });
  return stdout;
}

/** The part of the `thrift` package that is used here. */
export interface ThriftPackage {
  readonly TFramedTransport: unknown;
  readonly TBufferedTransport: unknown;
  readonly TBinaryProtocol: unknown;
  readonly Thrift: { readonly TApplicationException: new (...args: never[]) => Error & { readonly type: number } };
  readonly Multiplexer: new () => { createClient(service: string, client: unknown, connection: Connection): unknown };
  readonly createConnection: (host: string, port: number, options: Readonly<Record<string, unknown>>) => Connection;
  readonly createClient: (client: unknown, connection: Connection) => unknown;
}

export interface Connection {
  on(event: 'connect' | 'close', listener: () => void): void;
  on(event: 'error', listener: (error: Error) => void): void;
  end(): void;
}

export const thriftPackage: ThriftPackage = createRequire(import.meta.url)('thrift') as ThriftPackage;

const run = promisify(execFile);

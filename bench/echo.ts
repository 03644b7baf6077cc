// Encodes the call that every contender answers, the echo of a text, in each protocol.

import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseIdl, encodeStruct, readIdlFile } from '../core/idl/mod.ts';
import type { Method } from '../core/thrift/mod.ts';
import { REPOSITORY } from '../test/kit/tools/repository.ts';

export const ECHO_IDL: string = path.join(REPOSITORY, 'bench', 'echo.thrift');
export const BENCH_FILES: string = path.join(REPOSITORY, '.tools', 'bench');

export interface Prepared {
  /** Files for the load generator. */
  readonly request: string;
  readonly reply: string;
}

/** Writes files with a call and its reply, in framed strict binary. */
export function framedEcho(bytes: number): Prepared {
  const method = parseIdl(readIdlFile(ECHO_IDL)).services.get('Echo')?.methods.get('echo') as Method;
  const value = textOf(bytes);
  return {
    request: writeBenchFile(`request-${bytes}`, message(1, encodeStruct(method.args, { value }))),
    reply: writeBenchFile(`reply-${bytes}`, message(2, encodeStruct(method.result, { success: value }))),
  };
}

/** Writes a file with the plain text, for NATS. */
export function plainEcho(bytes: number): Prepared {
  const file = writeBenchFile(`text-${bytes}`, Buffer.from(textOf(bytes)));
  return { request: file, reply: file };
}

/** Writes a script for wrk that posts a JSON body. Returns its path. */
export function httpEcho(kind: 'json-rpc' | 'plain', method: string, bytes: number): string {
  const params = { value: textOf(bytes) };
  const body = JSON.stringify(kind === 'plain' ? params : { jsonrpc: '2.0', id: 1, method, params });
  const script = `wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = '${body}'
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('RESULT {"requests":%d,"us":%d,"errors":%d,"p50Us":%g,"p99Us":%g,"p999Us":%g}\\n', summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
`;
  return writeBenchFile(`post-${kind}-${method}-${bytes}.lua`, Buffer.from(script));
}

/** Returns a text without repeated neighboring letters, so that it compresses no better than real text. */
export function textOf(bytes: number): string {
  return Array.from({ length: bytes }, (_, i) => ALPHABET[(i * 7 + (i >> 5)) % ALPHABET.length]).join('');
}

function message(type: 1 | 2, body: Uint8Array): Buffer {
  const name = Buffer.from('echo');
  const head = Buffer.alloc(12 + name.length + 4);
  head.writeInt32BE(head.length - 4 + body.length, 0);
  head.writeUInt32BE(0x80010000 + type, 4);
  head.writeInt32BE(name.length, 8);
  name.copy(head, 12);
  return Buffer.concat([head, body]);
}

function writeBenchFile(name: string, content: Uint8Array): string {
  mkdirSync(BENCH_FILES, { recursive: true });
  const file = path.join(BENCH_FILES, name);
  writeFileSync(file, content);
  return file;
}

const ALPHABET = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789';

// Sends random inputs to a target's ports over many concurrent connections, with one lane for each port. Input number
// i depends only on the seed and i, so a harmful one can be repeated alone. The fuzzer does not judge replies; the
// target's own check does so afterwards.

import { connect, type Socket } from 'node:net';
import { Random } from '../kit/tools/random.ts';
import { jsonInput } from './json-inputs.ts';
import type { FuzzTarget, Memory } from './target.ts';
import { encodingInput } from './encoding-inputs.ts';
import { thriftInput, type Input } from './thrift-inputs.ts';

export interface FuzzOptions {
  readonly seed: number;
  /** In all lanes together. */
  readonly inputs: number;
  readonly onProgress?: (done: number) => void;
}

export interface FuzzReport {
  readonly inputs: number;
  readonly connections: number;
  /** Number of received bytes. A target that answers nothing was not fuzzed. */
  readonly answeredBytes: number;
  readonly byLane: Readonly<Record<string, number>>;
  /** After a third of the inputs, and at the end. */
  readonly memory: { readonly first: Memory | undefined; readonly last: Memory | undefined };
}

/** Concurrent connections in each lane. */
const WIDTH = 24;
/** Timeout for a reply that may never come, in ms. */
const PATIENCE_MS = 25;
/** Inputs on one connection while it stays open. */
const REUSE_MAX = 40;

interface Lane {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  make(random: Random): Input & { readonly isWholeRequest?: boolean };
}

/** Sends all inputs and asks the target for its memory twice. The caller then calls `target.check()`. */
export async function fuzz(target: FuzzTarget, options: FuzzOptions): Promise<FuzzReport> {
  const lanes = lanesOf(target);
  const counts = {
    inputs: 0,
    connections: 0,
    answeredBytes: 0,
    byLane: Object.fromEntries(lanes.map(({ name }) => [name, 0])) as Record<string, number>,
  };
  const run = async (from: number, to: number): Promise<void> => {
    let next = from;
    const worker = async (lane: Lane): Promise<void> => {
      while (next < to) {
        counts.connections++;
        const socket = await open(lane, (bytes) => {
          counts.answeredBytes += bytes;
        });
        try {
          for (let reused = 0; reused < REUSE_MAX && next < to; reused++) {
            const number = next++;
            counts.inputs++;
            counts.byLane[lane.name] = (counts.byLane[lane.name] as number) + 1;
            if (number % 5_000 === 0) options.onProgress?.(number);
            const input = lane.make(new Random(options.seed + Math.imul(number, 0x9e3779b1)));
            if (!(await fire(socket, input))) break;
          }
        } finally {
          // A reset leaves no port in TIME_WAIT. On Node 20, however, a reset of a socket that has sent its end leaks
          // the handle.
          if (socket.writableEnded) socket.destroy();
          else socket.resetAndDestroy();
        }
      }
    };
    await Promise.all(lanes.flatMap((lane) => Array.from({ length: WIDTH }, () => worker(lane))));
  };
  const third = Math.ceil(options.inputs / 3);
  await run(0, third);
  const first = await target.memory();
  await run(third, options.inputs);
  return { ...counts, memory: { first, last: await target.memory() } };
}

function lanesOf({ thriftPort, jsonRpcPort, linkAddress, goodCalls }: FuzzTarget): Lane[] {
  const lanes: Lane[] = [];
  if (thriftPort > 0) {
    const thrift = { host: '127.0.0.1', port: thriftPort };
    lanes.push({ ...thrift, name: 'thrift', make: (random) => thriftInput(random, goodCalls, false) });
    lanes.push({ ...thrift, name: 'encodings', make: (random) => encodingInput(random, goodCalls) });
  }
  if (jsonRpcPort > 0)
    lanes.push({
      name: 'json-rpc',
      host: '127.0.0.1',
      port: jsonRpcPort,
      make: (random) => jsonInput(random, goodCalls),
    });
  const [, host, port] = /^tcp:(.+):(\d+)$/.exec(linkAddress) ?? [];
  if (host !== undefined)
    lanes.push({ name: 'link', host, port: Number(port), make: (random) => thriftInput(random, goodCalls, true) });
  return lanes;
}

/** Sends one input. @returns whether the connection can be used again */
async function fire(socket: Socket, input: Input & { readonly isWholeRequest?: boolean }): Promise<boolean> {
  const { bytes, pieceBytes, ending } = input;
  for (let at = 0; at < bytes.length && !socket.destroyed;) {
    const end = pieceBytes === 0 ? bytes.length : Math.min(bytes.length, at + pieceBytes);
    socket.write(bytes.subarray(at, end));
    at = end;
    // One turn of the event loop per piece.
    if (at < bytes.length) await new Promise((resolve) => setImmediate(resolve));
  }
  if (socket.destroyed) return false;
  if (ending === 'break off') {
    await new Promise((resolve) => setImmediate(resolve));
    return false;
  }
  if (ending === 'wait for an answer') {
    await event(socket, ['data', 'end', 'close'], PATIENCE_MS);
    return !socket.destroyed && !socket.readableEnded;
  }
  socket.end();
  await event(socket, ['end', 'close'], 1_000);
  return false;
}

/** Resolves at the first of the events or after some time. */
function event(socket: Socket, names: readonly string[], withinMs: number): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      for (const name of names) socket.off(name, done);
      resolve();
    };
    const timer = setTimeout(done, withinMs);
    for (const name of names) socket.on(name, done);
  });
}

async function open(lane: Lane, onBytes: (bytes: number) => void): Promise<Socket> {
  for (let tries = 1; ; tries++) {
    const socket = connect({ host: lane.host, port: lane.port });
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => onBytes(chunk.length));
    const failed = await new Promise<Error | undefined>((resolve) => {
      socket.once('connect', () => resolve(undefined));
      socket.once('error', resolve);
    });
    socket.on('error', () => {});
    if (failed === undefined) return socket;
    // The target is gone, or this side is briefly out of ports.
    if (tries === 20) throw new Error(`Cannot connect to ${lane.name} at ${lane.host}:${lane.port}: ${failed.message}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

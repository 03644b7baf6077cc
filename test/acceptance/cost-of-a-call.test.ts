// What a call costs the mesh in things that can be counted and are the same on every machine: promises, timers,
// writes, memory asked for, and what is said to Consul while nothing happens. The mesh runs in this process, its
// chassis in others; the client here is one socket and makes nothing of its own.

import { createHook } from 'node:async_hooks';
import { connect, Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { encodeStruct, parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import { type Interface, type Method, frameMessage, NOTHING } from '../../core/thrift/mod.ts';
import { fixture, startTestMesh, type TestMesh } from '../kit/mesh/mesh.ts';
import { until } from '../kit/tools/wait.ts';

const IDL = fileURLToPath(new URL('../../idl/conformance.thrift', import.meta.url));
const { args, result } = (parseIdl(readIdlFile(IDL)).services.get('Conformance') as Interface).methods.get(
  'echoText',
) as Method;

let mesh: TestMesh;
let socket: Socket;
/** To the JSON-RPC port. */
let http: Socket;
beforeAll(async () => {
  const deployment = { service: 'Conformance', version: '1.0.0', command: fixture('conformance.ts'), count: 2 };
  mesh = await startTestMesh([deployment]);
  await until('the chassis', () => mesh.pool('Conformance@1.0.0').alive === 2);
  socket = connect(Number(mesh.mesh.addresses.thrift.split(':').at(-1)), '127.0.0.1');
  await new Promise((resolve) => socket.once('connect', resolve));
  await calls(500, 8, 'warm');
  http = connect(Number(mesh.mesh.addresses.jsonRpc.split(':').at(-1)), '127.0.0.1');
  await new Promise((resolve) => http.once('connect', resolve));
  await posts(500, 1);
}, 60_000);
afterAll(async () => {
  socket?.destroy();
  http?.destroy();
  await mesh?.end();
});

/** Makes so many calls, so many at a time, and sees that all answers came. */
async function calls(count: number, atOnce: number, text: string): Promise<void> {
  const call = frameMessage(1, 'echoText', 1, NOTHING, encodeStruct(args, { value: text }));
  const answer = frameMessage(2, 'echoText', 1, NOTHING, encodeStruct(result, { success: text }));
  const batch = Buffer.concat(Array.from({ length: atOnce }, () => call));
  let left = count / atOnce;
  let came = 0;
  let isRight = true;
  await new Promise<void>((resolve) => {
    const onData = (chunk: Buffer): void => {
      for (let at = 0; at < chunk.length;) {
        const from = (came + at) % answer.length;
        const bytes = Math.min(answer.length - from, chunk.length - at);
        isRight &&= chunk.compare(answer, from, from + bytes, at, at + bytes) === 0;
        at += bytes;
      }
      came += chunk.length;
      if (came < answer.length * atOnce) return;
      came -= answer.length * atOnce;
      if (--left > 0) {
        socket.write(batch);
        return;
      }
      socket.off('data', onData);
      resolve();
    };
    socket.on('data', onData);
    socket.write(batch);
  });
  expect([isRight, came]).toEqual([true, 0]);
}

/** The same, of a service that nobody has. */
async function refusedCalls(count: number, atOnce: number): Promise<void> {
  const call = frameMessage(1, 'Nobody:echoText', 1, NOTHING, encodeStruct(args, { value: 'x' }));
  const batch = Buffer.concat(Array.from({ length: atOnce }, () => call));
  let came = Buffer.alloc(0);
  let left = count;
  await new Promise<void>((resolve, reject) => {
    const onData = (chunk: Buffer): void => {
      came = Buffer.concat([came, chunk]);
      while (came.length >= 4 && came.length >= 4 + came.readInt32BE(0)) {
        if (came.readInt32BE(4) !== REFUSED) reject(new Error('expected an exception, got another answer'));
        came = came.subarray(4 + came.readInt32BE(0));
        left--;
        if (left > 0 && left % atOnce === 0) socket.write(batch);
      }
      if (left > 0) return;
      socket.off('data', onData);
      resolve();
    };
    socket.on('data', onData);
    socket.write(batch);
  });
}

/** Strict binary, version 1, an exception. */
const REFUSED = 0x80010003 | 0;

/** Calls over JSON-RPC. Heads of answers differ in length from one to the next, so answers are told by their ends. */
async function posts(count: number, atOnce: number): Promise<void> {
  const text = 'x'.repeat(16);
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'Conformance.echoText', params: { value: text } });
  const post = `POST /rpc HTTP/1.1\r\nhost: localhost\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
  const answer = `\r\n\r\n{"jsonrpc":"2.0","id":1,"result":"${text}"}`;
  let left = count / atOnce;
  let came = '';
  await new Promise<void>((resolve) => {
    const onData = (chunk: Buffer): void => {
      came += chunk.toString('latin1');
      if (came.split(answer).length - 1 < atOnce) return;
      expect(came.endsWith(answer)).toBe(true);
      came = '';
      if (--left > 0) {
        http.write(post.repeat(atOnce));
        return;
      }
      http.off('data', onData);
      resolve();
    };
    http.on('data', onData);
    http.write(post.repeat(atOnce));
  });
}

/** What was made meanwhile, by the runtime's names for it, and how often sockets were written to. */
async function made(work: () => Promise<void>): Promise<(kind: string) => number> {
  const counts = new Map<string, number>();
  const hook = createHook({ init: (_id, kind) => counts.set(kind, (counts.get(kind) ?? 0) + 1) });
  const writes = (['_write', '_writev'] as const).map((name) => vi.spyOn(Socket.prototype, name));
  hook.enable();
  try {
    await work();
    counts.set(
      'write',
      writes.reduce((sum, spy) => sum + spy.mock.calls.length, 0),
    );
  } finally {
    hook.disable();
    for (const spy of writes) spy.mockRestore();
  }
  return (kind) => counts.get(kind) ?? 0;
}

describe('A call', () => {
  test('alone makes no promise and no timer, and three writes: the client, to the chassis, the answer', async () => {
    const of = await made(() => calls(4_000, 1, 'x'.repeat(16)));
    // What the mesh does beside makes a few, however many calls there are.
    expect(of('PROMISE')).toBeLessThan(2_000);
    expect(of('Timeout')).toBeLessThan(1_000);
    expect(of('Immediate')).toBeLessThan(4_200);
    expect(of('write')).toBeGreaterThan(11_900);
    expect(of('write')).toBeLessThan(12_400);
  });

  test('among others on its connection shares its writes with them', async () => {
    const of = await made(() => calls(6_400, 32, 'x'.repeat(16)));
    expect(of('PROMISE')).toBeLessThan(2_000);
    // One write each would be 19,200. What the chassis answers comes in pieces of their choosing.
    expect(of('write')).toBeLessThan(6_400);
  });

  test('that is refused at once, among others that are, shares its writes with them', async () => {
    const of = await made(() => refusedCalls(6_400, 32));
    expect(of('PROMISE')).toBeLessThan(2_000);
    // One write each would be 6,400, beside the 200 of the client.
    expect(of('write')).toBeLessThan(1_000);
  });

  test('of a megabyte is kept in memory once on its way in and once on its way out', async () => {
    const text = 'x'.repeat(2 ** 20);
    await calls(4, 1, text);
    const spies = (['allocUnsafe', 'allocUnsafeSlow'] as const).map((name) => vi.spyOn(Buffer, name));
    let bytes = 0;
    try {
      await calls(20, 1, text);
      for (const { mock } of spies) for (const [asked] of mock.calls) bytes += asked;
    } finally {
      for (const spy of spies) spy.mockRestore();
    }
    // What the runtime reads into is not counted; the messages of this test are, once.
    expect(bytes / 2 ** 20 / 20).toBeLessThan(2.6);
  });
});

describe('A JSON-RPC call', () => {
  test('alone makes no promise, no timer and no object of HTTP, and three writes', async () => {
    const of = await made(() => posts(4_000, 1));
    expect(of('PROMISE')).toBeLessThan(2_000);
    expect(of('Timeout')).toBeLessThan(1_000);
    expect(of('HTTPINCOMINGMESSAGE')).toBeLessThan(100);
    expect(of('write')).toBeGreaterThan(11_900);
    expect(of('write')).toBeLessThan(12_400);
  });

  test('among others on its connection shares its writes with them', async () => {
    const of = await made(() => posts(6_400, 32));
    expect(of('PROMISE')).toBeLessThan(2_000);
    expect(of('HTTPINCOMINGMESSAGE')).toBeLessThan(100);
    expect(of('write')).toBeLessThan(6_400);
  });
});

test('Calls leave nothing in old memory, also after all memory was looked through', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const oldBytes = (): number =>
    getHeapSpaceStatistics().find((space) => space.space_name === 'old_space')?.space_used_size ?? 0;
  const traffic = (): Promise<unknown> => Promise.all([calls(32_000, 32, 'x'.repeat(16)), posts(16_000, 16)]);
  // While calls are under way: their tables and lists become old memory.
  const work = traffic();
  await new Promise((resolve) => setTimeout(resolve, 100));
  collect();
  await work;
  const before = oldBytes();
  await traffic();
  // A call with all that belongs to it has some kilobytes. The collector may run meanwhile, and then there is less.
  expect((oldBytes() - before) / 48_000).toBeLessThan(100);
});

test('A mesh at rest asks Consul less than once a second, with its watches, its sessions and its checks', async () => {
  const seconds = 6;
  const of = await made(() => new Promise((resolve) => setTimeout(resolve, seconds * 1_000)));
  // Both ends of a request are in this process, and each makes one.
  expect(of('HTTPINCOMINGMESSAGE') / 2 / seconds).toBeLessThan(1);
});

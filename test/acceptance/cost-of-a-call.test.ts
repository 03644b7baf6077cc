// Costs of a call that can be counted and do not depend on the machine: promises, timers, writes, allocated memory,
// and requests to Consul while idle. The mesh runs in this process, its chassis in others; the client here is one
// socket and allocates nothing itself.

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
/** For the JSON-RPC port. */
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
});
afterAll(async () => {
  socket?.destroy();
  http?.destroy();
  await mesh?.end();
});

/** Makes `count` calls, `atOnce` at a time, and checks that all were answered. */
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

/** The same for an unknown service. */
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

/** Calls over JSON-RPC. Response heads differ in length, so responses are recognized by their end. */
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

/** Objects created meanwhile, by the runtime's names for them, and the number of socket writes. */
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
  test('alone creates no promise and no timer, and makes three writes: the client, to the chassis, the reply', async () => {
    const of = await made(() => calls(4_000, 1, 'x'.repeat(16)));
    // Background work of the mesh creates a few, whatever the number of calls.
    expect(of('PROMISE')).toBeLessThan(2_000);
    expect(of('Timeout')).toBeLessThan(1_000);
    expect(of('Immediate')).toBeLessThan(4_200);
    expect(of('write')).toBeGreaterThan(11_900);
    expect(of('write')).toBeLessThan(12_400);
  });

  test('shares its writes with other calls on its connection', async () => {
    const of = await made(() => calls(6_400, 32, 'x'.repeat(16)));
    expect(of('PROMISE')).toBeLessThan(2_000);
    // One write each would be 19,200. The replies of the chassis arrive in pieces of their choosing.
    expect(of('write')).toBeLessThan(6_400);
  });

  test('that is refused at once shares its writes with other refused calls', async () => {
    const of = await made(() => refusedCalls(6_400, 32));
    expect(of('PROMISE')).toBeLessThan(2_000);
    // One write each would be 6,400, plus the 200 of the client.
    expect(of('write')).toBeLessThan(1_000);
  });

  test('of a megabyte is buffered once on its way in and once on its way out', async () => {
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
    // The runtime's read buffers do not count; the messages of this test do, once.
    expect(bytes / 2 ** 20 / 20).toBeLessThan(2.6);
  });
});

describe('A JSON-RPC call', () => {
  test('alone creates no promise, no timer and no HTTP object, and makes three writes', async () => {
    const of = await made(() => posts(4_000, 1));
    expect(of('PROMISE')).toBeLessThan(2_000);
    expect(of('Timeout')).toBeLessThan(1_000);
    expect(of('HTTPINCOMINGMESSAGE')).toBeLessThan(100);
    expect(of('write')).toBeGreaterThan(11_900);
    expect(of('write')).toBeLessThan(12_400);
  });

  test('shares its writes with other calls on its connection', async () => {
    const of = await made(() => posts(6_400, 32));
    expect(of('PROMISE')).toBeLessThan(2_000);
    expect(of('HTTPINCOMINGMESSAGE')).toBeLessThan(100);
    expect(of('write')).toBeLessThan(6_400);
  });
});

test('Calls leave nothing in the old generation, even after a full garbage collection', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const oldBytes = (): number =>
    getHeapSpaceStatistics().find((space) => space.space_name === 'old_space')?.space_used_size ?? 0;
  const traffic = (): Promise<unknown> => Promise.all([calls(32_000, 32, 'x'.repeat(16)), posts(16_000, 16)]);
  // During calls, so that their tables and lists move to the old generation.
  const work = traffic();
  await new Promise((resolve) => setTimeout(resolve, 100));
  collect();
  await work;
  const before = oldBytes();
  await traffic();
  // A call and its objects take some kilobytes. A concurrent collection can only lower the figure.
  expect((oldBytes() - before) / 48_000).toBeLessThan(100);
});

test('An idle mesh makes less than one request a second to Consul, including watches, sessions and checks', async () => {
  const seconds = 6;
  const of = await made(() => new Promise((resolve) => setTimeout(resolve, seconds * 1_000)));
  // Both ends of a request are in this process, and each creates one object.
  expect(of('HTTPINCOMINGMESSAGE') / 2 / seconds).toBeLessThan(1);
});

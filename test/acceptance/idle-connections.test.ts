import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { thriftCaller, type Caller } from '../kit/mesh/callers.ts';
import { work } from '../kit/mesh/mesh.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { until } from '../kit/tools/wait.ts';
import { parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import type { MeshStatus } from '../../core/rpc/mod.ts';

const interfaces = parseIdl(readIdlFile(new URL('../fixtures/chassis/work.thrift', import.meta.url))).services;

let mesh: MeshProcess | undefined;
let callers: Caller[] = [];
let idle: Socket[] = [];
afterEach(async () => {
  for (const caller of callers) caller.close();
  for (const socket of idle) socket.destroy();
  [callers, idle] = [[], []];
  await mesh?.end();
  mesh = undefined;
});

describe('2,000 idle connections on the Thrift port', () => {
  test('do not slow down other callers, and cost no call when they close', async () => {
    const up = (mesh = await startMeshProcess({ deployments: [work({ count: 2 })] }));
    const status = (): Promise<MeshStatus> => up.status();
    const port = Number(up.addresses.thrift.split(':').at(-1));
    callers = [thriftCaller(port, true, interfaces), thriftCaller(port, false, interfaces)];
    const expectAnswers = async (): Promise<void> => {
      for (let n = 0; n < 100; n++) {
        for (const caller of callers) {
          expect(await caller.call('Work', 'say', { text: `call ${n}` }, 10_000)).toEqual({
            ok: true,
            value: `call ${n}`,
          });
        }
      }
    };
    await expectAnswers();
    const before = await status();
    for (let n = 0; n < IDLE; n++) {
      const socket = connect(port, '127.0.0.1');
      // Every second one sends the start of a frame.
      if (n % 2 === 1) socket.write(Buffer.from([0, 0, 0, 40, 0x80, 1]));
      socket.on('error', () => undefined);
      idle.push(socket);
      // A burst overflows the backlog of the listener; the kernel then repeats lost SYNs only after seconds.
      if (n % BURST === BURST - 1) await once(socket, 'connect');
    }
    await until('all to be connected', async () => (await status()).connections['thrift'] === IDLE + 2);
    await expectAnswers();
    const during = await status();
    expect(during.calls.accepted - before.calls.accepted).toBe(200);
    expect(during.calls.replied).toBe(during.calls.accepted);
    // 50 KB per connection would be far too much.
    expect(during.rssBytes - before.rssBytes).toBeLessThan(100 * 2 ** 20);
    for (const socket of idle) socket.destroy();
    await until('all to be gone', async () => (await status()).connections['thrift'] === 2);
    await expectAnswers();
    expect((await status()).calls.cancelled).toBe(0);
  });
});

const IDLE = 2_000;
/** Connections opened at once; below the backlog of Node and Bun, 511. */
const BURST = 250;

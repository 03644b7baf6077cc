// The connections of a plain server, which closes them as it likes, on a clock that the test moves.

import { createServer, type Server, type Socket } from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { connect } from 'node:net';
import { parseIdl } from '../../../core/idl/mod.ts';
import { DEFAULT_LIMITS } from '../../../core/mod.ts';
import { createCall, EMPTY_STRUCT } from '../../../core/rpc/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import { awaitPlainServer } from '../../../services/resource-manager/plain-server.ts';
import type { ReadinessOptions, ReadyChassis } from '../../../services/resource-manager/ready-chassis.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';
import { workDeployment } from '../../kit/mesh/manager-fixture.ts';
import { until } from '../../kit/tools/wait.ts';

const iface = parseIdl({
  main: 'plain.thrift',
  files: { 'plain.thrift': 'service Plain { void ready() oneway void rest() }' },
}).services.get('Plain') as Interface;

let address = '';
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0).reverse()) end();
});

interface Bench {
  readonly clock: ManualClock;
  readonly accepted: Socket[];
  readonly ready: ReadyChassis;
  readonly lost: boolean[];
  readonly unreachable: string[];
  readonly server: Server;
}

async function bench(onConnection: (socket: Socket) => void, concurrency = 1): Promise<Bench> {
  const directory = mkdtempSync(path.join(tmpdir(), 'katamari-plain-'));
  ends.push(() => rmSync(directory, { recursive: true, force: true }));
  address = path.join(directory, 'sock');
  const clock = new ManualClock();
  const accepted: Socket[] = [];
  const server = createServer((socket) => {
    accepted.push(socket);
    socket.on('error', () => undefined);
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(address, resolve));
  const lost: boolean[] = [];
  const unreachable: string[] = [];
  const options: ReadinessOptions = {
    name: 'Plain@1.0.0/1',
    address: `unix:${address}`,
    expected: { ...workDeployment(), concurrency },
    limits: DEFAULT_LIMITS,
    clock,
    signal: new AbortController().signal,
    onLinkClosed: () => expect.unreachable('a plain server has no link'),
    onConnectionsChanged: (hasLostCalls) => lost.push(hasLostCalls),
    onUnreachable: (why) => unreachable.push(why),
  };
  const connected = async (): Promise<Socket> => {
    const socket = connect(address);
    await new Promise((resolve) => socket.once('connect', resolve));
    return socket;
  };
  const ready = await awaitPlainServer(options, iface, connected);
  ends.push(
    () => void server.close(),
    () => accepted.forEach((socket) => socket.destroy()),
    () => ready.link.close(),
  );
  return { clock, accepted, ready, lost, unreachable, server };
}

/** Lets the event loop turn often enough for sockets to connect and close. */
async function turns(): Promise<void> {
  for (let n = 0; n < 50; n++) await new Promise((resolve) => setImmediate(resolve));
}

describe('Connections of a plain server', () => {
  test('are opened again after a pause that doubles while the server closes each of them at once', async () => {
    const { clock, accepted, ready, unreachable } = await bench((socket) => socket.end());
    await until('the close', () => !ready.link.isOpen);
    const pauses: number[] = [];
    for (let n = 1; n < 12; n++) {
      let waitedMs = 0;
      for (; accepted.length === n; waitedMs += 5) {
        clock.advance(5);
        await turns();
      }
      pauses.push(waitedMs);
      await until('the close', () => !ready.link.isOpen);
    }
    for (const [n, pauseMs] of pauses.entries()) {
      const most = Math.min(2_000, 10 * 2 ** n);
      expect([n, pauseMs >= most / 2, pauseMs <= most + 10]).toEqual([n, true, true]);
    }
    expect(unreachable).toEqual([]);
  });

  test('of several: one that closes costs its own call and one place', async () => {
    const { clock, accepted, ready, lost } = await bench(() => undefined, 3);
    const ended: string[] = [];
    const call = createCall({ service: 'Plain', method: 'ready', args: EMPTY_STRUCT, deadlineMs: Infinity });
    for (let n = 0; n < 3; n++) {
      ready.link.send(
        call,
        { reply: () => ended.push(`${n} ok`), fail: ({ code }) => ended.push(`${n} ${code}`) },
        clock.nowMs(),
      );
    }
    await until('the calls', () => accepted.length === 3);
    accepted[1]?.destroy();
    await until('the end', () => ended.length === 1);
    expect([ended, ready.link.isOpen, ready.link.capacity, lost]).toEqual([['1 resource_failed'], true, 2, [true]]);
    clock.advance(20);
    await until('the place', () => ready.link.capacity === 3);
    expect(lost).toEqual([true, false]);
  });

  test('that cannot be opened any more are reported', async () => {
    const { clock, accepted, ready, server, unreachable } = await bench(() => undefined);
    server.close();
    rmSync(address, { force: true });
    for (const socket of accepted) socket.destroy();
    await until('the close', () => !ready.link.isOpen);
    for (let n = 0; n < 30 && unreachable.length === 0; n++) {
      clock.advance(500);
      await turns();
    }
    expect(unreachable).toEqual([expect.stringMatching(/^it accepts no connection at unix:.* any more: .*ENOENT/)]);
  });
});

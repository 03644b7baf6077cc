// Calls that the network delivers late. A proxy between the peer of a faceplate and the link of a manager holds the
// bytes until the caller has its `timeout`, then delivers them all. No such call may start, on any link.

import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { DeadlineWheel, startLinkServer, type LinkServer } from '../../../core/link/mod.ts';
import { DEFAULT_LIMITS, systemClock, type KatamariError } from '../../../core/mod.ts';
import { createCall, dispatchOf, EMPTY_STRUCT, NO_REPLY_CONTEXT, sendOf, type Call } from '../../../core/rpc/mod.ts';
import { Peer } from '../../../services/mesh/peer.ts';
import { until } from '../../kit/tools/wait.ts';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

describe('A call that the network delivers after its deadline', () => {
  test('does not start, although the packets arrive', async () => {
    const { started, call, proxy } = await meshWithProxy();
    await call('before', 5_000);
    proxy.hold();
    const ends = await Promise.all(['a', 'b', 'c'].map((id) => call(id, 100)));
    expect(ends).toEqual(['timeout', 'timeout', 'timeout']);
    proxy.release();
    // A later call on the same connection: everything before it has been read.
    expect(await call('after', 5_000)).toBe('ok');
    expect(started).toEqual(['before', 'after']);
  });

  test('starts with the time that is truly left if it arrives before its deadline', async () => {
    const { started, leftMs, call, proxy } = await meshWithProxy();
    proxy.hold();
    const ended = call('held', 5_000);
    const heldMs = 200;
    const sentMs = performance.now();
    await until('the call to age', () => performance.now() > sentMs + heldMs);
    proxy.release();
    expect(await ended).toBe('ok');
    expect(started).toEqual(['held']);
    expect(leftMs[0]).toBeLessThanOrEqual(5_000 - heldMs);
    expect(leftMs[0]).toBeGreaterThan(0);
  });

  test('does not start on a link that the sender has closed meanwhile', async () => {
    const { started, call, proxy, peer, server } = await meshWithProxy();
    proxy.hold();
    expect(await call('held', 100)).toBe('timeout');
    peer.close('the test closes it');
    proxy.release();
    await until('the manager to see the end', () => server.connections() === 0);
    expect(started).toEqual([]);
  });
});

interface Proxy {
  readonly port: number;
  /** Keeps the bytes from the client from now on. */
  hold(): void;
  /** Delivers what was kept, and everything later at once. */
  release(): void;
}

async function meshWithProxy() {
  const started: string[] = [];
  const leftMs: number[] = [];
  const server: LinkServer = await startLinkServer('tcp:127.0.0.1:0', {
    send: sendOf((call: Call) => {
      started.push(call.key);
      leftMs.push(call.deadlineMs - systemClock.nowMs());
      return Promise.resolve({ isException: false, body: EMPTY_STRUCT, context: NO_REPLY_CONTEXT });
    }),
    limits: DEFAULT_LIMITS,
    timeoutMs: () => 10_000,
    caller: 'a faceplate',
  });
  closers.push(() => server.close());
  const proxy = await startProxy(Number(server.address.split(':').at(-1)));
  const peer = new Peer({
    name: 'manager',
    address: `127.0.0.1:${proxy.port}`,
    security: undefined,
    limits: DEFAULT_LIMITS,
    connects: 'at once',
    clock: systemClock,
    deadlines: new DeadlineWheel(systemClock),
    onState: () => undefined,
  });
  closers.push(() => peer.close('the test is over'));
  await until('the link', () => peer.state === 'up');
  const send = dispatchOf((one, sink) => peer.send(one, sink));
  const call = (key: string, timeoutMs: number): Promise<string> =>
    send(
      createCall({
        service: 'Tally',
        method: 'once',
        args: EMPTY_STRUCT,
        key,
        deadlineMs: systemClock.nowMs() + timeoutMs,
      }),
    ).then(
      () => 'ok',
      (error: KatamariError) => error.code,
    );
  return { started, leftMs, call, proxy, peer, server };
}

async function startProxy(to: number): Promise<Proxy> {
  let isHolding = false;
  const sockets = new Set<Socket>();
  const held: (() => void)[] = [];
  const server: Server = createServer({ allowHalfOpen: true }, (client) => {
    const target = connect({ port: to, host: '127.0.0.1', allowHalfOpen: true });
    const pass = (act: () => void): void => {
      if (isHolding) held.push(act);
      else act();
    };
    client.on('data', (chunk) => pass(() => target.write(chunk)));
    client.on('end', () => pass(() => target.end()));
    client.on('error', () => pass(() => target.end()));
    target.on('data', (chunk) => client.write(chunk));
    target.on('end', () => client.end());
    target.on('error', () => client.destroy());
    for (const socket of [client, target]) sockets.add(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return {
    port: (server.address() as AddressInfo).port,
    hold: () => {
      isHolding = true;
    },
    release: () => {
      isHolding = false;
      for (const act of held.splice(0)) act();
    },
  };
}

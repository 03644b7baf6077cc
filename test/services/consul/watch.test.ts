// Watches on both kinds of Consul, and on a fake Consul for faults that a real one cannot be made to have.

import { createServer as createHttpServer, type ServerResponse } from 'node:http';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CONSUL_KINDS, startConsul, type TestConsul } from '../../kit/consul/consul.ts';
import {
  consulClient,
  type ConsulClient,
  type ConsulError,
  watchPrefix,
  type ConsulWatch,
  type WatchedEntries,
} from '../../../services/consul/mod.ts';
import type { WatchOptions } from '../../../services/consul/watch.ts';
import { until } from '../../kit/tools/wait.ts';

interface Followed {
  readonly watch: ConsulWatch;
  /** Every reported state, as key=value words. */
  readonly states: string[];
  readonly resets: boolean[];
  readonly errors: ConsulError[];
  readonly stop: () => void;
}

function follow(client: ConsulClient, prefix: string, options: Partial<WatchOptions> = {}): Followed {
  const end = new AbortController();
  const states: string[] = [];
  const resets: boolean[] = [];
  const errors: ConsulError[] = [];
  const onChange = (entries: WatchedEntries, { isAfterReset }: { isAfterReset: boolean }): void => {
    states.push([...entries.values()].map(({ key, value }) => `${key.slice(prefix.length)}=${value}`).join(' '));
    resets.push(isAfterReset);
  };
  const watch = watchPrefix(client, prefix, onChange, {
    signal: end.signal,
    onError: (error) => errors.push(error),
    backoffMaxMs: 500,
    ...options,
  });
  return { watch, states, resets, errors, stop: () => end.abort() };
}

for (const kind of CONSUL_KINDS) {
  describe(`watchPrefix() on the ${kind} Consul`, () => {
    let consul: TestConsul;
    let client: ConsulClient;
    let followed: Followed | undefined;

    beforeAll(async () => {
      consul = await startConsul(kind);
      client = consulClient({ address: consul.address, timeoutMs: 2_000 });
    });
    afterEach(() => followed?.stop());
    afterAll(async () => {
      client?.close();
      await consul?.close();
    });

    test('reports the initial state and each real change, and nothing else', async () => {
      followed = follow(client, 'w1/');
      const { states, watch } = followed;
      await watch.ready;
      expect(states).toEqual(['']);
      const step = async (change: () => Promise<unknown>, state: string): Promise<void> => {
        await change();
        await until(`"${state}"`, () => states.at(-1) === state);
      };
      await step(() => client.put('w1/a', '1'), 'a=1');
      await step(() => client.put('w1/b/c', 'ä'), 'a=1 b/c=ä');
      await client.put('w1/a', '1');
      await client.put('w2/other', '1');
      await step(() => client.put('w1/a', '2'), 'a=2 b/c=ä');
      await step(() => client.delete('w1/b/c'), 'a=2');
      await step(() => client.delete('w1/', { isTree: true }), '');
      expect(states).toEqual(['', 'a=1', 'a=1 b/c=ä', 'a=2 b/c=ä', 'a=2', '']);
      expect(watch.stats()).toMatchObject({ errors: 0, changes: 6, resets: 0 });
    });

    test('reports locks that are taken and released', async () => {
      const seen: string[] = [];
      const end = new AbortController();
      const { ready } = watchPrefix(
        client,
        'w3/',
        (entries) => seen.push([...entries.values()].map((entry) => entry.session).join()),
        { signal: end.signal },
      );
      await ready;
      const id = await client.createSession({
        name: 'w',
        ttlMs: 10_000,
        lockDelayMs: 0,
        behavior: 'delete',
        checks: [],
      });
      await client.put('w3/lock', '', { acquire: id });
      await until('the lock', () => seen.at(-1) === id);
      await client.destroySession(id);
      await until('the lock to go', () => seen.at(-1) === '' && seen.length === 3);
      end.abort();
    });

    test('reports the final state under churn, with fewer reports than changes', async () => {
      followed = follow(client, 'w4/');
      await followed.watch.ready;
      for (let at = 0; at < 300; at++) await client.put('w4/hot', String(at));
      await until('the last value', () => followed?.states.at(-1) === 'hot=299');
      expect(followed.watch.stats().answers).toBeLessThan(300);
    });

    test('continues when Consul is killed and comes back with its data, without a report', async () => {
      followed = follow(client, 'w5/');
      await client.put('w5/a', '1');
      await until('the key', () => followed?.states.at(-1) === 'a=1');
      const { length } = followed.states;
      await consul.kill();
      await until('errors', () => (followed?.errors.length ?? 0) > 1);
      await consul.start();
      const { answers } = followed.watch.stats();
      await until('an answer', () => (followed?.watch.stats().answers ?? 0) > answers);
      expect(followed.states.length).toBe(length);
      await client.put('w5/a', '2');
      await until('the change', () => followed?.states.at(-1) === 'a=2');
      expect(followed.states.length).toBe(length + 1);
    });

    test('continues when Consul comes back empty with smaller indexes, and reports that this was a reset', async () => {
      followed = follow(client, 'w6/');
      // High enough that an empty Consul starts below it.
      for (let at = 0; at < 40; at++) await client.put('w6/a', String(at));
      await until('the key', () => followed?.states.at(-1) === 'a=39');
      await consul.kill();
      await consul.start({ isEmpty: true });
      await until('the emptiness', () => followed?.states.at(-1) === '');
      expect(followed.resets.at(-1)).toBe(true);
      expect(followed.watch.stats().resets).toBeGreaterThan(0);
      await client.put('w6/a', 'new');
      await until('the new key', () => followed?.states.at(-1) === 'a=new');
      expect(followed.resets.at(-1)).toBe(false);
    });

    test('keeps what a Consul has lost until all is written back', async () => {
      for (const letter of ['a', 'b', 'c']) await client.put(`lost/${letter}`, letter);
      // High enough that an empty Consul starts below it.
      for (let at = 0; at < 40; at++) await client.put('lost-index', String(at));
      await client.put('begun', 'yes');
      const options = { restoredKey: 'begun' };
      followed = follow(client, 'lost/', options);
      await until('the first state', () => followed?.states.length === 1);
      await consul.kill();
      await consul.start({ isEmpty: true });
      await until('the reset', () => (followed?.watch.stats().resets ?? 0) > 0);
      await client.put('lost/b', 'b2');
      await until('what was written', () => followed?.states.at(-1)?.includes('b2') === true);
      await client.put('lost/a', 'a');
      await client.put('begun', 'yes');
      await until('what was not written back to go', () => followed?.states.at(-1)?.includes('c=c') === false);
      expect(followed.states.at(-1)).toBe('a=a b=b2');
      // Never a part.
      expect(followed.states.slice(0, -1).every((state) => /a=a/.test(state) && /c=c/.test(state))).toBe(true);
    });

    test('ends with its signal and reports nothing more', async () => {
      const ended = follow(client, 'w7/');
      await ended.watch.ready;
      ended.stop();
      const { length } = ended.states;
      await client.put('w7/a', '1');
      await client.get('w7/a');
      expect(ended.states.length).toBe(length);
      expect(ended.errors).toEqual([]);
    });
  });
}

describe('watchPrefix() on a Consul that fails', () => {
  test('gives up on a dead connection, and asks again', async () => {
    const sockets: Socket[] = [];
    let requests = 0;
    // Accepts, reads, and never answers a blocking query, as after a lost machine or an expired NAT entry.
    const server = createServer((socket) => {
      sockets.push(socket);
      socket.on('error', () => {});
      socket.on('data', (data) => {
        requests++;
        if (data.toString().includes('index=')) return;
        const body = JSON.stringify([
          { Key: 'p/a', Value: 'MQ==', Flags: 0, LockIndex: 0, CreateIndex: 5, ModifyIndex: 5 },
        ]);
        socket.write(
          `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Consul-Index: 5\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
        );
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const client = consulClient({ address: `127.0.0.1:${(server.address() as AddressInfo).port}` });
    const followed = follow(client, 'p/', { waitMs: 20 });
    await until('a second fresh question', () => requests >= 3);
    expect(followed.states).toEqual(['a=1']);
    expect(followed.errors[0]?.message).toContain('timed out');
    followed.stop();
    client.close();
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });

  test('pauses longer after each failure, up to a limit', async () => {
    const times: number[] = [];
    let answer: (response: ServerResponse) => void = (response) => response.writeHead(500).end('No cluster leader');
    const server = createHttpServer((_request, response) => answer(response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const client = consulClient({ address: `127.0.0.1:${(server.address() as AddressInfo).port}` });
    let nowMs = 0;
    // A clock that runs as fast as it is asked to.
    const clock = {
      nowMs: () => nowMs,
      after(delayMs: number, act: () => void): () => void {
        times.push(delayMs);
        nowMs += delayMs;
        const timer = setImmediate(act);
        return () => clearImmediate(timer);
      },
    };
    const followed = follow(client, 'p/', { clock, random: () => 0 });
    await until('ten failures', () => followed.errors.length >= 10);
    expect(times.slice(0, 6)).toEqual([100, 200, 400, 500, 500, 500]);
    expect(followed.errors[0]).toMatchObject({
      status: 500,
      message: expect.stringContaining('No cluster leader') as string,
    });
    // An invalid reply is a failure like any other.
    for (const [bad, index] of [
      ['{"a":', '3'],
      ['[1]', '3'],
      ['{}', '3'],
      ['[]', '0'],
      ['[]', 'x'],
      ['[{"Key":"p/a","Value":5}]', '3'],
    ] as const) {
      const { length } = followed.errors;
      answer = (response) =>
        response.writeHead(200, { 'Content-Type': 'application/json', 'X-Consul-Index': index }).end(bad);
      await until('two more failures', () => followed.errors.length > length + 1);
    }
    expect(followed.states).toEqual([]);
    answer = (response) => response.writeHead(404, { 'X-Consul-Index': '3' }).end();
    await until('the first good answer', () => followed.states.length > 0);
    followed.stop();
    client.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
});

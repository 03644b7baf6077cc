// Promises of the embedded agent alone: it persists its data, survives a corrupt directory, keeps its limits, and is
// idle when nothing happens.

import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ManualClock } from '../../kit/tools/manual-clock.ts';
import { rawClient } from '../../kit/wire/raw-http.ts';
import type { ConsulAgent, ConsulAgentOptions } from '../../../services/consul-agent/agent.ts';
import { startConsulAgent } from '../../../services/consul-agent/mod.ts';
import { until } from '../../kit/tools/wait.ts';

describe('the embedded Consul agent', () => {
  let folder: string;
  let agent: ConsulAgent;
  let notes: string[];

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'katamari-agent-'));
    notes = [];
  });
  afterEach(async () => {
    await agent?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const start = async (options: ConsulAgentOptions = {}): Promise<void> => {
    agent = await startConsulAgent({ dataDir: folder, onNote: (text) => notes.push(text), ...options });
  };
  const ask = async (
    method: string,
    path: string,
    body?: string | Buffer,
  ): Promise<{ status: number; text: string; index: number }> => {
    const response = await fetch(`http://127.0.0.1:${agent.port}/v1${path}`, {
      method,
      ...(body === undefined ? {} : { body: body as string }),
    });
    return {
      status: response.status,
      text: await response.text(),
      index: Number(response.headers.get('x-consul-index')),
    };
  };
  const get = async (path: string): Promise<unknown> => JSON.parse((await ask('GET', path)).text);
  const newSession = async (body: object): Promise<string> =>
    (JSON.parse((await ask('PUT', '/session/create', JSON.stringify(body))).text) as { ID: string }).ID;
  const gauge = async (name: string): Promise<number> => {
    const { Gauges } = (await get('/agent/metrics')) as { Gauges: { Name: string; Value: number }[] };
    return Gauges.find((one) => one.Name === name)!.Value;
  };

  describe('after a restart', () => {
    test('keeps keys, locks, sessions, services, checks and all indexes', async () => {
      await start();
      await ask(
        'PUT',
        '/agent/service/register',
        '{"Name":"web","ID":"web1","Port":80,"Tags":["a"],"Check":{"TTL":"1h","Status":"passing"}}',
      );
      const session = await newSession({ Name: 's', TTL: '1h', Checks: ['service:web1'], Behavior: 'delete' });
      await ask('PUT', `/kv/lock?acquire=${session}&flags=7`, 'held');
      await ask('PUT', '/kv/gone', 'x');
      await ask('DELETE', '/kv/gone');
      const paths = [
        '/kv/?recurse',
        `/session/info/${session}`,
        '/health/service/web',
        '/agent/services',
        '/agent/checks',
        '/catalog/nodes',
        '/kv/gone',
      ];
      const before = await Promise.all(paths.map((path) => ask('GET', path)));
      await agent.close();
      await start();
      expect(await Promise.all(paths.map((path) => ask('GET', path)))).toEqual(before);
      expect(notes).toEqual([]);

      // The index continues, and the session still holds its key.
      await ask('PUT', '/kv/new', 'x');
      expect((await ask('GET', '/kv/new')).index).toBeGreaterThan(Math.max(...before.map((answer) => answer.index)));
      await ask('PUT', '/agent/check/fail/service:web1');
      expect((await ask('GET', '/kv/lock')).status).toBe(404);
    });

    test('gives sessions their full TTL again and then ends those that are not renewed', async () => {
      await start();
      const session = await newSession({ TTL: '10s' });
      await agent.close();
      const clock = new ManualClock();
      await start({ clock });
      clock.advance(19_000);
      expect(await get(`/session/info/${session}`)).toHaveLength(1);
      clock.advance(1_001);
      expect(await get(`/session/info/${session}`)).toEqual([]);
    });

    test('runs its checks again: a check whose process died meanwhile becomes critical', async () => {
      await start();
      await ask(
        'PUT',
        '/agent/service/register',
        '{"Name":"x","Check":{"TCP":"127.0.0.1:1","Interval":"1s","Status":"passing"}}',
      );
      await agent.close();
      await start();
      await until(
        'the check to be critical',
        async () => ((await get('/health/state/critical')) as unknown[]).length === 1,
      );
    });

    test('keeps every duration of a check, also one that no timer of the runtime holds', async () => {
      await start({ random: () => 0, deregisterAfterMinMs: 1 });
      const own = `127.0.0.1:${agent.port}`;
      const never = '9999999h';
      const checks = {
        'HTTP, a fraction': { HTTP: `http://${own}/`, Interval: '1s', Timeout: '5000.5ms' },
        'HTTP, years': { HTTP: `http://${own}/`, Interval: '1s', Timeout: never },
        'TCP, years': { TCP: own, Interval: '1s', Timeout: never },
      };
      for (const [Name, check] of Object.entries(checks)) {
        const body = { Name, ...check, DeregisterCriticalServiceAfter: never };
        expect((await ask('PUT', '/agent/check/register', JSON.stringify(body))).status).toBe(200);
      }
      const ttl = { Name: 'TTL', Check: { TTL: never, Status: 'passing', DeregisterCriticalServiceAfter: never } };
      await ask('PUT', '/agent/service/register', JSON.stringify(ttl));
      const bad = { Name: 'bad', Check: { TTL: '1h', Status: 'critical', DeregisterCriticalServiceAfter: never } };
      await ask('PUT', '/agent/service/register', JSON.stringify(bad));
      const statuses = async (): Promise<Record<string, string>> =>
        Object.fromEntries(
          ((await get('/health/state/any')) as { CheckID: string; Status: string }[]).map((one) => [
            one.CheckID,
            one.Status,
          ]),
        );
      await until('the checks to pass', async () => {
        const seen = await statuses();
        return Object.keys(checks).every((name) => seen[name] === 'passing');
      });
      expect(await statuses()).toMatchObject({ 'service:TTL': 'passing', 'service:bad': 'critical' });
    });

    test('runs an HTTP check again after an answer that is no response', async () => {
      let asked = 0;
      const answers = createServer((socket) => {
        socket.on('error', () => undefined);
        socket.once('data', () => {
          asked++;
          socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n');
        });
      });
      await new Promise<void>((resolve) => answers.listen(0, '127.0.0.1', resolve));
      const url = `http://127.0.0.1:${(answers.address() as AddressInfo).port}/`;
      await start({ random: () => 0 });
      const body = { Name: 'h', HTTP: url, Interval: '1s', Timeout: '30s', Status: 'passing' };
      await ask('PUT', '/agent/check/register', JSON.stringify(body));
      await until('a second question', () => asked >= 2);
      expect(await get('/health/state/critical')).toMatchObject([{ CheckID: 'h' }]);
      answers.close();
    });

    test('reads a truncated journal up to the last whole record, and sets the rest aside', async () => {
      await start();
      for (let at = 0; at < 5; at++) await ask('PUT', `/kv/k${at}`, `value ${at}`);
      await agent.close();
      const whole = readFileSync(join(folder, 'journal-0'));
      const lines = whole.toString('latin1').split('\n');
      const last = Buffer.byteLength(lines.at(-2)!, 'latin1') + 1;
      for (let cut = 0; cut <= last; cut += 7) {
        writeFileSync(join(folder, 'journal-0'), whole.subarray(0, whole.length - cut));
        notes = [];
        await start();
        const keys = await get('/kv/?keys');
        expect(keys).toEqual(cut === 0 ? ['k0', 'k1', 'k2', 'k3', 'k4'] : ['k0', 'k1', 'k2', 'k3']);
        expect(notes).toHaveLength(cut === 0 ? 0 : 1);
        if (cut > 0) expect(notes[0]).toContain('damaged');
        // It continues writing after the valid part.
        await ask('PUT', '/kv/after', 'x');
        await agent.close();
        await start();
        expect((await ask('GET', '/kv/after?raw')).text).toBe('x');
        await agent.close();
      }
      expect(existsSync(join(folder, 'journal-0.damaged'))).toBe(true);
    });

    test('stops at a record with changed bytes and says so', async () => {
      await start();
      for (let at = 0; at < 3; at++) await ask('PUT', `/kv/k${at}`, 'x');
      await agent.close();
      const path = join(folder, 'journal-0');
      const text = readFileSync(path, 'latin1');
      writeFileSync(path, text.replace('"k1"', '"kX"'), 'latin1');
      await start();
      expect(await get('/kv/?keys')).toEqual(['k0']);
      expect(notes.join()).toMatch(/damaged from byte \d+ on/);
    });

    test('ignores the remains of an interrupted compaction', async () => {
      await start();
      await ask('PUT', '/kv/a', 'x');
      await agent.close();
      writeFileSync(join(folder, 'snapshot-1.tmp'), 'half');
      writeFileSync(join(folder, 'journal-1'), '');
      await start();
      expect(await get('/kv/?keys')).toEqual(['a']);
      expect(readdirSync(folder).filter((name) => name.includes('1'))).toEqual([]);
    });

    test('recovers the valid part of an empty file, of garbage and of a damaged snapshot', async () => {
      writeFileSync(join(folder, 'journal-0'), '');
      await start();
      await agent.close();
      writeFileSync(join(folder, 'journal-0'), Buffer.from(Array.from({ length: 4096 }, (_, at) => (at * 37) % 256)));
      await start();
      expect((await ask('GET', '/kv/?keys')).status).toBe(404);
      expect(notes.join()).toContain('damaged');
    });
  });

  test('keeps its directory small however often keys are written, and loses none', async () => {
    await start();
    const value = Buffer.alloc(100_000, 'v');
    for (let at = 0; at < 60; at++) await ask('PUT', `/kv/k${at % 3}`, Buffer.concat([value, Buffer.from(String(at))]));
    const bytes = readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
    // 60 writes of 133 kB each, as base64; three of them are alive.
    expect(bytes).toBeLessThan(3_000_000);
    await agent.close();
    await start();
    for (const [key, at] of [
      ['k0', 57],
      ['k1', 58],
      ['k2', 59],
    ] as const) {
      expect((await ask('GET', `/kv/${key}?raw`)).text.slice(100_000)).toBe(String(at));
    }
  });

  test('locks its directory, and unlocks it when it ends', async () => {
    await start();
    await expect(startConsulAgent({ dataDir: folder })).rejects.toThrow(/another agent uses it/);
    await agent.close();
    await start();
    expect(agent.port).toBeGreaterThan(0);
  });

  test('refuses a directory written by a newer version', async () => {
    await start();
    for (let at = 0; at < 12; at++) await ask('PUT', '/kv/k', Buffer.alloc(100_000, String(at % 10)));
    await agent.close();
    const snapshot = readdirSync(folder).find((name) => name.startsWith('snapshot-'));
    if (snapshot === undefined) throw new Error('No snapshot was written');
    const text = readFileSync(join(folder, snapshot), 'utf8');
    const header = '{"format":"katamari consul-agent","version":2}';
    writeFileSync(join(folder, snapshot), `${crc32(header)} ${header}\n${text.slice(text.indexOf('\n') + 1)}`);
    await expect(startConsulAgent({ dataDir: folder })).rejects.toThrow(/newer version/);
  });

  test('says why it cannot start when the port is taken, and unlocks the directory', async () => {
    await start();
    const other = mkdtempSync(join(tmpdir(), 'katamari-agent-'));
    await expect(startConsulAgent({ port: agent.port, dataDir: other })).rejects.toMatchObject({ code: 'EADDRINUSE' });
    const next = await startConsulAgent({ dataDir: other });
    await next.close();
    rmSync(other, { recursive: true });
  });

  describe('with a manual clock', () => {
    let clock: ManualClock;
    beforeEach(async () => {
      clock = new ManualClock();
      await start({ clock, random: () => 0.5 });
    });

    test('has no timer while nothing is registered and no query waits', async () => {
      await ask('PUT', '/kv/a', 'x');
      await ask('GET', '/kv/a');
      const session = await newSession({ LockDelay: '0s' });
      await ask('PUT', `/kv/b?acquire=${session}`, 'x');
      expect(clock.waiting).toBe(0);
    });

    test('ends a session between its TTL and twice that, renewals included', async () => {
      const session = await newSession({ TTL: '10s', Behavior: 'delete', LockDelay: '0s' });
      await ask('PUT', `/kv/e?acquire=${session}`, 'x');
      clock.advance(15_000);
      expect((await ask('PUT', `/session/renew/${session}`)).status).toBe(200);
      clock.advance(19_999);
      expect((await ask('GET', '/kv/e')).status).toBe(200);
      clock.advance(1);
      expect((await ask('GET', '/kv/e')).status).toBe(404);
      expect((await ask('PUT', `/session/renew/${session}`)).status).toBe(404);
      expect(clock.waiting).toBe(0);
    });

    test('caps a lock delay at one minute', async () => {
      const [one, two] = [await newSession({ LockDelay: '10m' }), await newSession({})];
      await ask('PUT', `/kv/l?acquire=${one}`, 'x');
      await ask('PUT', `/session/destroy/${one}`);
      clock.advance(59_999);
      expect((await ask('PUT', `/kv/l?acquire=${two}`, 'x')).text).toBe('false');
      clock.advance(1);
      expect((await ask('PUT', `/kv/l?acquire=${two}`, 'x')).text).toBe('true');
    });

    test('deregisters a service that stays critical, but not one that recovers', async () => {
      for (const name of ['a', 'b']) {
        await ask(
          'PUT',
          '/agent/service/register',
          JSON.stringify({
            Name: name,
            Check: { TTL: '10s', Status: 'passing', DeregisterCriticalServiceAfter: '1s' },
          }),
        );
      }
      clock.advance(10_000);
      expect(await get('/health/state/critical')).toHaveLength(2);
      clock.advance(30_000);
      await ask('PUT', '/agent/check/pass/service:b');
      clock.advance(9_000);
      await ask('PUT', '/agent/check/pass/service:b');
      clock.advance(9_000);
      await ask('PUT', '/agent/check/pass/service:b');
      clock.advance(9_000);
      await ask('PUT', '/agent/check/pass/service:b');
      clock.advance(3_001);
      expect(Object.keys((await get('/agent/services')) as object)).toEqual(['b']);
    });

    test('holds a query for its wait plus up to a sixteenth, 10 minutes at most', async () => {
      await ask('PUT', '/kv/w', 'x');
      const { index } = await ask('GET', '/kv/w');
      for (const [wait, heldMs] of [
        ['16s', 16_500],
        ['1h', 618_750],
        ['', 309_375],
      ] as const) {
        let isAnswered = false;
        const waiting = ask('GET', `/kv/w?index=${index}${wait === '' ? '' : `&wait=${wait}`}`).then((answer) => {
          isAnswered = true;
          return answer;
        });
        await until('the query to wait', () => clock.waiting === 1);
        clock.advance(heldMs - 1);
        await ask('GET', '/kv/w');
        expect(isAnswered).toBe(false);
        clock.advance(1);
        expect((await waiting).index).toBe(index);
      }
    });

    test('copies an output that alone changed into the catalog after five minutes at the earliest', async () => {
      await ask('PUT', '/agent/service/register', '{"Name":"o","Check":{"TTL":"1h","Status":"passing"}}');
      const { index } = await ask('GET', '/health/checks/o');
      await ask('PUT', '/agent/check/pass/service:o?note=tick');
      expect((await ask('GET', '/health/checks/o')).index).toBe(index);
      clock.advance(300_000);
      expect(await get('/health/checks/o')).toMatchObject([{ Output: 'tick' }]);
    });
  });

  test('answers a query for an index of an earlier history at once', async () => {
    await start({ clock: new ManualClock() });
    const { index } = await ask('GET', '/catalog/nodes');
    expect((await ask('GET', '/catalog/nodes?index=1000&wait=10m')).index).toBe(index);
  });

  describe('within its limits', () => {
    test('refuses a blocking query over the limit, and frees the place of a disconnected client', async () => {
      await start({ blockingMax: 2 });
      const leave = new AbortController();
      const wait = (signal?: AbortSignal): Promise<Response> =>
        fetch(
          `http://127.0.0.1:${agent.port}/v1/session/list?index=3&wait=60s`,
          signal === undefined ? {} : { signal },
        );
      const gone = wait(leave.signal).catch(() => 'gone');
      const stays = wait().catch(() => undefined);
      await until('two to wait', async () => (await gauge('consul.katamari.blocking_queries')) === 2);
      expect((await wait()).status).toBe(429);
      leave.abort();
      expect(await gone).toBe('gone');
      await until('one to have gone', async () => (await gauge('consul.katamari.blocking_queries')) === 1);
      await agent.close();
      await stays;
    });

    test('refuses writes when the store is full, and accepts them again after a delete', async () => {
      await start({ dataBytesMax: 10_000 });
      expect((await ask('PUT', '/kv/a', 'x'.repeat(6_000))).status).toBe(200);
      const refused = await ask('PUT', '/kv/b', 'x'.repeat(6_000));
      expect(refused).toMatchObject({ status: 413, text: expect.stringContaining('limit is 10000') as string });
      await ask('DELETE', '/kv/a');
      expect((await ask('PUT', '/kv/b', 'x'.repeat(6_000))).status).toBe(200);
      expect(await gauge('consul.katamari.kv_bytes')).toBe(8_001);
    });

    test('answers bodies and headers that are too large or invalid, and continues', async () => {
      await start();
      expect((await ask('PUT', '/kv/a', Buffer.alloc(3_000_000))).status).toBe(413);
      expect((await ask('PUT', '/session/create', `{"Name":${'['.repeat(5_000)}${']'.repeat(5_000)}}`)).status).toBe(
        400,
      );
      expect((await ask('GET', '/kv/%ff')).status).toBe(400);
      const headers = await rawClient(
        agent.port,
        `GET /v1/kv/a HTTP/1.1\r\nhost: a\r\nx: ${'y'.repeat(40_000)}\r\n\r\n`,
      );
      expect(await headers.closed()).toContain('431');
      const garbage = await rawClient(agent.port, '\x16\x03\x01\x00\xff\r\n\r\n');
      await garbage.closed();
      expect((await ask('PUT', '/kv/a', 'x')).text).toBe('true');
    });

    test('remembers thousands of deletes without losing any', async () => {
      await start();
      await ask('PUT', '/kv/early/a', 'x');
      const before = await ask('GET', '/kv/early/?recurse');
      await ask('PUT', '/kv/early/b', 'x');
      await ask('DELETE', '/kv/early/b');
      for (let round = 0; round < 80; round++) {
        const operations = Array.from({ length: 64 }, (_, at) => ({ KV: { Verb: 'set', Key: `many/${round}/${at}` } }));
        await ask('PUT', '/txn', JSON.stringify(operations));
        await ask('PUT', '/txn', JSON.stringify(operations.map(({ KV }) => ({ KV: { ...KV, Verb: 'delete' } }))));
      }
      expect((await ask('GET', '/kv/early/?recurse')).index).toBeGreaterThan(before.index);
    });
  });

  test('continues in memory when its directory is not writable, and says so', async () => {
    await start();
    await ask('PUT', '/kv/a', 'x');
    await agent.close();
    // Not even root can write a snapshot where a directory has its name.
    const { mkdirSync } = await import('node:fs');
    mkdirSync(join(folder, 'snapshot-1.tmp', 'in-the-way'), { recursive: true });
    appendFileSync(join(folder, 'journal-0'), '');
    await expect(startConsulAgent({ dataDir: folder })).rejects.toThrow();
    rmSync(join(folder, 'snapshot-1.tmp'), { recursive: true });
    await start();
    mkdirSync(join(folder, 'snapshot-1.tmp'));
    for (let at = 0; at < 12; at++)
      expect((await ask('PUT', '/kv/k', Buffer.alloc(100_000, String(at % 10)))).text).toBe('true');
    expect(notes.join()).toContain('Cannot write a snapshot');
    rmSync(join(folder, 'snapshot-1.tmp'), { recursive: true });
    await ask('PUT', '/kv/last', 'x');
    await agent.close();
    await start();
    expect(await get('/kv/?keys')).toEqual(['a', 'k', 'last']);
  });
});

/** CRC-32 bit by bit, independent of the table in the journal. */
function crc32(text: string): string {
  let crc = 0xffffffff;
  for (const byte of Buffer.from(text)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  return ((crc ^ 0xffffffff) >>> 0).toString(16).padStart(8, '0');
}

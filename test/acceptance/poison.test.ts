// Calls that cost a copy its connection, its life or its patience: they are not sent to the next copy, the same call
// of the same caller is refused for a while, and nobody else notices.

import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { runtimeName } from '../../core/mod.ts';
import { frameMessage, NOTHING, readApplicationException } from '../../core/thrift/mod.ts';
import { fixture, startTestMesh, type TestMesh } from '../kit/mesh/mesh.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { toolPath } from '../kit/tools/tools.ts';
import { until } from '../kit/tools/wait.ts';
import { rawThrift } from '../kit/wire/raw-thrift.ts';

const directory = mkdtempSync(path.join(tmpdir(), 'katamari-poison-'));
let mesh: TestMesh;
const closers: (() => void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) close();
  await mesh.end();
  rmSync(directory, { recursive: true, force: true });
});

describe('A plain server that closes the connection of a call', () => {
  test('keeps its process; the call is not sent to another copy, and refused when it comes again', async () => {
    await startWords();
    const pids = mesh.mesh.pids();
    // A text with a byte that is not UTF-8. Python's library closes the connection when it reads it.
    const args = Buffer.concat([Buffer.of(11, 0, 1, 0, 0, 0, 4), Buffer.from('caf\xe9', 'latin1'), Buffer.of(0)]);
    const others: unknown[] = [];
    const isOver = new AbortController();
    const neighbor = (async () => {
      while (!isOver.signal.aborted) others.push((await mesh.call('Words.tally', { text: 'a rose' })).result);
    })();
    const client = await rawThrift(Number(mesh.mesh.addresses.thrift.split(':').at(-1)));
    closers.push(() => client.destroy());
    const messages: string[] = [];
    for (let n = 1; n <= 16; n++) {
      client.send(frameMessage(1, 'Words:tally', n, args, NOTHING));
      const { type, body } = (await client.count(n))[n - 1] as { type: number; body: Buffer };
      expect(type).toBe(3);
      messages.push(readApplicationException(body).message);
    }
    isOver.abort();
    await neighbor;
    expect(messages[0]).toMatch(/^Words@1\.0\.0\/\d failed while it worked on tally: .* closed the connection/);
    expect(messages[0]).toContain('not sent to another copy');
    for (const message of messages.slice(1))
      expect(message).toMatch(/^Refused tally of thrift 127\.0\.0\.1: .* has cost a copy of Words@1\.0\.0/);
    expect(others.length).toBeGreaterThan(0);
    expect(others.filter((one) => JSON.stringify(one) !== '{"a":1,"rose":1}')).toEqual([]);
    await until('all copies', () => mesh.pool('Words@1.0.0').free === 4);
    expect([mesh.mesh.pids(), mesh.pool('Words@1.0.0').restartsByReason]).toEqual([pids, {}]);
    // The same text from another caller is that caller's affair.
    expect((await mesh.call('Words.tally', { text: 'caf\u00e9' })).result).toEqual({ café: 1 });
    await until('the event', () => mesh.events.some(({ kind }) => kind === 'call_refused'));
    const [refused] = mesh.events.filter(({ kind }) => kind === 'call_refused');
    expect(refused?.subject).toBe('Words@1.0.0');
    expect(refused?.text).toMatch(/^tally of thrift 127\.0\.0\.1 with arguments .* are refused for 10 s$/);
    expect(mesh.pool('Words@1.0.0').suspects).toMatchObject([
      { method: 'tally', caller: 'thrift 127.0.0.1', losses: 1, doubts: 0, refused: 15 },
    ]);
    const stats = await (await fetch(`${mesh.mesh.addresses.stats}/metrics`)).text();
    expect(stats).toMatch(/katamari_pool_suspect_calls\{[^}]*Words@1\.0\.0[^}]*\} 1\n/);
  });

  test('is connected again when it closes idle connections, and is not restarted', async () => {
    await startPlain({ count: 2 }, { IDLE_S: '0.3' });
    const pids = mesh.mesh.pids();
    const accepted = (): number => mesh.lines.filter((line) => line.endsWith('accepted')).length;
    await until('ten closed connections', () => accepted() > 12);
    expect([mesh.mesh.pids(), mesh.pool('Plain@1.0.0').restartsByReason]).toEqual([pids, {}]);
    for (let n = 0; n < 20; n++) expect((await mesh.call('Plain.pid')).result).toBeGreaterThan(0);
    expect(mesh.pool('Plain@1.0.0').alive).toBe(2);
  });
});

describe('A oneway call that a plain server works on', () => {
  test('keeps no call waiting while another copy is free', async () => {
    await startPlain({ count: 4 });
    expect((await mesh.call('Plain.rest', { seconds: 3 })).error).toBeUndefined();
    const [, worker] = await until('it to run', () => /rests (\d+)$/.exec(mesh.lines.join('\n')));
    for (let n = 0; n < 12; n++) expect((await mesh.call('Plain.pid')).result).not.toBe(Number(worker));
    expect(mesh.lines.some((line) => line.endsWith(`rested ${worker}`))).toBe(false);
    await until('it to end', () => mesh.lines.some((line) => line.endsWith(`rested ${worker}`)));
    expect(mesh.pool('Plain@1.0.0').restartsByReason).toEqual({});
  });

  test('is no hang, however long it takes: neither for a call behind it nor for a health check', async () => {
    const hurry = { pingEvery: '100ms', pingTimeout: '300ms', hangGrace: '100ms' };
    await startPlain({ count: 1, healthCheck: 'ready', ...hurry });
    const [pid] = mesh.mesh.pids();
    await mesh.call('Plain.rest', { seconds: 3 });
    await until('it to run', () => mesh.lines.some((line) => line.endsWith(`rests ${pid}`)));
    const late = await mesh.call('Plain.pid', {}, { 'katamari-timeout-ms': '200' });
    expect(late.error?.data).toMatchObject({ code: 'timeout' });
    await until('it to end', () => mesh.lines.some((line) => line.endsWith(`rested ${pid}`)));
    expect((await mesh.call('Plain.pid')).result).toBe(pid);
    expect(mesh.pool('Plain@1.0.0').restartsByReason).toEqual({});
  });
});

describe('A oneway call over HTTP', () => {
  test('is answered when it is accepted, by JSON-RPC and by Thrift over HTTP', async () => {
    await startLimits({ count: 1 });
    expect((await mesh.call('Limits.slow', { ms: 1_500 })).result).toBeNull();
    expect(mesh.ledger().filter((line) => line.startsWith('slow-ends'))).toEqual([]);
    await until('its end', () => mesh.ledger().some((line) => line.startsWith('slow-ends')));
    const message = frameMessage(4, 'Limits:slow', 7, Buffer.of(8, 0, 1, 0, 0, 5, 220, 0), NOTHING).subarray(4);
    const [host, port] = mesh.mesh.addresses.thrift.split(':');
    const answer = await fetch(`http://${host}:${port}/`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-thrift' },
      body: message,
    });
    expect([answer.status, (await answer.arrayBuffer()).byteLength]).toEqual([200, 0]);
    expect(mesh.ledger().filter((line) => line.startsWith('slow-ends')).length).toBe(1);
    await until('its end', () => mesh.ledger().filter((line) => line.startsWith('slow-ends')).length === 2);
    expect(mesh.pool('Limits@1.0.0').restartsByReason).toEqual({});
  });
});

describe('A call that costs a chassis its life', () => {
  // Deno goes on after a SIGSEGV that it sends itself.
  test.each(runtimeName() === 'deno' ? ['exit'] : ['exit', 'SIGSEGV'])(
    'is neither retried nor run again (%s), although it is idempotent',
    async (how) => {
      await startLimits({ count: 3 });
      const first = await mesh.call('Limits.crash', { how });
      expect([first.status, first.error?.data]).toEqual([502, { code: 'resource_failed', isSuspect: true }]);
      for (let n = 0; n < 5; n++) {
        const again = await mesh.call('Limits.crash', { how });
        expect([again.status, again.error?.code, again.error?.data?.['code']]).toEqual([
          422,
          -32_010,
          'refused_as_poison',
        ]);
        expect(again.error?.data?.['retryAfterMs']).toBeGreaterThan(0);
        expect(Number(again.headers.get('retry-after'))).toBeGreaterThan(0);
      }
      expect(mesh.ledger().length).toBe(1);
      expect((await mesh.call('Limits.pid')).result).toBeGreaterThan(0);
      await until('a new copy', () => mesh.pool('Limits@1.0.0').alive === 3);
      expect(mesh.pool('Limits@1.0.0').restartsByReason).toEqual({ crashed: 1 });
    },
  );

  test('is tried on another copy when the process was killed from outside, until that happens twice', async () => {
    await startLimits({ count: 4 });
    const answer = await mesh.call('Limits.crash', { how: 'SIGKILL' });
    expect(answer.error?.data).toEqual({ code: 'resource_failed', isSuspect: true });
    expect(mesh.ledger().length).toBe(2);
    expect((await mesh.call('Limits.crash', { how: 'SIGKILL' })).error?.data?.['code']).toBe('refused_as_poison');
    expect(mesh.ledger().length).toBe(2);
  });

  test('is refused after a hang too', async () => {
    await startLimits({ count: 1, hangGrace: '100ms' });
    const hung = await mesh.call('Limits.crash', { how: 'hang' }, { 'katamari-timeout-ms': '200' });
    expect(hung.error?.data).toMatchObject({ code: 'timeout', stage: 'service' });
    await until('it to be replaced', () => mesh.pool('Limits@1.0.0').restartsByReason.hung === 1);
    await until('a new copy', () => mesh.pool('Limits@1.0.0').alive === 1);
    expect((await mesh.call('Limits.crash', { how: 'hang' })).error?.data?.['code']).toBe('refused_as_poison');
  });

  test('condemns no neighbor: each of them is refused only when it is there twice', async () => {
    await startLimits({ count: 1, env: { LIMITS_CONCURRENCY: '8' } });
    const round = async (n: number): Promise<unknown[]> => {
      const before = mesh.ledger().length;
      const naps = [1, 2].map((ms) => mesh.call('Limits.nap', { ms: 20_000 + n * 10 + ms }));
      await until('the neighbors', () => mesh.ledger().length === before + 2);
      const ends = await Promise.all([...naps, mesh.call('Limits.crash', { how: 'exit' })]);
      await until('a new copy', () => mesh.pool('Limits@1.0.0').restartsByReason.crashed === n);
      await until('a new copy', () => mesh.pool('Limits@1.0.0').alive === 1);
      return ends.map(({ error }) => error?.data);
    };
    const lost = { code: 'resource_failed', isSuspect: true };
    const suspects = (): [string, number, number][] =>
      (mesh.pool('Limits@1.0.0').suspects ?? []).map(({ method, losses, doubts }) => [method, losses, doubts]);
    expect(await round(1)).toEqual([lost, lost, lost]);
    expect(suspects().toSorted()).toEqual([
      ['crash', 0, 1],
      ['nap', 0, 1],
      ['nap', 0, 1],
    ]);
    expect(await round(2)).toEqual([lost, lost, lost]);
    expect(suspects().filter(([, losses]) => losses > 0)).toEqual([['crash', 1, 1]]);
    // A neighbor may run again.
    expect((await mesh.call('Limits.nap', { ms: 20_011 }, { 'katamari-timeout-ms': '50' })).error?.data).toMatchObject({
      code: 'timeout',
    });
    expect((await mesh.call('Limits.crash', { how: 'exit' })).error?.data?.['code']).toBe('refused_as_poison');
  });
});

describe('A call that hangs beside others', () => {
  test('leaves them to finish, and its process is replaced without a gap', async () => {
    await startLimits({ count: 1, env: { LIMITS_CONCURRENCY: '8' }, hangGrace: '100ms' });
    const [pid] = mesh.mesh.pids();
    const naps = Array.from({ length: 5 }, (_, n) => mesh.call('Limits.nap', { ms: 2_000 + n }));
    await until('the neighbors', () => mesh.ledger().length === 5);
    const hung = await mesh.call('Limits.crash', { how: 'hang' }, { 'katamari-timeout-ms': '100' });
    expect(hung.error?.data).toMatchObject({ code: 'timeout', stage: 'service' });
    expect((await Promise.all(naps)).map(({ result }) => result)).toEqual(Array(5).fill(pid));
    await until('the new process', () => mesh.pool('Limits@1.0.0').restartsByReason.hung === 1);
    expect((await mesh.call('Limits.pid')).result).not.toBe(pid);
    await until('the end of the old one', () => !mesh.mesh.pids().includes(pid as number));
  });
});

async function startLimits(change: object): Promise<void> {
  mesh = await startTestMesh([{ service: 'Limits', version: '1.0.0', command: fixture('limits.ts'), ...change }]);
  await mesh.mesh.whenReady;
}

/** The sample of docs/plain-servers.md. */
async function startWords(): Promise<void> {
  cpSync(path.join(REPOSITORY, 'examples/plain'), directory, { recursive: true });
  execFileSync(toolPath('thrift'), ['--gen', 'py', 'words.thrift'], { cwd: directory });
  mesh = await startTestMesh([
    {
      service: 'Words',
      version: '1.0.0',
      kit: 'none',
      idl: path.join(directory, 'words.thrift'),
      command: ['/usr/bin/python3', 'serve.py', '{port}'],
      cwd: directory,
      transport: 'buffered',
      protocol: 'compact',
      healthCheck: 'ready',
      count: 4,
    },
  ]);
  await mesh.mesh.whenReady;
}

/** A server that takes one connection at a time, says what it does, and may have a read timeout of its own. */
async function startPlain(change: object, env: Readonly<Record<string, string>> = {}): Promise<void> {
  const idl = fileURLToPath(new URL('../fixtures/idl/plain.thrift', import.meta.url));
  cpSync(idl, path.join(directory, 'plain.thrift'), { recursive: true });
  execFileSync(toolPath('thrift'), ['--gen', 'py', 'plain.thrift'], { cwd: directory });
  writeFileSync(path.join(directory, 'server.py'), PLAIN_SERVER);
  mesh = await startTestMesh([
    {
      service: 'Plain',
      version: '1.0.0',
      kit: 'none',
      idl,
      command: ['/usr/bin/python3', '-u', path.join(directory, 'server.py'), '{port}'],
      env: { PYTHONPATH: path.join(directory, 'gen-py'), ...env },
      ...change,
    },
  ]);
  await mesh.mesh.whenReady;
}

const PLAIN_SERVER = `
import os, sys, time
from thrift.transport import TSocket, TTransport
from thrift.protocol import TBinaryProtocol
from thrift.server import TServer
from plain import Plain

class Handler:
    def pid(self):
        return os.getpid()
    def ready(self):
        pass
    def rest(self, seconds):
        print('rests', os.getpid())
        time.sleep(seconds)
        print('rested', os.getpid())

class Listener(TSocket.TServerSocket):
    def accept(self):
        client = super().accept()
        print('accepted')
        if 'IDLE_S' in os.environ:
            client.setTimeout(float(os.environ['IDLE_S']) * 1000)
        return client

TServer.TSimpleServer(
    Plain.Processor(Handler()),
    Listener('127.0.0.1', int(sys.argv[1])),
    TTransport.TFramedTransportFactory(),
    TBinaryProtocol.TBinaryProtocolFactory(),
).serve()
`;

// The client and a whole mesh: requested interfaces, versions, full pools, dying chassis, faceplates that restart
// under load, and TLS.

import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startFixture } from '../faceplates/thrift/fixture.ts';
import { makeAuthority } from '../kit/tools/certificates.ts';
import { exchange, EXCHANGE_IDL } from '../kit/wire/exchange.ts';
import { startTestMesh, work, type TestMesh } from '../kit/mesh/mesh.ts';
import { refusalOf, rejectionOf } from '../kit/tools/rejection.ts';
import { until } from '../kit/tools/wait.ts';
import { connect, type CallOptions, type Mesh } from '../../client/mod.ts';
import { DEFAULT_LIMITS, scriptCommand } from '../../core/mod.ts';
import { StatsTable } from '../../core/rpc/mod.ts';
import { ThriftException } from '../../core/thrift/mod.ts';
import { startThriftFaceplate } from '../../faceplates/thrift/mod.ts';
import { client, type ExchangeCalls } from './fixture.ts';

type Work = Readonly<{
  say: (args: { text: string }, options?: CallOptions) => Promise<string>;
  take: (args: { ms: number }, options?: CallOptions) => Promise<number>;
  takeAgain: (args: { ms: number }, options?: CallOptions) => Promise<number>;
  pid: (args?: object, options?: CallOptions) => Promise<number>;
  die: (args: { status: number }, options?: CallOptions) => Promise<void>;
  sorry: (args: { why: string }, options?: CallOptions) => Promise<void>;
  note: (args: { line: string }, options?: CallOptions) => Promise<void>;
  big: (args: { value: bigint }, options?: CallOptions) => Promise<bigint>;
  ask: (args: { service: string; text: string }, options?: CallOptions) => Promise<string>;
}>;

describe('A client of a whole mesh', () => {
  let mesh: TestMesh;
  let own: Mesh;
  let calls: Work;

  beforeAll(async () => {
    mesh = await startTestMesh(
      [work({ count: 1, queue: { max: 2 } }), work({ version: '2.0.0', count: 1, queue: { max: 2 } })],
      { routes: { Work: { weights: { '1.0.0': 50, '2.0.0': 50 } } } },
    );
    await mesh.mesh.whenReady;
    own = connect({ addresses: mesh.mesh.addresses.thrift });
    calls = own.service<Work>('Work');
  });
  afterAll(async () => {
    own.close();
    await mesh.end();
  });

  const pidOf = (version: string): Promise<number> => calls.pid({}, { version });

  test('requests the interface of a service once, and calls it', async () => {
    const { mesh: first } = client(mesh.mesh.addresses.thrift);
    const asked = first.service<Work>('Work');
    expect(await Promise.all([asked.say({ text: 'a' }), asked.big({ value: 2n ** 60n })])).toEqual([
      'a',
      2n ** 60n + 1n,
    ]);
    expect(first.stats()).toMatchObject({ sent: 3, answered: 3 });
    await asked.note({ line: 'a client was here' });
    await until('the note', () => mesh.ledger().some((line) => line.startsWith('note a client was here')));
    expect(await rejectionOf(asked.sorry({ why: 'no' }))).toBeInstanceOf(ThriftException);
  });

  test('learns from the first call that a service, method or version does not exist', async () => {
    const nobody = await refusalOf(own.service<Work>('Nobody').say({ text: 'x' }));
    expect([nobody.code, nobody.message]).toEqual(['no_pool', 'No pool offers Nobody']);
    const nothing = await refusalOf(own.service<{ jump: () => Promise<void> }>('Work').jump());
    expect([nothing.code, nothing.message]).toEqual([
      'no_pool',
      expect.stringMatching(/^Work has no method "jump"; it has say, /),
    ]);
    const none = await refusalOf(calls.say({ text: 'x' }, { version: '^3' }));
    expect([none.code, none.message]).toEqual(['no_pool', 'No pool offers Work@^3']);
    expect((await refusalOf(calls.say({ text: 7 as unknown as string }))).message).toBe('text: expected string, got 7');
  });

  test('gets the requested version, exact or by range', async () => {
    const [one, two] = [await pidOf('1.0.0'), await pidOf('2.0.0')];
    expect(one).not.toBe(two);
    expect([await pidOf('^1'), await pidOf('>=2')]).toEqual([one, two]);
    expect(await own.service<Work>('Work', { version: '2.0.0' }).pid()).toBe(two);
  });

  test('has its calls distributed by the weights of the route, and calls with one key kept together', async () => {
    const [one, two] = [await pidOf('1.0.0'), await pidOf('2.0.0')];
    const pids: number[] = [];
    for (let n = 0; n < 40; n++) pids.push(await calls.pid());
    expect([pids.filter((pid) => pid === one).length, pids.filter((pid) => pid === two).length]).toEqual([20, 20]);
    for (const key of ['ada', 'grace', 'edsger']) {
      const kept = new Set<number>();
      for (let n = 0; n < 10; n++) kept.add(await calls.pid({}, { key }));
      expect(kept.size).toBe(1);
    }
  });

  test('retries calls that a full pool refuses, and every call runs once', async () => {
    const version = '1.0.0';
    const before = mesh.ledger().length;
    const took = await Promise.all(Array.from({ length: 10 }, (_, n) => calls.take({ ms: 20 + n }, { version })));
    expect(took.length).toBe(10);
    expect(own.stats().retried).toBeGreaterThan(0);
    expect(
      mesh
        .ledger()
        .slice(before)
        .map((line) => line.split(' ')[1])
        .sort(),
    ).toEqual(Array.from({ length: 10 }, (_, n) => String(20 + n)));
  });

  test('without retries is told that the pool is full, and when to retry', async () => {
    const { mesh: once } = client(mesh.mesh.addresses.thrift, { retries: false });
    const service = once.service<Work>('Work', { version: '1.0.0' });
    const all = await Promise.allSettled(Array.from({ length: 10 }, () => service.take({ ms: 50 })));
    const refused = all
      .filter((one) => one.status === 'rejected')
      .map(({ reason }) => reason as { code: string; facts: object });
    expect(refused.length).toBeGreaterThan(4);
    for (const { code, facts } of refused) {
      expect([code, facts]).toEqual(['overloaded', { notRun: true, retryAfterMs: expect.any(Number) as number }]);
    }
  });

  test('is told that a chassis died in its call', async () => {
    const error = await refusalOf(calls.die({ status: 3 }, { version: '1.0.0' }));
    expect(error.code).toBe('resource_failed');
    expect(await calls.say({ text: 'again' }, { version: '1.0.0' })).toBe('again');
  });

  test('times out while the mesh is still working on a call', async () => {
    const error = await refusalOf(calls.take({ ms: 400 }, { version: '2.0.0', timeoutMs: 80 }));
    expect([error.code, error.facts.stage]).toEqual(['timeout', 'service']);
  });

  test('lets the process exit when no call is in flight, and not sooner', async () => {
    const script = fileURLToPath(new URL('../fixtures/client/one-call.ts', import.meta.url));
    const [program, ...args] = [...scriptCommand(script), mesh.mesh.addresses.thrift];
    const { stdout } = await promisify(execFile)(program, args, { timeout: 30_000 });
    expect(stdout).toBe('answered 300 ms later\nnothing is left to do\n');
  });
});

describe('Faceplates that are restarted one after the other', () => {
  test('lose no call of a client that knows all of them, and run none twice', async () => {
    const behind = exchange();
    const start = (port: number): ReturnType<typeof startThriftFaceplate> =>
      startThriftFaceplate({
        mesh: behind.mesh,
        callStats: new StatsTable(),
        limits: DEFAULT_LIMITS,
        host: '127.0.0.1',
        port,
      });
    const plates = [await start(0), await start(0)];
    const ports = plates.map(({ port }) => port);
    const { mesh, exchange: service } = client(ports.map((port) => `127.0.0.1:${port}`));
    // Idle except for a call now and then, so that the restart can come at any moment.
    const quiet = client(ports.map((port) => `127.0.0.1:${port}`));
    let isOver = false;
    let made = 0;
    const failures: unknown[] = [];
    const caller = async (calls: ExchangeCalls, pauseMs: number): Promise<void> => {
      while (!isOver) {
        const n = made++;
        try {
          expect(await calls.add({ a: n, b: 1 })).toBe(n + 1);
        } catch (error) {
          failures.push(error);
        }
        await new Promise((resolve) => setTimeout(resolve, pauseMs));
      }
    };
    const callers = [
      ...Array.from({ length: 20 }, () => caller(service, 0)),
      ...Array.from({ length: 2 }, () => caller(quiet.exchange, 150)),
    ];
    for (let round = 0; round < 2; round++) {
      for (const i of [0, 1]) {
        const seen = behind.handled.length;
        await until('calls', () => behind.handled.length > seen + 50);
        await plates[i]?.drain();
        plates[i] = await start(ports[i] as number);
      }
    }
    isOver = true;
    await Promise.all(callers);
    expect(failures).toEqual([]);
    const ran = behind.handled.map(({ args }) => args['a'] as number);
    expect([ran.length, new Set(ran).size]).toEqual([made, made]);
    expect(mesh.stats().reconnects).toBeGreaterThan(0);
    mesh.close();
    quiet.mesh.close();
    await Promise.all(plates.map((plate) => plate.close()));
  });
});

describe('TLS', () => {
  test('is used on request: the client verifies the server, and the server may verify the client', async () => {
    const authority = makeAuthority('client-test');
    const stranger = makeAuthority('somebody else');
    const ca = readFileSync(authority.caFile, 'utf8');
    const server = authority.sign('server');
    const pem = { cert: readFileSync(server.certFile, 'utf8'), key: readFileSync(server.keyFile, 'utf8') };
    const fixture = await startFixture({ tls: { ...pem, ca, isRequired: true } });
    const address = `127.0.0.1:${fixture.faceplate.port}`;
    const sum = (tls: NonNullable<Parameters<typeof connect>[0]['tls']>): Promise<number> =>
      client(address, { tls })
        .mesh.service<ExchangeCalls>('Exchange', { idl: EXCHANGE_IDL })
        .add({ a: 1, b: 2 }, { timeoutMs: 2_000 });
    try {
      expect(await sum({ ca, ...pem })).toBe(3);
      const wrong = await refusalOf(sum({ ca: readFileSync(stranger.caFile, 'utf8'), ...pem }));
      expect([wrong.code, wrong.message]).toEqual([
        'timeout',
        expect.stringMatching(/cannot be reached: .*certificate/i),
      ]);
      const plain = await refusalOf(client(address).exchange.add({ a: 1, b: 2 }, { timeoutMs: 5_000 }));
      expect([plain.code, plain.message]).toEqual([
        'timeout',
        expect.stringContaining('This Thrift port requires TLS'),
      ]);
    } finally {
      await fixture.end();
      authority.close();
      stranger.close();
    }
  });
});

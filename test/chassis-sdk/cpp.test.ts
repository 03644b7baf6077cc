// The C++ kit, built and installed as a user does, in a real mesh: the tour of chassis-sdk/cpp/examples, and the
// service that `katamari conform` tests. Properties that conform checks are not tested again here.

import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CONFORMANCE, CPP_BUILD_MS, CPP_TOUR, cppPrograms, type CppPrograms } from '../kit/tools/cpp-kit.ts';
import { CONTENT_CONFORMANCE, expectContentConformance } from '../kit/tools/content-exam.ts';
import { isAlive, startTestMesh, type TestMesh } from '../kit/mesh/mesh.ts';
import { runKatamari } from '../kit/tools/run.ts';
import { decodeResult, encodeStruct, parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import { Link } from '../../core/link/mod.ts';
import { systemClock } from '../../core/mod.ts';
import { chassisInterface, createCall, EMPTY_STRUCT, type Reply } from '../../core/rpc/mod.ts';
import type { Method } from '../../core/thrift/mod.ts';
import { expectReplyInfo } from '../kit/tools/reply-info-exam.ts';
import { toolPath } from '../kit/tools/tools.ts';
import { until } from '../kit/tools/wait.ts';

let programs: CppPrograms;
let mesh: TestMesh;
beforeAll(async () => {
  programs = await cppPrograms();
  const tour = { service: 'Tour', command: [programs.tour], cwd: CPP_TOUR };
  mesh = await startTestMesh(
    [
      { ...tour, version: '1.0.0', count: 2 },
      { ...tour, version: '2.0.0', env: { TOUR_VERSION: '2.0.0', TOUR_CONCURRENCY: '4' } },
    ],
    { timeout: '10s', routes: { Tour: { weights: { '1.0.0': 1 } } } },
  );
  await mesh.mesh.whenReady;
}, CPP_BUILD_MS);
afterAll(async () => {
  await mesh?.end();
});

const V2 = { 'katamari-version': '2.0.0' };

async function value(
  method: string,
  params: unknown = {},
  headers: Readonly<Record<string, string>> = {},
): Promise<unknown> {
  const { result, error } = await mesh.call(`Tour.${method}`, params, headers);
  if (error !== undefined) throw new Error(error.message);
  return result;
}

const pidOf = async (headers = {}): Promise<number> => ((await value('whoAreYou', {}, headers)) as { pid: number }).pid;

describe('A chassis in C++', () => {
  test('describes itself: details, and an interface with all its includes', async () => {
    const pool = mesh.pool('Tour@2.0.0');
    expect([pool.tags, pool.alive]).toEqual([['sample'], 1]);
    const { result } = await mesh.call('rpc.discover');
    const names = (result as { methods: { name: string }[] }).methods.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['Tour.add', 'Tour.whoAreYou']));
  });

  test('returns values and declared exceptions', async () => {
    expect(await value('add', { a: 2, b: 40 })).toBe(42);
    expect(await value('whoAreYou')).toMatchObject({ resource: expect.stringMatching(/^Tour@1\.0\.0\/[12]$/) });
    expect((await mesh.call('Tour.divide', { dividend: 7, divisor: 0 })).error).toMatchObject({
      code: -32_050,
      data: { exception: 'DivisionByZero', dividend: 7 },
    });
  });

  test('returns an undeclared exception with its message, logs it with its type, and survives', async () => {
    const before = await pidOf();
    const { error } = await mesh.call('Tour.fail', { why: 'the roof fell in' });
    expect(error?.message).toContain('Tour.fail failed: the roof fell in');
    expect(await pidOf()).toBe(before);
    const line = /Tour@1\.0\.0\/\d .* error Tour@1\.0\.0\/\d: fail threw std::runtime_error: the roof fell in$/;
    await until('the line in the log', () => mesh.lines.some((one) => line.test(one)));
  });

  test('runs oneway methods, and its log lines carry its name', async () => {
    await value('note', { text: 'hello' });
    const line = /info Tour@1\.0\.0\/\d: json-rpc 127\.0\.0\.1.* notes: hello$/;
    await until('the line in the log', () => mesh.lines.some((one) => line.test(one)));
  });

  test('gives handlers the caller, the deadline and the trace of a call', async () => {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const facts = await value(
      'facts',
      {},
      {
        traceparent,
        tracestate: 'a=b',
        'katamari-key': 'user-17',
        'katamari-timeout-ms': '5000',
      },
    );
    expect(facts).toMatchObject({
      method: 'facts',
      caller: expect.stringContaining('json-rpc'),
      key: 'user-17',
      tracestate: 'a=b',
      traceparent: expect.stringContaining('0af7651916cd43dd8448eb211c80319c'),
      attempt: 0,
    });
    const { timeLeftMs } = facts as { timeLeftMs: number };
    expect(timeLeftMs > 0 && timeLeftMs <= 5000).toBe(true);
  });

  test('calls other services through generated clients', async () => {
    expect(await value('sum', { numbers: [1, 2, 3], version: '2.0.0' })).toBe(6);
    expect(await value('sum', { numbers: [-1, 50], version: '1.0.0' }, V2)).toBe(49);
  });

  test('gets the errors of the mesh for such calls', async () => {
    const { error } = await mesh.call('Tour.sum', { numbers: [1], version: '3.0.0' });
    expect(error?.message).toMatch(/Tour\.sum failed: No pool offers Tour@3\.0\.0/);
    const line = / warning Tour@1\.0\.0\/\d: sum failed: no_pool: No pool offers Tour@3\.0\.0/;
    await until('the line in the log', () => mesh.lines.some((one) => line.test(one)));
    expect(mesh.lines.some((one) => one.includes('sum threw'))).toBe(false);
  });

  test('times out a call that waits for its own pool', async () => {
    const working = mesh.call('Tour.work', { ms: 60_000 }, { 'katamari-timeout-ms': '1500' });
    await until('one copy to work', () => mesh.pool('Tour@1.0.0').free === 1);
    const { error } = await mesh.call('Tour.sum', { numbers: [1], version: '1.0.0' }, { 'katamari-timeout-ms': '600' });
    expect(error?.message).toContain('Tour.sum failed: ');
    // The running handler checks whether its call is cancelled and ends, so it does not count as hung.
    await working;
    await until('both to be free again', () => mesh.pool('Tour@1.0.0').free === 2);
    expect(mesh.pool('Tour@1.0.0').restartsByReason).toEqual({});
  });

  test('runs as many concurrent calls as it declares', async () => {
    const calls = [1, 2, 3, 4].map(() => mesh.call('Tour.work', { ms: 1_000 }, V2));
    await until('four calls in one process', () => mesh.pool('Tour@2.0.0').resources[0]?.inFlight === 4);
    expect((await Promise.all(calls)).map(({ result }) => result)).toEqual([true, true, true, true]);
  });

  test('is replaced on request of a handler, after the reply', async () => {
    const before = await pidOf(V2);
    expect(await value('lastWords', {}, V2)).toBe('That was all.');
    await until('its end', () => !isAlive(before));
    await until('the next one', () => mesh.pool('Tour@2.0.0').alive === 1);
    expect(await pidOf(V2)).not.toBe(before);
    expect(mesh.pool('Tour@2.0.0').restartsByReason).toEqual({ retired: 1 });
  });

  test('is replaced after a SIGTERM', async () => {
    const before = await pidOf(V2);
    process.kill(before, 'SIGTERM');
    await until('its end', () => !isAlive(before));
    await until('the next one', () => mesh.pool('Tour@2.0.0').alive === 1);
    expect(await pidOf(V2)).not.toBe(before);
  });
});

/** A connection; undefined while nothing listens there. */
function connectedTo(path: string): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => resolve(socket));
    socket.once('error', () => resolve(undefined));
  });
}

describe('The C++ kit', () => {
  test.each(['1', '4'])(
    'conforms with concurrency %s',
    async (concurrency) => {
      const { code, stdout, stderr } = await runKatamari(['conform', '--tcp', '--', programs.conformance], {
        env: { CONFORMANCE_IDL: CONFORMANCE, CONFORMANCE_CONCURRENCY: concurrency },
      });
      expect([code, /(\d+) checks, \1 ok\.\n$/.test(stdout) || stdout + stderr]).toEqual([0, true]);
    },
    120_000,
  );

  test.each(['1', '3'])(
    'conforms as a content server with concurrency %s',
    (concurrency) =>
      expectContentConformance([programs.contentConformance], concurrency, { CONFORMANCE_IDL: CONTENT_CONFORMANCE }),
    120_000,
  );

  test('is an ordinary framed server on 127.0.0.1:9095 when it is started manually', async () => {
    // In a network namespace of its own, because the port may be taken here.
    const script = 'ip link set lo up && exec "$0"';
    const own = process.getuid?.() === 0 ? '-n' : '-rn';
    const child = spawn(toolPath('unshare'), [own, '/bin/sh', '-c', script, programs.tour], { cwd: CPP_TOUR });
    let said = '';
    child.stdout.on('data', (part: Buffer) => (said += part.toString()));
    child.stderr.on('data', (part: Buffer) => (said += part.toString()));
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    try {
      await until('it to speak', () => said.includes('\n'));
      expect(said).toBe('Tour@1.0.0 listens on tcp:127.0.0.1:9095 (framed Thrift)\n');
    } finally {
      process.kill(child.pid as number, 'SIGTERM');
    }
    expect(await ended).toBe(0);
  });

  /** Linked to a program like its manager, while `use` runs. */
  async function linked(
    program: string,
    env: Readonly<Record<string, string>>,
    use: (call: (method: string, args: Uint8Array) => Promise<Reply>, child: ChildProcess) => Promise<void>,
  ): Promise<void> {
    const folder = mkdtempSync(path.join(tmpdir(), 'katamari-cpp-'));
    const socket = path.join(folder, 'sock');
    const child = spawn(program, [], {
      cwd: CPP_TOUR,
      env: { ...env, KATAMARI_LISTEN: `unix:${socket}`, KATAMARI_LIFELINE: 'stdin' },
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    try {
      const connected = await until('it to listen', () => connectedTo(socket));
      const limits = { frameBytesMax: 64 * 2 ** 20, nestingMax: 1_000 };
      const link = new Link(connected, { peer: 'the chassis', limits });
      await use((method, args) => {
        const deadlineMs = systemClock.nowMs() + 60_000;
        return link.dispatch(systemClock)(createCall({ service: '', method, args, deadlineMs }));
      }, child);
      link.close();
    } finally {
      child.kill('SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    }
  }

  test('tells handlers the facts about replies to their calls', async () => {
    await expectReplyInfo([programs.conformance], { CONFORMANCE_IDL: CONFORMANCE });
  });

  test('describes every configured property', async () => {
    await linked(programs.conformance, { CONFORMANCE_IDL: CONFORMANCE, CONFORMANCE_CONCURRENCY: '3' }, async (call) => {
      const describe = chassisInterface().methods.get('describe') as Method;
      const { body } = await call('katamari.Chassis:describe', EMPTY_STRUCT);
      expect(decodeResult(describe, body)).toEqual({
        ok: true,
        value: {
          serviceName: 'Conformance',
          version: '1.0.0',
          roles: ['exam'],
          tags: ['cpp', 'fixture'],
          more: { language: 'C++' },
          idlMain: 'conformance.thrift',
          idlFiles: { 'conformance.thrift': readFileSync(CONFORMANCE, 'utf8') },
          concurrency: 3,
          sdk: 'cpp 0.1.0',
        },
      });
    });
  });

  test('finds includes in folders after that of the including file', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'katamari-cpp-includes-'));
    const files = {
      'idl/main.thrift': 'include "deep/a.thrift"\nservice Conformance {}',
      'idl/b.thrift': 'wrong',
      'one/deep/a.thrift': 'include "b.thrift" include "../a.thrift"',
      'one/a.thrift': '',
      'one/b.thrift': 'include "c.thrift" include "../outside.thrift"',
      'one/c.thrift': '',
      'outside.thrift': '',
    };
    try {
      for (const [name, text] of Object.entries(files)) {
        mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
        writeFileSync(path.join(folder, name), text);
      }
      const env = {
        CONFORMANCE_IDL: path.join(folder, 'idl', 'main.thrift'),
        CONFORMANCE_INCLUDES: path.join(folder, 'one'),
      };
      await linked(programs.conformance, env, async (call) => {
        const describe = chassisInterface().methods.get('describe') as Method;
        const { value } = decodeResult(describe, (await call('katamari.Chassis:describe', EMPTY_STRUCT)).body) as {
          value: { idlFiles: Readonly<Record<string, string>> };
        };
        expect(Object.keys(value.idlFiles).sort()).toEqual([
          '-I2/../outside.thrift',
          '-I2/a.thrift',
          '-I2/b.thrift',
          '-I2/c.thrift',
          '-I2/deep/a.thrift',
          'main.thrift',
        ]);
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('answers pings while its only thread is busy, and still ends with its manager', async () => {
    await linked(programs.tour, {}, async (call, child) => {
      const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
      let isAnswered = false;
      // work(1: i32 ms = 1,000,000)
      const answered = call('work', Buffer.from('080001000f424000', 'hex')).finally(() => (isAnswered = true));
      answered.catch(() => undefined);
      expect((await call('katamari.Chassis:ping', EMPTY_STRUCT)).isException).toBe(false);
      expect(isAnswered).toBe(false);
      child.stdin?.end();
      expect(await ended).toBe(0);
    });
  });

  test('has the limits of the mesh; what is beyond them costs its own call', async () => {
    const method = parseIdl(readIdlFile(CONFORMANCE)).services.get('Conformance')?.methods.get('echoBinary') as Method;
    const blob = (bytes: number): Buffer => encodeStruct(method.args, { value: Buffer.alloc(bytes, 'x') });
    const deep = (levels: number): Buffer =>
      Buffer.concat([Buffer.from('0c0063'.repeat(levels), 'hex'), Buffer.alloc(levels + 1)]);
    const limits = { KATAMARI_FRAME_BYTES_MAX: '20000000', KATAMARI_NESTING_MAX: '200' };
    await linked(programs.conformance, { CONFORMANCE_IDL: CONFORMANCE, ...limits }, async (call) => {
      const working = call('work', Buffer.from('080001000001f400', 'hex'));
      // Head with the name `echoBinary`, field head, length, stop byte.
      const most = 20_000_000 - (12 + 10) - (3 + 4 + 1);
      const [fits, above, oversized, nested, tooDeep] = await Promise.allSettled([
        call('echoBinary', blob(most)),
        call('echoBinary', blob(most + 1)),
        call('echoBinary', blob(22_000_000)),
        call('nothing', deep(150)),
        call('nothing', deep(210)),
      ]);
      expect(fits.status === 'fulfilled' && fits.value.body.length).toBe(most + 8);
      expect(above).toMatchObject({
        reason: {
          code: 'too_large',
          message:
            'Conformance.echoBinary failed: its result has 20000001 bytes, limit is 20000000; return less at once',
        },
      });
      expect(oversized).toMatchObject({ reason: { code: 'too_large', facts: { notRun: true } } });
      expect(nested).toMatchObject({ value: { isException: false } });
      expect(tooDeep).toMatchObject({ value: { isException: true } });
      expect((await working).isException).toBe(false);
    });
  });

  const start = (env: Readonly<Record<string, string>>): Promise<{ code: number | null; said: string }> =>
    new Promise((resolve) => {
      const child = spawn(programs.conformance, [], { cwd: CPP_TOUR, env });
      let said = '';
      child.stderr.on('data', (part: Buffer) => (said += part.toString()));
      child.once('close', (code) => resolve({ code, said }));
    });

  test.each([
    [
      'an IDL file that is not there',
      { CONFORMANCE_IDL: 'missing.thrift' },
      'Cannot read the IDL file "missing.thrift"',
    ],
    [
      'an IDL without its service',
      { CONFORMANCE_IDL: 'tour.thrift' },
      'tour.thrift has no service "Conformance"; it has Tour',
    ],
    [
      'an address that is none',
      { KATAMARI_LISTEN: 'somewhere' },
      '"somewhere" is not an address; expected unix:PATH or tcp:HOST:PORT',
    ],
    [
      'a place to listen that is none',
      { KATAMARI_LISTEN: 'unix:/nowhere/sock' },
      'cannot listen on unix:/nowhere/sock',
    ],
    [
      'a limit that is none',
      { KATAMARI_NESTING_MAX: 'deep' },
      'KATAMARI_NESTING_MAX is "deep", expected a whole number above 0',
    ],
    ['no call at a time', { CONFORMANCE_CONCURRENCY: '0' }, 'concurrency is 0; it must be at least 1'],
  ])('says why it cannot start: %s', async (_what, env, why) => {
    const { code, said } = await start({ CONFORMANCE_IDL: CONFORMANCE, ...env });
    expect([code, said.includes('error Conformance@1.0.0: cannot start: '), said.includes(why)]).toEqual([
      1,
      true,
      true,
    ]);
  });
});

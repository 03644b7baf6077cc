import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { startTestMesh, work, type TestMesh } from '../../../kit/mesh/mesh.ts';
import { startKatamari, type RunResult } from '../../../kit/tools/run.ts';
import { until } from '../../../kit/tools/wait.ts';
import { startRpcServer } from '../rpc-server.ts';
import { runInside, type InsideOptions } from '../run-inside.ts';
import { startScriptedMesh, type ScriptedCall, type ScriptedMesh } from '../thrift-server.ts';
import { FrameReader } from '../../../../core/link/mod.ts';
import { asKatamariError, ERROR_TABLE } from '../../../../core/mod.ts';
import {
  draining,
  halfSent,
  tooManyConnections,
  unknownProtocol,
  wantsTls,
} from '../../../../faceplates/thrift/refusals.ts';
import { failureCodeOf } from '../../../../services/cli/bench/error-codes.ts';

/** Meshes start slowly while all tests run, and one test runner has a default timeout of 5 s. */
const BUSY_MS = 60_000;
const IDL = `
struct Query { 1: required string text, 2: i64 id }
service Search {
  void find(1: string text, 2: i64 id)
  oneway void note(1: string line)
}`;

interface Document {
  readonly endedEarly: boolean;
  readonly versions: readonly Figures[];
  readonly ratios?: Readonly<Record<string, number>>;
  readonly checks: readonly { readonly name: string; readonly holds: boolean }[];
  readonly generator: { readonly cpu: number; readonly lagP99Ms: number };
}

interface Figures {
  readonly version: string;
  readonly calls: number;
  readonly answered: number;
  readonly declaredExceptions: number;
  readonly failed: number;
  readonly errors: Readonly<Record<string, number>>;
  readonly heldBack: number;
  readonly underWayMax: number;
  readonly unfinished: number;
  readonly connectionsLost: number;
  readonly ratePerS: number;
  readonly latencyMs: Readonly<Record<string, number | null>>;
  readonly latencyDistribution: readonly { readonly upToMs: number; readonly calls: number }[];
  readonly rounds?: readonly Figures[];
  readonly mesh: { readonly queueMs: number; readonly serviceMs: number } | null;
}

let directory = '';
let real: TestMesh;
beforeAll(async () => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'katamari-bench-'));
  real = await startTestMesh([
    work({ version: '1.0.0', count: 2, queue: { max: 2 }, hangGrace: '200ms' }),
    work({ version: '2.0.0', count: 1 }),
  ]);
  await real.mesh.whenReady;
}, BUSY_MS);
afterAll(async () => {
  await real.end();
  rmSync(directory, { recursive: true });
}, BUSY_MS);

let scripted: ScriptedMesh | undefined;
afterEach(async () => {
  await scripted?.close();
  scripted = undefined;
});

const run = (args: readonly string[], options: Partial<InsideOptions> = {}): Promise<RunResult> =>
  runInside(['bench', ...args], { cwd: directory, env: { HOME: directory }, ...options });

/** Against a scripted server. */
async function runScripted(
  onCall: (call: ScriptedCall) => void,
  args: readonly string[],
  options: Partial<InsideOptions> = {},
): Promise<RunResult> {
  await scripted?.close();
  scripted = await startScriptedMesh(IDL, onCall);
  return await run([...args, '--warm-up', '0', ...scripted.words], options);
}

/** Against real chassis. */
const runReal = (args: readonly string[], options: Partial<InsideOptions> = {}): Promise<RunResult> =>
  run([...args, '--warm-up', '0.1', '--mesh', real.mesh.addresses.jsonRpc, '--token', real.mesh.adminToken], options);

function documentOf({ code, stdout, stderr }: RunResult): Document & { first: Figures } {
  if (stdout === '') throw new Error(`Ended with ${code}: ${stderr}`);
  const document = JSON.parse(stdout) as Document;
  return { ...document, first: document.versions[0] as Figures };
}

/**
 * Runs a load on the real mesh. On a busy machine the first call can outlast a short load, which then measured
 * nothing: it is run again for twice as long.
 */
async function measure(args: readonly string[], seconds: number): Promise<Document & { first: Figures }> {
  for (let time = seconds; ; time *= 2) {
    const document = documentOf(await runReal([...args, '--json', '--seconds', String(time)]));
    if (document.first.calls > 0) return document;
  }
}

const slowerThan = (ms: number, { answered, latencyDistribution }: Figures): number =>
  answered - (latencyDistribution.filter(({ upToMs }) => upToMs <= ms).at(-1)?.calls ?? 0);

describe('katamari bench with --rate', () => {
  /** Answers at once, except for half a second that begins with its fiftieth call. */
  function stalling(): (call: ScriptedCall) => void {
    let held: ScriptedCall[] | undefined;
    return (call) => {
      if (held !== undefined) held.push(call);
      else call.reply();
      if (call.number !== 50) return;
      const waiting: ScriptedCall[] = (held = []);
      setTimeout(() => {
        held = undefined;
        for (const one of waiting) one.reply();
      }, 500);
    };
  }

  test(
    'counts a stall against every call that was due in it, where waiting callers see one slow call each',
    async () => {
      const load = ['Search.find', 'x', '7', '--seconds', '1.5', '--json'];
      const open = documentOf(await runScripted(stalling(), [...load, '--rate', '200']));
      const closed = documentOf(await runScripted(stalling(), [...load, '--concurrency', '1']));
      expect([open.first.calls, open.first.answered]).toEqual([300, 300]);
      // 100 calls were due in half a second, 60 of them in its first 0.3 s.
      expect(slowerThan(200, open.first)).toBeGreaterThanOrEqual(55);
      expect(slowerThan(200, closed.first)).toBeLessThanOrEqual(3);
      expect(open.first.latencyMs['p99']).toBeGreaterThan(200);
    },
    BUSY_MS,
  );

  test(
    'measures from the instant a call was due although it could not be sent, and reports calls that were never sent',
    async () => {
      // Two calls at a time, 50 ms each: 40 calls a second of 200.
      const answer = (call: ScriptedCall): void => void setTimeout(() => call.reply(), 50);
      const load = ['Search.find', 'x', '7', '--seconds', '1', '--rate', '200', '--in-flight-max', '2'];
      const { first } = documentOf(await runScripted(answer, [...load, '--json']));
      expect(first.calls).toBe(200);
      expect(first.answered + first.failed).toBe(200);
      expect(first.underWayMax).toBe(2);
      expect(first.errors['not_sent']).toBeGreaterThan(100);
      expect(first.heldBack).toBeGreaterThan(10);
      // Few calls were answered within the 50 ms that a call takes.
      expect(slowerThan(100, first)).toBeGreaterThan(first.answered / 2);
      const told = await runScripted(answer, load);
      expect(told.stdout).toMatch(/^sent late, too many in flight +\d+$/m);
      expect(told.stdout).toMatch(
        /calls were sent up to [\d,.]+ ms late, because 2 calls were in flight \(--in-flight-max\)/,
      );
    },
    BUSY_MS,
  );

  test('keeps slow rates', async () => {
    const result = await runScripted(
      (call) => call.reply(),
      ['Search.find', 'x', '7', '--rate', '4', '--seconds', '1', '--json'],
    );
    const { first } = documentOf(result);
    expect([first.calls, first.answered, scripted?.calls]).toEqual([4, 4, 4]);
  });
});

describe('katamari bench', () => {
  test(
    'continues after a connection breaks, and counts the calls lost with it',
    async () => {
      const onCall = (call: ScriptedCall): void => (call.number === 20 ? call.drop() : call.reply());
      const load = ['Search.find', 'x', '7', '--seconds', '0.6', '--concurrency', '4'];
      const { first } = documentOf(await runScripted(onCall, [...load, '--connections', '2', '--json']));
      expect(first.connectionsLost).toBe(1);
      expect(first.errors['connection_lost']).toBeGreaterThanOrEqual(1);
      expect(first.errors['connection_lost']).toBeLessThanOrEqual(2);
      expect(first.answered).toBeGreaterThan(20);
      expect(Object.keys(first.errors)).toEqual(['connection_lost']);
    },
    BUSY_MS,
  );

  test(
    'ends early with a message when the mesh is gone',
    async () => {
      const onCall = (call: ScriptedCall): void => {
        call.reply();
        if (call.number === 20) void scripted?.close();
      };
      const load = ['Search.find', 'x', '7', '--seconds', '60', '--rate', '100', '--json'];
      const document = documentOf(await runScripted(onCall, load));
      scripted = undefined;
      expect(document.endedEarly).toBe(true);
      expect(document.first.errors['no_connection']).toBeGreaterThan(0);
    },
    BUSY_MS,
  );

  test(
    'gives up a call without an answer, or with one that cannot be read',
    async () => {
      const load = ['Search.find', 'x', '7', '--seconds', '0.2', '--concurrency', '1', '--timeout', '100ms', '--json'];
      const silent = await runScripted(() => undefined, load);
      expect(silent.code).toBe(1);
      expect(silent.stderr).toContain('No call was answered.');
      expect(documentOf(silent).first.errors).toEqual({ no_answer: 1 });
      const garbled = await runScripted((call) => (call.number === 1 ? call.garble() : call.reply()), load);
      expect(documentOf(garbled).first.errors).toEqual({ broken_answer: 1 });
    },
    BUSY_MS,
  );

  test('takes the calls of a file in turn, and one call from its own file', async () => {
    writeFileSync(path.join(directory, 'lines.ndjson'), '{"text": "a", "id": 1}\n\n["b", 2]\n{"text": "c", "id": 3}\n');
    writeFileSync(path.join(directory, 'one.json'), '{"text": "whole", "id": 9007199254740993}');
    const seen: string[] = [];
    const note = (call: ScriptedCall): void => {
      seen.push(call.body.toString('latin1', 7, 8) + String(call.body.readBigInt64BE(call.body.length - 9)));
      call.reply();
    };
    const load = ['Search.find', '--rate', '12', '--seconds', '0.5', '--json'];
    await runScripted(note, [...load, '--from', 'lines.ndjson']);
    expect(seen).toEqual(['a1', 'b2', 'c3', 'a1', 'b2', 'c3']);
    seen.length = 0;
    await runScripted(note, ['Search.find', '@one.json', ...load.slice(1)]);
    expect(seen[0]).toBe('w9007199254740993');
  });

  test('sends version, timeout, key and tags with every call', async () => {
    const seen = new Set<string>();
    const note = (call: ScriptedCall): void => {
      seen.add(
        `${call.name} ${(call.text.match(/katamari-[a-z-]+.\w+/g) ?? []).join(' ').replaceAll(/[^\x20-\x7e]/g, '=')}`,
      );
      call.reply();
    };
    const load = ['Search.find', 'x', '7', '--seconds', '0.1', '--concurrency', '2', '--json'];
    await runScripted(note, load);
    await runScripted(note, [...load, '--version', '1.2.0', '--timeout', '2s', '--key', 'user7', '--tags', 'gpu']);
    expect([...seen]).toEqual([
      'Search:find ',
      'Search@1.2.0:find katamari-timeout-ms=2000 katamari-key=user7 katamari-tags=gpu',
    ]);
  });

  test(
    'counts failed calls by the error codes of the mesh',
    async () => {
      const codes = async (args: readonly string[], seconds = 0.4): Promise<string[]> => {
        const { first } = await measure(args, seconds);
        expect(first.calls).toBe(first.answered + first.failed);
        expect(Object.values(first.errors).reduce((sum, count) => sum + count, 0)).toBe(first.failed);
        return Object.keys(first.errors).sort();
      };
      const v1 = ['--version', '1.0.0'];
      expect(await codes(['Work.take', 'ms=50', ...v1, '--concurrency', '8'])).toEqual(['overloaded']);
      expect(await codes(['Work.take', 'ms=250', ...v1, '--concurrency', '1', '--timeout', '100ms'])).toEqual([
        'timeout',
      ]);
      expect(await codes(['Work.undeclared', 'why=x', ...v1, '--concurrency', '1'])).toEqual(['undeclared']);
      // Processes end and start meanwhile, which takes longer on a busy machine.
      // Each call has other arguments; the same one would be refused after its first loss.
      const deaths = Array.from({ length: 200 }, (_, n) => JSON.stringify({ status: n + 3 }));
      writeFileSync(path.join(directory, 'deaths.ndjson'), deaths.join('\n'));
      const die = ['Work.die', '--from', 'deaths.ndjson', ...v1, '--concurrency', '1'];
      expect(await codes(die, 3)).toContain('resource_failed');
      await until('the chassis to be back', () => real.pool('Work@1.0.0').alive === 2, BUSY_MS);
      expect(await codes(['Work.die', 'status=1', ...v1, '--concurrency', '1'])).toContain('refused_as_poison');
      await until('the chassis to be back', () => real.pool('Work@1.0.0').alive === 2, BUSY_MS);
      const waiting = ['Work.take', 'ms=400', '--version', '2.0.0', '--concurrency', '4', '--timeout', '300ms'];
      // Killed in the queue and in service, and refused because the wait would be too long.
      for (const code of await codes(waiting)) expect(['timeout', 'overloaded']).toContain(code);
      await until('the chassis to be back', () => real.pool('Work@2.0.0').alive === 1, BUSY_MS);
    },
    BUSY_MS,
  );

  test(
    'counts declared exceptions as answers, separately',
    async () => {
      const { first } = await measure(['Work.sorry', 'why=x', '--version', '1.0.0', '--concurrency', '1'], 0.2);
      expect(first.answered).toBeGreaterThan(0);
      expect([first.declaredExceptions, first.failed]).toEqual([first.answered, 0]);
    },
    BUSY_MS,
  );

  test(
    'reports the times in queue and in service as the mesh measures them',
    async () => {
      const load = ['Work.take', 'ms=20', '--version', '2.0.0', '--seconds', '0.5', '--concurrency', '2', '--json'];
      const { first, generator } = documentOf(await runReal(load));
      expect(first.mesh?.serviceMs).toBeGreaterThan(15);
      expect(first.mesh?.queueMs).toBeGreaterThan(5);
      expect(generator.cpu).toBeGreaterThan(0);
    },
    BUSY_MS,
  );
});

describe('katamari bench --compare', () => {
  test(
    'alternates between both versions and shows both with their ratio',
    async () => {
      const before = real.ledger().length;
      const load = ['Work.take', 'ms=1', '--compare', '1.0.0,2.0.0', '--seconds', '0.4', '--rate', '50'];
      const result = await runReal([...load, '--json']);
      const { versions, ratios } = documentOf(result);
      expect(versions.map(({ version, calls, rounds }) => [version, calls, rounds?.length])).toEqual([
        ['1.0.0', 20, 4],
        ['2.0.0', 20, 4],
      ]);
      expect(Object.keys(ratios ?? {})).toEqual(['ratePerS', 'p50', 'p90', 'p99', 'p99.9', 'max']);
      // One pool per version; the warm-up counts too.
      const pids = real
        .ledger()
        .slice(before)
        .map((line) => line.split(' ')[2]);
      expect(new Set(pids).size).toBeGreaterThanOrEqual(2);
      const turns = pids.filter((pid, index) => pid !== pids[index - 1]).length;
      expect(turns).toBeGreaterThanOrEqual(5);
      const { stdout } = await runReal(load);
      expect(stdout).toMatch(/^FIGURE +1\.0\.0 +2\.0\.0 +RATIO +IN ROUNDS$/m);
      expect(stdout).toMatch(/^p99 ms +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+ to [\d.]+$/m);
      expect(stdout).toContain('in 4 alternating rounds');
    },
    BUSY_MS,
  );
});

describe('katamari bench on a terminal', () => {
  for (const columns of [80, 120]) {
    test(
      `fits into ${columns} columns, with a bar while it runs and a picture at the end`,
      async () => {
        const load = ['Work.take', 'ms=1', '--compare', '1.0.0,2.0.0', '--seconds', '0.4', '--concurrency', '2'];
        const { code, stdout } = await runReal(load, { screen: [columns, 40] });
        expect(code).toBe(0);
        expect(stdout).toContain('▰');
        const end = stdout.slice(stdout.lastIndexOf('\x1b[J') + 3);
        expect(end).toMatch(/^FIGURE/);
        expect(end).toContain('█');
        expect(end.split('\n').filter((line) => Array.from(line).length > columns)).toEqual([]);
      },
      BUSY_MS,
    );
  }

  test('writes one plain line a second and no escape codes to a pipe', async () => {
    const running = await runScripted(
      (call) => call.reply(),
      ['Search.find', 'x', '7', '--rate', '50', '--seconds', '1.6'],
    );
    expect(running.code).toBe(0);
    expect(running.stdout).not.toContain('\x1b');
    expect(running.stdout).toMatch(/^1 s {2}[\d.]+ calls\/s, p50 [\d.]+ ms, p99 [\d.]+ ms$/m);
  });

  test(
    'ends early on SIGINT and prints the results so far',
    async () => {
      scripted = await startScriptedMesh(IDL, (call) => call.reply());
      const words = ['Search.find', 'x', '7', '--rate', '100', '--seconds', '60', '--warm-up', '0', ...scripted.words];
      const running = startKatamari(['bench', ...words]);
      await running.says(/calls\/s, p50/);
      running.signal('SIGINT');
      const { code, stdout, stderr } = await running.ended;
      expect([code, stderr]).toEqual([0, '']);
      expect(stdout).toContain('Ended early; the figures cover the completed part only.');
      expect(stdout).toMatch(/^answered +\d+$/m);
    },
    BUSY_MS,
  );
});

describe('The checks of katamari bench', () => {
  const load = ['Search.find', 'x', '7', '--rate', '100', '--seconds', '0.5'];
  /** Every tenth call fails. */
  const tenth = (call: ScriptedCall): void =>
    call.number % 10 === 0 ? call.fail('Cannot queue for Search@1.0.0: 4 calls are waiting', 6) : call.reply();

  test(
    '--max-errors exits with 1 when more calls fail',
    async () => {
      const broken = await runScripted(tenth, [...load, '--max-errors', '1%']);
      expect(broken.code).toBe(1);
      expect(broken.stderr).toBe('katamari: 10 % of 50 calls failed, which is more than the 1 % of --max-errors.\n');
      expect(broken.stdout).toMatch(/^ {2}overloaded +5$/m);
      const kept = await runScripted(tenth, [...load, '--max-errors', '10%']);
      expect([kept.code, kept.stderr]).toEqual([0, '']);
      expect(kept.stdout).toContain('ok 10 % of 50 calls failed, within the 10 % of --max-errors');
    },
    BUSY_MS,
  );

  test(
    '--p99 counts a failed call as too slow',
    async () => {
      const broken = await runScripted(tenth, [...load, '--p99', '1h', '--json']);
      expect(broken.code).toBe(1);
      expect(broken.stderr).toContain('90 % of 50 calls were answered within 1h');
      expect(documentOf(broken).checks).toMatchObject([{ name: 'p99', holds: false }]);
      expect((await runScripted((call) => call.reply(), [...load, '--p99', '1h'])).code).toBe(0);
    },
    BUSY_MS,
  );
});

describe('katamari bench about itself', () => {
  test(
    'reports that it was delayed when another process uses its CPU',
    async () => {
      // The server is in this process: while it computes, the event loop is blocked.
      const busy = (call: ScriptedCall): void => {
        const end = performance.now() + 20;
        while (performance.now() < end);
        call.reply();
      };
      const { stdout } = await runScripted(busy, ['Search.find', 'x', '7', '--rate', '100', '--seconds', '0.5']);
      expect(stdout).toMatch(/^This command was (delayed|the bottleneck): /m);
      expect(stdout).toContain('so these figures describe this command at least as much as the mesh');
    },
    BUSY_MS,
  );

  test('recognizes refusals that are hard to provoke by their text', () => {
    const refusals = [wantsTls(), tooManyConnections(5), draining(), halfSent(3, 50), unknownProtocol('HTTP GET')];
    const codes = refusals.map((error) => failureCodeOf(ERROR_TABLE[error.code].thrift, error.message));
    expect(codes).toEqual(refusals.map(({ code }) => code));
    const defect = asKatamariError(new Error('x'));
    expect(failureCodeOf(ERROR_TABLE.internal.thrift, defect.message)).toBe('internal');
    const large = new FrameReader(10, () => undefined);
    let said = '';
    try {
      large.push(Buffer.from([0, 0, 0, 11]));
    } catch (error) {
      said = (error as Error).message;
    }
    expect(failureCodeOf(ERROR_TABLE.too_large.thrift, said)).toBe('too_large');
  });
});

describe('katamari bench refuses', () => {
  const refused = async (args: readonly string[]): Promise<[number | null, string]> => {
    const { code, stdout, stderr } = await runScripted((call) => call.reply(), args);
    expect(stdout).toBe('');
    expect(scripted?.calls).toBe(0);
    return [code, stderr];
  };

  test(
    'an unknown method, and one without replies',
    async () => {
      const [code, stderr] = await refused(['Search.fnd', 'x', '7']);
      expect(code).toBe(1);
      expect(stderr).toContain('has no method "fnd", did you mean "find"?');
      expect((await refused(['Search']))[1]).toContain(
        '"Search" has no method name, expected Search.method\nSearch has:\n  void find',
      );
      expect((await refused(['Search.note', 'x']))[1]).toContain('Search.note is oneway: it gets no reply');
      const unknown = await runReal(['Nowhere.say', 'x']);
      expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringContaining('No pool offers Nowhere')]);
      const version = await runReal(['Work.say', 'x', '--version', '9.0.0']);
      expect(version.stderr).toContain('No pool offers Work@9.0.0: versions here are 1.0.0, 2.0.0');
    },
    BUSY_MS,
  );

  test('arguments that are not JSON or do not fit', async () => {
    writeFileSync(path.join(directory, 'bad.ndjson'), '{"text": "a", "id": 1}\n{"text": \n');
    expect(await refused(['Search.find', '{"text": '])).toEqual([
      2,
      expect.stringContaining('the argument is not JSON'),
    ]);
    expect(await refused(['Search.find', '--from', 'bad.ndjson'])).toEqual([
      2,
      expect.stringContaining('bad.ndjson:2 is not JSON'),
    ]);
    const [code, stderr] = await refused(['Search.find', 'text=x', 'id=seven']);
    expect(code).toBe(2);
    expect(stderr).toMatch(/params\.id: expected i64.*, got "seven"/);
    expect(stderr).toContain('void find(1: string text, 2: i64 id)');
    expect((await refused(['Search.find', '@missing.json']))[1]).toContain('Cannot read missing.json');
  });

  test('a load without limits', async () => {
    const said = async (...args: string[]): Promise<string> => {
      const [code, stderr] = await refused(['Search.find', 'x', '7', ...args]);
      expect(code).toBe(2);
      return stderr;
    };
    expect(await said('--rate', 'unlimited')).toContain(
      'expected calls per second, 0.1 to 1000000; for the maximum rate use --concurrency N',
    );
    expect(await said('--rate', '0')).toContain('--rate: found "0"');
    expect(await said('--rate', '5', '--in-flight-max', '0')).toContain('--in-flight-max: found "0"');
    expect(await said('--rate', '5', '--seconds', '0')).toContain('--seconds: found "0"');
    expect(await said('--rate', '5', '--concurrency', '5')).toContain('found --rate and --concurrency, expected one');
    expect(await said('--concurrency', '4', '--connections', '5')).toContain('expected at most 4');
    expect(await said('--compare', '1.0.0')).toContain('expected two different versions such as 1.0.0,2.0.0');
    expect(await said('--max-errors', '1')).toContain('expected a share such as "1%"');
  });

  test('to guess the address of the mesh', async () => {
    const rpc = await startRpcServer(({ path: asked }) =>
      asked.startsWith('/idl/') ? IDL : { error: { code: 1, message: 'no' } },
    );
    const noPort = await run(['Search.find', 'x', '7', '--mesh', rpc.url]);
    expect(noPort.code).toBe(2);
    expect(noPort.stderr).toContain('set the port with --thrift HOST:PORT, or the token');
    const closed = await run(['Search.find', 'x', '7', '--mesh', rpc.url, '--thrift', '127.0.0.1:1']);
    expect(closed.code).toBe(69);
    expect(closed.stderr).toContain('Cannot open connection 1 of 16 to the Thrift port at 127.0.0.1:1');
    await rpc.close();
    const gone = await run(['Search.find', 'x', '7', '--mesh', rpc.url]);
    expect(gone.code).toBe(69);
    expect(gone.stderr).toContain(`No mesh answers at ${rpc.url}`);
  });
});

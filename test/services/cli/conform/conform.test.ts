// `katamari conform` on correct chassis, and on chassis with one fault each, named for the fault. It must report that
// fault with a helpful message and no other.

import os from 'node:os';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { marked } from '../../../kit/mesh/mesh-process.ts';
import { startKatamari, type RunResult } from '../../../kit/tools/run.ts';
import { scriptCommand } from '../../../../core/mod.ts';
import type { Result, Summary } from '../../../../services/cli/conform/report.ts';
import { until } from '../../../kit/tools/wait.ts';
import { runInside } from '../run-inside.ts';

/** Chassis start slowly on a machine that runs all tests at once. */
const BUSY_MS = 120_000;

/** The fault, the check that finds it, the expected and the actual result. */
const FAULTS: readonly (readonly [fixture: string, check: string, expected: RegExp, came: RegExp])[] = [
  [
    'never-listens',
    'listens',
    /a connection accepted at KATAMARI_LISTEN \(unix:.+\) within 1\.5s/,
    /^nothing listens there, but the process runs/,
  ],
  [
    'dies-at-start',
    'listens',
    /a connection accepted at KATAMARI_LISTEN/,
    /exited with status 3; its last output: no model found$/,
  ],
  ['describes-nothing', 'describe', /^all fields of ChassisDetails$/, /^no details at all$/],
  ['bad-version', 'version', /^a SemVer version such as 1\.4\.0$/, /^"1\.0"$/],
  ['idl-without-service', 'idl', /^service Conformance in other\.thrift$/, /^an IDL with service Other$/],
  [
    'changes-its-mind',
    'describe-same',
    /^the same reply to describe twice$/,
    /^more \[\["asked","1"\]\], then \[\["asked","2"\]\]$/,
  ],
  ['one-connection-only', 'reconnect', /a connection accepted at KATAMARI_LISTEN/, /^nothing listens there/],
  [
    'wrong-sequence-id',
    'sequence-ids',
    /^a reply to echo with sequence id 1$/,
    /^a result with sequence id 100, which was never sent$/,
  ],
  ['short-sequence-id', 'sequence-ids', /with sequence id 65536$/, /^no reply within 4\.0s$/],
  ['answers-twice', 'pipelining', /^one reply to each call$/, /^a second one: an? .*result with sequence id \d+$/],
  ['one-call-a-read', 'pieces', /a ping that arrives in four pieces/, /^the connection was closed$/],
  [
    'context-not-skipped',
    'context-unknown',
    /^a result of katamari\.Chassis:ping with a CallContext with unknown fields/,
    /CallContext has no field 31001/,
  ],
  [
    'context-required',
    'context-absent',
    /^a result of .+ with no context, as in a usual call/,
    /^TApplicationException of type 7/,
  ],
  ['reply-context-last', 'reply-context', /a valid one as first field$/, /^field 32767 is behind other fields/],
  [
    'dies-on-unknown-method',
    'unknown-method',
    /^TApplicationException of type 1 for method/,
    /^the process exited with status 1; its last output: no handler for/,
  ],
  [
    'dies-on-garbage',
    'malformed-arguments',
    /after arguments that end inside a string/,
    /^the process exited with status 1/,
  ],
  [
    'believes-sizes',
    'frames',
    /after a frame with a declared size of 2 GiB, and no memory allocated for it$/,
    /^its memory grew by \d+\.\d MiB$/,
  ],
  [
    'waits-for-frames',
    'frames',
    /after a frame with a declared size of 2 GiB$/,
    /^no reply within 4\.0s, and the connection stays open$/,
  ],
  ['stack-in-message', 'no-stack', /^one line, the message$/, /the roof fell in\\n.*at /],
  [
    'dies-of-exceptions',
    'undeclared-exception',
    /^a reply to collapse$/,
    /^the process exited with status 1; its last output: the roof fell in$/,
  ],
  [
    'declared-as-undeclared',
    'declared-exception',
    /exception Declared .* in field 1$/,
    /^TApplicationException of type 6/,
  ],
  ['oneway-unanswered', 'oneway', /^a reply to note$/, /^no reply within 4\.0s$/],
  ['oneway-answered', 'oneway-message', /^no reply$/, /^an empty result$/],
  [
    'one-after-the-other',
    'concurrency-kept',
    /^the reply to the shortest of 4 calls first, because concurrency is 4$/,
    /one after the other$/,
  ],
  ['keeps-no-line', 'line-kept', /^the reply to the first of two calls first$/, /^the second call overtook it$/],
  ['small-frames', 'large-values', /^a reply to echoBinary$/, /^the connection was closed$/],
  [
    'ignores-limits',
    'limits',
    /^a reply to a call of 32\.5 MiB with a limit of 32 MiB$/,
    /^TApplicationException of type 6/,
  ],
  [
    'closes-on-large',
    'limits-call',
    /^an exception for a call above the limit, and an open connection$/,
    /^the connection was closed$/,
  ],
  [
    'answers-too-large',
    'limits-answer',
    /^an exception with error code 8 \(TOO_LARGE\) in its ReplyContext$/,
    /^an? .*result/,
  ],
  ['rounds-numbers', 'echo', /^large "9223372036854775807"$/, /^large "-9223372036854775808"$/],
  ['forgets-the-trace', 'nested-call', /^a traceparent of trace 4bf92f3577b34da6a3ce929d0e0e4736$/, /^traceparent ""$/],
  ['ignores-drain', 'drain', /^its exit within 4\.0s of drain$/, /^it still runs$/],
  [
    'drops-work',
    'sigterm-busy',
    /^the reply to the call in progress at SIGTERM$/,
    /^the process exited with status 0$/,
  ],
  ['ignores-lifeline', 'lifeline', /of the end of standard input$/, /^it still runs, as an orphan$/],
  [
    'answers-full-name',
    'apache-control',
    /^a reply to katamari\.Chassis:describe that Apache's client accepts$/,
    /^Apache's client failed: Received a response to an unknown RPC function$/,
  ],
  ['retires-in-silence', 'retire', /^a ReplyContext with retire = true in the reply$/, /^none with retire = true$/],
];

interface Outcome {
  readonly code: number | null;
  readonly summary: Summary;
}

const fixture = (name: string): string[] =>
  scriptCommand(fileURLToPath(new URL(`../../../fixtures/chassis/${name}.ts`, import.meta.url)));

const runHere = (options: readonly string[], name: string): Promise<RunResult> =>
  runInside(['conform', ...options, '--', ...fixture(name)], { cwd: os.tmpdir(), env: process.env });

async function conform(name: string, ...options: string[]): Promise<Outcome> {
  const { code, stdout, stderr } = await runHere(['--json', ...options], name);
  if (stderr !== '') throw new Error(stderr);
  return { code, summary: JSON.parse(stdout) as Summary };
}

/** Runs all of them, a few at a time, and returns their promises at once. */
function inTurns<T>(works: readonly (() => Promise<T>)[], atOnce: number): Promise<T>[] {
  const ends: Promise<unknown>[] = [];
  return works.map((work, i) => {
    const begun = (ends[i - atOnce] ?? Promise.resolve()).then(work);
    ends.push(begun.catch(() => undefined));
    return begun;
  });
}

const outcomes = new Map<string, Promise<Outcome>>();
beforeAll(() => {
  const works = FAULTS.map(([name, check]) => {
    const startTimeout = name === 'never-listens' ? '1500ms' : '60s';
    return () => conform(`broken/${name}`, '--timeout', '4s', '--start-timeout', startTimeout, '--only', check);
  });
  for (const [i, run] of inTurns(works, AT_ONCE).entries()) {
    outcomes.set(FAULTS[i]?.[0] ?? '', run);
  }
});
afterAll(() => Promise.allSettled(outcomes.values()));

const AT_ONCE = 3;

const failed = ({ summary }: Outcome): Result[] => summary.checks.filter(({ verdict }) => verdict === 'failed');

describe('katamari conform', () => {
  for (const [name, check, expected, came] of FAULTS) {
    test(
      `finds what is wrong with a chassis that is ${name}`,
      async () => {
        const outcome = (await outcomes.get(name)) as Outcome;
        const [first, ...others] = failed(outcome);
        expect([first?.id, others.map(({ id }) => id)]).toEqual([check, []]);
        expect(first?.expected).toMatch(expected);
        expect(first?.came).toMatch(came);
        expect(first?.advice.length).toBeGreaterThan(20);
        expect([outcome.code, outcome.summary.isConformant]).toEqual([1, false]);
      },
      BUSY_MS,
    );
  }

  for (const name of ['conformance', 'broken/nothing-broken']) {
    test(
      `finds nothing wrong with ${name}.ts, at a Unix socket and over TCP`,
      async () => {
        const outcome = await conform(name, '--tcp', '--start-timeout', '60s');
        expect(failed(outcome)).toEqual([]);
        expect(outcome.summary.counts).toEqual({ ok: outcome.summary.checks.length, failed: 0, skipped: 0 });
        expect(outcome.summary.checks.length).toBeGreaterThan(50);
        expect(outcome.code).toBe(0);
      },
      BUSY_MS,
    );
  }

  test(
    "finds by Apache's client what every other check passes over",
    async () => {
      const outcome = await conform('broken/answers-full-name', '--start-timeout', '60s');
      expect(failed(outcome).map(({ id }) => id)).toEqual(['apache-control']);
      expect(outcome.summary.counts.ok).toBe(outcome.summary.checks.length - 1);
    },
    BUSY_MS,
  );

  test(
    'tests a chassis with any interface, calls only harmless or named methods, and lists them',
    async () => {
      const { code, stdout } = await runHere(
        ['--call', 'Work.say', '{"text": "hello"}', '--call', 'sorry', '--skip', 'pid'],
        'work',
      );
      expect([code, stdout]).toEqual([0, expect.stringContaining('Work@1.0.0 (typescript on ')]);
      expect(stdout).toMatch(/^Called: say, sorry, /m);
      expect(stdout).toMatch(/Not called: .*\bpid\b.*\bdie\b/);
      expect(stdout).toMatch(/^ {2}ok {7}say returns a reply that its interface allows$/m);
      expect(stdout).toMatch(
        /^ {2}ok {7}sorry returns a reply that its interface allows\n {11}replied with its declared exception Sorry$/m,
      );
      expect(stdout).toMatch(
        /^ {2}skipped {2}\d+ checks: these need a chassis that implements .+\n {11}pipelined-values, /m,
      );
    },
    BUSY_MS,
  );

  test(
    'prints a fault with the expected and the actual result and the remedy, in columns and only once',
    async () => {
      const { code, stdout } = await runHere(['--timeout', '4s', '--start-timeout', '60s'], 'broken/wrong-sequence-id');
      expect(code).toBe(1);
      expect(stdout).toContain(
        [
          '  failed   replies have the sequence id of the call',
          '           expected  a reply to echo with sequence id 1',
          '           got       a result with sequence id 100, which was never sent',
          '           fix       copy the sequence id from the head of the call',
        ].join('\n'),
      );
      expect(stdout).toMatch(/ checks: replies cannot be matched to calls; fix the sequence ids first\n/);
      expect(stdout).toMatch(
        /\nConformance@1\.0\.0 \(by hand\) does not conform: \d+ checks, \d+ ok, 1 failed, \d+ skipped\.\n$/,
      );
    },
    BUSY_MS,
  );

  test(
    'names the invalid word of its command line',
    async () => {
      const wrong = async (...options: string[]): Promise<unknown[]> => {
        const { code, stderr } = await runHere(options, 'conformance');
        return [code, stderr];
      };
      expect(await wrong('--timeout', '5')).toEqual([
        2,
        expect.stringContaining('--timeout: found "5", expected a duration with its unit'),
      ]);
      expect(await wrong('--only', 'drian')).toEqual([
        2,
        expect.stringContaining('--only: unknown check "drian", did you mean "drain"?'),
      ]);
      expect(await wrong('--skip', 'ehco')).toEqual([
        2,
        expect.stringContaining('--skip: Conformance has no method "ehco", did you mean "echo"?'),
      ]);
      expect(await wrong('--call', '{}')).toEqual([
        2,
        expect.stringContaining('--call: found {}, expected a method name before it'),
      ]);
      expect(await wrong('--call', 'refuse', '{"why": 1, "number": 2}')).toEqual([
        2,
        expect.stringContaining('--call refuse: params.why: expected string, got 1'),
      ]);
    },
    BUSY_MS,
  );

  test(
    'ends the chassis when it is stopped',
    async () => {
      const mark = `CONFORM_TEST_MARK=${process.pid}-${Date.now()}`;
      const [name = '', value = ''] = mark.split('=');
      const env = { [name]: value };
      const running = startKatamari(['conform', '--', ...fixture('broken/never-listens')], { env });
      // One of them is the command itself.
      await until('the chassis to run', () => marked(mark).length >= 2, BUSY_MS);
      running.signal('SIGTERM');
      const { code } = await running.ended;
      expect([code, marked(mark)]).toEqual([143, []]);
    },
    BUSY_MS,
  );
});

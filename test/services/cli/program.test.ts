import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { runKatamari, startKatamari, type RunOptions, type Running, type RunResult } from '../../kit/tools/run.ts';
import { runInside } from './run-inside.ts';
import { startRpcServer, type Asked, type RpcServer } from './rpc-server.ts';

/** Processes start slowly while all tests run, and one test runner has a default timeout of 5 s. */
const BUSY_MS = 60_000;

let directory = '';
beforeAll(() => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'katamari-cli-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

let server: RpcServer | undefined;
afterEach(async () => {
  // Also when the test fails halfway.
  for (const { child } of started.splice(0)) if (child.exitCode === null) child.kill('SIGKILL');
  await server?.close();
  server = undefined;
});

const seen = async (args: string[], input?: string): Promise<Asked> => {
  server = await startRpcServer(() => ({ result: null }));
  const { code, stderr } = await runHere(['call', ...args, '--mesh', server.url], input);
  expect([code, stderr]).toEqual([0, '']);
  const [asked] = server.asked;
  await server.close();
  return asked as Asked;
};

const event = (seq: number, more: object = {}): object => ({
  seq,
  atMs: 0,
  kind: 'resource_ended',
  subject: 'A@1/1',
  text: `crashed ${seq}`,
  lines: [],
  ...more,
});

const yaml = (text: string): string => {
  const file = path.join(directory, 'doctor.yaml');
  writeFileSync(file, text);
  return file;
};

const args = (...more: string[]): string[] => ['up', '--config', path.join(directory, 'up.yaml'), ...more];

const runHere = (args: string[], input = ''): Promise<RunResult> =>
  runInside(args, { cwd: directory, env: { HOME: directory }, input });

const started: Running[] = [];

function startUp(args: string[], options: RunOptions): Running {
  const running = startKatamari(args, options);
  started.push(running);
  return running;
}

const TOKEN = { KATAMARI_TOKEN: 'abcdefghijklmnopqrst' };

describe('katamari', () => {
  test(
    'prints help with examples for itself and every command',
    async () => {
      const { code, stdout } = await runKatamari(['--help']);
      expect(code).toBe(0);
      const names = [
        'up',
        'status',
        'call',
        'bench',
        'events',
        'top',
        'restart',
        'deploy',
        'scale',
        'undeploy',
        'route',
        'drain',
      ];
      for (const name of [...names, 'undrain', 'config', 'doctor', 'types', 'conform']) {
        expect(stdout).toMatch(new RegExp(`^  ${name} `, 'm'));
        const help = await runHere([name, '--help']);
        expect(help.code).toBe(0);
        expect(help.stdout).toContain(`Usage: katamari ${name}`);
        expect(help.stdout).toContain(`Examples:\n  $ katamari ${name}`);
      }
      expect(stdout).toContain(
        'Exit codes: 0 success, 1 failed, 2 wrong command line, 69 no mesh answers, 78 wrong configuration.',
      );
    },
    BUSY_MS,
  );

  test(
    'suggests a similar command and option, and exits with 2',
    async () => {
      const command = await runKatamari(['statsu']);
      expect(command.code).toBe(2);
      expect(command.stderr).toContain("unknown command 'statsu'");
      expect(command.stderr).toContain('Did you mean status?');
      const option = await runHere(['status', '--verbos']);
      expect(option.code).toBe(2);
      expect(option.stderr).toContain('Did you mean --verbose?');
      expect((await runHere(['call'])).code).toBe(2);
      expect((await runHere([])).code).toBe(2);
    },
    BUSY_MS,
  );

  test(
    'writes no escape codes to a pipe',
    async () => {
      server = await startRpcServer(() => ({ result: [] }));
      const commands = [['--help'], ['config'], ['doctor'], ['events', '--mesh', server.url]];
      const runs = commands.map((args) => runKatamari(args, { env: { ...TOKEN, FORCE_COLOR: '1' } }));
      for (const { stdout, stderr } of await Promise.all(runs)) expect(stdout + stderr).not.toContain('\x1b');
    },
    BUSY_MS,
  );

  test(
    'prints the address it tried when no mesh answers, and exits with 69',
    async () => {
      const gone = await startRpcServer(() => undefined);
      await gone.close();
      const commands = [['call', 'A.b'], ['status'], ['events'], ['restart', 'A']];
      const runs = commands.map((args) => runKatamari(args, { env: { ...TOKEN, KATAMARI_URL: gone.url } }));
      for (const { code, stdout, stderr } of await Promise.all(runs)) {
        expect(code).toBe(69);
        expect(stdout).toBe('');
        expect(stderr).toContain(`No mesh answers at ${gone.url} (KATAMARI_URL): `);
        expect(stderr).toContain('Start one with `katamari up`, or name another mesh with --mesh URL or KATAMARI_URL.');
      }
    },
    BUSY_MS,
  );

  test(
    'does not take a server without JSON-RPC for a mesh',
    async () => {
      server = await startRpcServer(() => '<html>');
      const { code, stderr } = await runKatamari(['call', 'A.b', '--mesh', server.url]);
      expect(code).toBe(69);
      expect(stderr).toContain('answered with HTTP 200 and no JSON-RPC ("<html>")');
    },
    BUSY_MS,
  );

  test(
    'finds the mesh at the address in the configuration',
    async () => {
      server = await startRpcServer(() => ({ result: 42 }));
      writeFileSync(path.join(directory, 'port.yaml'), `ports: { jsonRpc: ${new URL(server.url).port} }\n`);
      const { code, stdout } = await runKatamari(['call', 'A.b', '--config', path.join(directory, 'port.yaml')]);
      expect([code, stdout]).toEqual([0, '42\n']);
    },
    BUSY_MS,
  );
});

describe('katamari config', () => {
  test(
    'prints every value and its source',
    async () => {
      writeFileSync(
        path.join(directory, 'katamari.yaml'),
        'timeout: 3s\ndeployments:\n  - {service: A, version: "1", command: [a]}\n',
      );
      const { code, stdout } = await runKatamari(['config', '--set', 'limits.batch=7'], {
        cwd: directory,
        env: { KATAMARI_HOST: '::1' },
      });
      expect(code).toBe(0);
      expect(stdout).toMatch(/^KEY +VALUE +FROM$/m);
      expect(stdout).toMatch(/^timeout +3s +katamari\.yaml:1$/m);
      expect(stdout).toMatch(/^host +::1 +env KATAMARI_HOST$/m);
      expect(stdout).toMatch(/^limits\.batch +7 +flag --set limits\.batch$/m);
      expect(stdout).toMatch(/^deployments\[0\]\.service +A +katamari\.yaml:3$/m);
      expect(stdout).toMatch(/^deployments\[0\]\.count +1 +default$/m);
    },
    BUSY_MS,
  );

  test(
    'prints one branch, or JSON',
    async () => {
      const branch = await runKatamari(['config', 'ports', '--thrift-port', '0']);
      expect(branch.stdout.trim().split('\n')).toHaveLength(6);
      expect(branch.stdout).toMatch(/^ports\.thrift +0 +flag --thrift-port$/m);
      const json = await runKatamari(['config', 'timeout', '--json']);
      expect(JSON.parse(json.stdout)).toEqual({
        file: null,
        settings: [{ key: 'timeout', value: '10s', from: 'default' }],
        warnings: [],
      });
      const unknown = await runKatamari(['config', 'limts']);
      expect([unknown.code, unknown.stderr]).toEqual([
        2,
        'katamari: "limts" is not a key of the configuration, did you mean "limits"?\n',
      ]);
    },
    BUSY_MS,
  );

  test(
    'exits with 78 and prints the line when the file is wrong',
    async () => {
      writeFileSync(
        path.join(directory, 'wrong.yaml'),
        'deployments:\n  - service: A\n    version: "1"\n    command: [a]\n    cuont: 2\n',
      );
      const { code, stderr } = await runKatamari(['config', '--config', 'wrong.yaml'], { cwd: directory });
      expect([code, stderr]).toEqual([
        78,
        'katamari: wrong.yaml:5: deployments[0].cuont: unknown key, did you mean "count"?\n',
      ]);
    },
    BUSY_MS,
  );
});

describe('katamari call', () => {
  test(
    'takes arguments by name, by position, as JSON and from standard input',
    async () => {
      expect(await seen(['Calculator.add', 'num1=2', 'num2=40'])).toMatchObject({
        path: '/rpc',
        method: 'Calculator.add',
        params: { num1: 2, num2: 40 },
      });
      expect(await seen(['Calculator@1.0.0-rc.1.add', '2', '-40'])).toMatchObject({
        method: 'Calculator@1.0.0-rc.1.add',
        params: [2, -40],
      });
      expect((await seen(['E.say', 'text=hello world', 'flag=true', 'list=[1,2]', 'version="1"'])).params).toEqual({
        text: 'hello world',
        flag: true,
        list: [1, 2],
        version: '1',
      });
      expect((await seen(['E.say', '{"a": {"b": 1}}'])).params).toEqual({ a: { b: 1 } });
      expect((await seen(['E.say', '[1, "x"]'])).params).toEqual([1, 'x']);
      expect((await seen(['E.say', '-'], '{"a": 1}\n')).params).toEqual({ a: 1 });
      expect((await seen(['E.ping'])).params).toBe(undefined);
    },
    BUSY_MS,
  );

  test(
    'keeps every digit of a large number',
    async () => {
      expect((await seen(['E.say', '{"n": 12345678901234567890}'])).text).toContain('"n": 12345678901234567890');
      expect((await seen(['E.say', 'n=12345678901234567890'])).params).toEqual({ n: '12345678901234567890' });
    },
    BUSY_MS,
  );

  test(
    'sends timeout, tags, key and coverage as headers',
    async () => {
      const { headers } = await seen([
        'E.say',
        '--timeout',
        '2s',
        '--tags',
        'a,b',
        '--key',
        'user 7',
        '--min-coverage',
        '0.9',
      ]);
      expect(headers['katamari-timeout-ms']).toBe('2000');
      expect(headers['katamari-tags']).toBe('a,b');
      expect(headers['katamari-key']).toBe('user 7');
      expect(headers['katamari-min-coverage']).toBe('0.9');
    },
    BUSY_MS,
  );

  test(
    'prints the result as JSON, one a line when repeated, and the version that answered on request',
    async () => {
      server = await startRpcServer(() => ({ result: { a: [1] } }), {
        'katamari-version': '2.0.0',
        'katamari-coverage': '39/40',
        'katamari-missing': 'wiki@2.0.0/part-00007 TIMED_OUT',
        'server-timing': 'queue;dur=0.066479, service;dur=5.528674999999566',
      });
      const once = await runKatamari(['call', 'E.say', '--mesh', server.url, '-v']);
      expect(once.stdout).toBe('{\n  "a": [\n    1\n  ]\n}\n');
      expect(once.stderr).toBe(
        'version 2.0.0, shards 39/40, missing wiki@2.0.0/part-00007 TIMED_OUT, queue 0.1 ms, service 5.5 ms\n',
      );
      expect((await runKatamari(['call', 'E.say', '--mesh', server.url, '--repeat', '3'])).stdout).toBe(
        '{"a":[1]}\n'.repeat(3),
      );
    },
    BUSY_MS,
  );

  test(
    'reads arguments from the standard input of its process',
    async () => {
      server = await startRpcServer(({ params }) => ({ result: params }));
      const { code, stdout } = await runKatamari(['call', 'E.say', '-', '--mesh', server.url], { input: '{"é": 1}\n' });
      expect([code, JSON.parse(stdout)]).toEqual([0, { é: 1 }]);
    },
    BUSY_MS,
  );

  test(
    'prints a declared exception readably and exits with 1',
    async () => {
      server = await startRpcServer(() => ({
        error: { code: -32050, message: 'x', data: { exception: 'InvalidOperation', whatOp: 4, why: 'by 0' } },
      }));
      const { code, stdout, stderr } = await runKatamari(['call', 'Calculator.calculate', '--mesh', server.url]);
      expect([code, stdout]).toEqual([1, '']);
      expect(stderr).toBe('Calculator.calculate threw InvalidOperation {"whatOp":4,"why":"by 0"}\n');
    },
    BUSY_MS,
  );

  test(
    'says when to try again, and removes control characters from an answer',
    async () => {
      server = await startRpcServer(() => ({
        error: { code: -32002, message: 'Queue \x1b[2Jis full', data: { retryAfterMs: 120 } },
      }));
      const { code, stderr } = await runKatamari(['call', 'A.b', '--mesh', server.url]);
      expect([code, stderr]).toEqual([1, 'Queue is full (-32002)\nTry again in 120 ms.\n']);
    },
    BUSY_MS,
  );

  test(
    'shows the signature and an example when the arguments were wrong',
    async () => {
      const idl =
        'enum Op { ADD = 1, SUB = 2 }\nstruct Work { 1: i32 num1 = 0, 2: Op op, 3: optional string note }\nexception Bad { 1: string why }\nservice Calculator {\n  i32 calculate(1: i32 logid, 2: Work w) throws (1: Bad bad)\n}\n';
      server = await startRpcServer(({ path }) =>
        path.startsWith('/idl/Calculator.thrift')
          ? idl
          : { error: { code: -32602, message: 'params.logid: expected i32, got "x"' } },
      );
      const { code, stderr } = await runKatamari(['call', 'Calculator.calculate', 'logid=x', '--mesh', server.url]);
      expect(code).toBe(1);
      expect(stderr).toContain('params.logid: expected i32, got "x" (-32602)');
      expect(stderr).toContain('i32 calculate(1: i32 logid, 2: Work w) throws Bad');
      expect(stderr).toContain('  struct Work { 1: i32 num1, 2: Op op, 3: optional string note }');
      expect(stderr).toContain('  enum Op { ADD = 1, SUB = 2 }');
      expect(stderr).toContain(`For example: katamari call Calculator.calculate logid=2 w='{"num1":40,"op":"ADD"}'`);
      const none = await runKatamari(['call', 'Calculator', '--mesh', server.url]);
      expect(none.code).toBe(2);
      expect(none.stderr).toContain('"Calculator" has no method name, expected Calculator.method');
      expect(none.stderr).toContain('  i32 calculate(1: i32 logid, 2: Work w) throws Bad');
    },
    BUSY_MS,
  );

  test(
    'refuses invalid arguments before it calls the mesh',
    async () => {
      server = await startRpcServer(() => ({ result: 1 }));
      const refusals: readonly [string[], string][] = [
        [['A.b', '{"a": '], 'the argument is not JSON'],
        [['A.b', 'a=1', '2'], 'found "2" beside key=value pairs, expected all arguments by name or all by position'],
        [['A.b', 'a=1', 'a=2'], 'found "a=" twice, expected it once'],
        [['9.b'], 'found "9.b", expected Service.method or Service@version.method'],
        [['A.b', '--timeout', '5'], '--timeout: found "5", expected a duration with its unit, such as "5ms" or "5s"'],
        [['A.b', '--repeat', 'x'], '--repeat: found "x", expected a whole number, 1 to 1000000'],
      ];
      for (const [args, message] of refusals) {
        const { code, stderr } = await runHere(['call', ...args, '--mesh', server.url]);
        expect(code).toBe(2);
        expect(stderr).toContain(message);
      }
      expect(server.asked).toEqual([]);
    },
    BUSY_MS,
  );
});

function resource(name: string, pid: number, state = 'idle'): object {
  return {
    name,
    state,
    pid,
    inFlight: 0,
    callsServed: 12,
    ageMs: 61_000,
    rssBytes: 1024 * 1024 * 50,
    restarts: 0,
    note: '',
  };
}

function statusOf(resources: object[]): object {
  const pool = {
    id: 'Calculator@1.0.0',
    serviceName: 'Calculator',
    version: '1.0.0',
    roles: [],
    tags: [],
    interfaceId: 'x',
    manager: 'm',
    wanted: 2,
    alive: 2,
    free: 2,
    queued: 0,
    queueMax: 256,
    weight: 1,
    calls: 1204,
    errors: 3,
    ratePerS: 12.5,
    p50Ms: 0.4,
    queueP99Ms: 0,
    restartsByReason: { crashed: 2, hung: 1 },
    resources,
    note: '',
  };
  return {
    mesh: 'lab',
    name: 'm',
    version: '0.1.0',
    runtime: 'node 20',
    pid: 7,
    uptimeMs: 3_723_000,
    isReady: true,
    isDraining: false,
    note: '',
    roles: [],
    timeoutMs: 10_000,
    rssBytes: 1024 * 1024,
    connections: {},
    listeners: [],
    processes: [],
    leader: '',
    term: 0,
    calls: { accepted: 9, replied: 5, failed: 1, refused: 1, timed_out: 1, cancelled: 0, inFlight: 1 },
    pools: [pool],
  };
}

describe('katamari status', () => {
  test(
    'aligns text left and numbers right in the table of pools, and shows resources with -v',
    async () => {
      server = await startRpcServer(() => ({
        result: statusOf([resource('Calculator@1.0.0/1', 101), resource('Calculator@1.0.0/2', 102, 'backing_off')]),
      }));
      const plain = await runKatamari(['status', '--mesh', server.url, '--token', 'abcdefghijklmnop']);
      expect(plain.code).toBe(0);
      expect(plain.stdout.split('\n')).toEqual([
        `Mesh lab at ${server.url}: ready`,
        'Up 1h 2m, Katamari 0.1.0 on node 20, process 7, 1.0 MiB, timeout 10.0s',
        'Calls: 9 accepted = 5 replied + 1 failed + 1 refused + 1 timed out + 1 in flight',
        '',
        'POOL              ALIVE  FREE  QUEUED  WEIGHT  CALLS  ERRORS  CALLS/S  P50 MS  P99 MS  QUEUE P99 MS  RESTARTS',
        'Calculator@1.0.0    2/2     2   0/256    100%   1204       3     12.5     0.4       -           0.0         3',
        '',
      ]);
      expect(server.asked[0]).toMatchObject({
        path: '/rpc/Katamari',
        method: 'status',
        params: { token: 'abcdefghijklmnop' },
      });
      const verbose = await runKatamari(['status', '-v', '--mesh', server.url], { env: TOKEN });
      expect(verbose.stdout).toMatch(/^Calculator@1\.0\.0\/2 +backing off +102 /m);
      const json = await runKatamari(['status', '--json', '--mesh', server.url], { env: TOKEN });
      expect((JSON.parse(json.stdout) as { mesh: string }).mesh).toBe('lab');
    },
    BUSY_MS,
  );

  test(
    'reads the token from the file of the mesh, and says where it looked when there is none',
    async () => {
      server = await startRpcServer(() => ({ result: statusOf([]) }));
      writeFileSync(path.join(directory, 'token'), 'from-the-file-1234\n');
      await runKatamari(['status', '--mesh', server.url], {
        env: { KATAMARI_TOKEN_FILE: path.join(directory, 'token') },
      });
      expect(server.asked[0]?.params).toEqual({ token: 'from-the-file-1234' });
      const missing = await runKatamari(['status', '--mesh', server.url], {
        env: { KATAMARI_DATA_DIR: path.join(directory, 'none') },
      });
      expect(missing.code).toBe(1);
      expect(missing.stderr).toContain(`${path.join(directory, 'none', 'admin-token')} does not exist`);
    },
    BUSY_MS,
  );

  test(
    'says that a token was refused and what to do',
    async () => {
      server = await startRpcServer(() => ({
        error: {
          code: -32050,
          message: 'AdminRefused',
          data: { exception: 'AdminRefused', why: 'wrong token', code: 'wrong_token' },
        },
      }));
      const { code, stderr } = await runKatamari(['status', '--mesh', server.url], { env: TOKEN });
      expect(code).toBe(1);
      expect(stderr).toContain(
        `refused status: wrong token; the token came from KATAMARI_TOKEN. Pass the right one with --token`,
      );
    },
    BUSY_MS,
  );
});

describe('katamari events', () => {
  test(
    'prints one line an event, with the last output of a chassis below',
    async () => {
      server = await startRpcServer(() => ({
        result: [event(1), event(2, { lines: ['\x1b[31mboom\x1b[0m', 'bye'] })],
      }));
      const { stdout } = await runKatamari(['events', '--mesh', server.url], { env: { ...TOKEN, TZ: 'UTC' } });
      expect(stdout).toBe(
        '00:00:00  ended        A@1/1: crashed 1\n00:00:00  ended        A@1/1: crashed 2\n          | boom\n          | bye\n',
      );
      const last = await runKatamari(['events', '-n', '1', '--json', '--mesh', server.url], { env: TOKEN });
      expect(JSON.parse(last.stdout)).toEqual(event(2, { lines: ['\x1b[31mboom\x1b[0m', 'bye'] }));
    },
    BUSY_MS,
  );

  test(
    '--follow asks for new events until the mesh is gone',
    async () => {
      server = await startRpcServer(({ params }) => {
        const { afterSeq } = params as { afterSeq: number };
        return afterSeq < 3 ? { result: [event(afterSeq + 1)] } : undefined;
      });
      const { code, stdout } = await runKatamari(['events', '--follow', '--mesh', server.url], { env: TOKEN });
      expect(stdout.match(/crashed \d/g)).toEqual(['crashed 1', 'crashed 2', 'crashed 3']);
      expect(server.asked.map(({ params }) => (params as { waitMs: number }).waitMs > 0)).toEqual([
        false,
        true,
        true,
        true,
      ]);
      expect(code).toBe(69);
    },
    BUSY_MS,
  );
});

describe('katamari restart', () => {
  test(
    'waits until every process has been replaced',
    async () => {
      let looks = 0;
      let isOrdered = false;
      server = await startRpcServer(({ method }) => {
        if (method === 'restart') {
          isOrdered = true;
          return { result: 2 };
        }
        if (isOrdered) looks++;
        const second =
          looks < 3
            ? resource('Calculator@1.0.0/2', 102)
            : looks < 4
              ? resource('Calculator@1.0.0/2', 202, 'starting')
              : resource('Calculator@1.0.0/2', 202);
        return { result: statusOf([resource('Calculator@1.0.0/1', looks < 2 ? 101 : 201), second]) };
      });
      const { code, stdout } = await runKatamari(['restart', 'Calculator@1.0.0', '--mesh', server.url], { env: TOKEN });
      expect(code).toBe(0);
      expect(stdout).toBe(
        'Calculator@1.0.0: 0 of 2 replaced\nCalculator@1.0.0: 1 of 2 replaced\nCalculator@1.0.0: 2 of 2 replaced\nRestarted 2 resources of Calculator@1.0.0.\n',
      );
      expect(server.asked.find(({ method }) => method === 'restart')?.params).toMatchObject({
        serviceName: 'Calculator',
        version: '1.0.0',
        resource: '',
      });
    },
    BUSY_MS,
  );

  test(
    'names the copies that did not come back in time',
    async () => {
      server = await startRpcServer(({ method }) => ({
        result: method === 'restart' ? 1 : statusOf([resource('Calculator@1.0.0/1', 101, 'backing_off')]),
      }));
      const { code, stderr } = await runKatamari(
        ['restart', 'Calculator@1.0.0/1', '--wait', '10ms', '--mesh', server.url],
        { env: TOKEN },
      );
      expect(code).toBe(1);
      expect(stderr).toContain('Not done after 10ms; the mesh continues to try');
      expect(stderr).toContain('  Calculator@1.0.0/1: 0 of 1 replaced\n    Calculator@1.0.0/1 on m is backing off');
      expect(server.asked.find(({ method }) => method === 'restart')?.params).toMatchObject({
        resource: 'Calculator@1.0.0/1',
      });
    },
    BUSY_MS,
  );

  test(
    'restarts nothing when no resource has the name',
    async () => {
      server = await startRpcServer(() => ({ result: statusOf([resource('Calculator@1.0.0/1', 101)]) }));
      const { code, stderr } = await runKatamari(['restart', 'Calcualtor', '--mesh', server.url], { env: TOKEN });
      expect([code, stderr]).toEqual([
        1,
        'katamari: Nothing in this mesh is called "Calcualtor", did you mean "Calculator"?\n',
      ]);
      expect(server.asked.some(({ method }) => method === 'restart')).toBe(false);
    },
    BUSY_MS,
  );
});

describe('katamari types', () => {
  test(
    'writes the types of an interface to a file or to standard output',
    async () => {
      writeFileSync(path.join(directory, 'echo.thrift'), 'service Echo { i64 say(1: string text) }\n');
      const { code, stdout } = await runKatamari(['types', 'echo.thrift'], { cwd: directory });
      expect(code).toBe(0);
      expect(stdout).toContain('bigint');
      const file = await runKatamari(['types', 'echo.thrift', '--i64', 'number', '--out', 'echo.ts'], {
        cwd: directory,
      });
      expect([file.code, file.stdout, file.stderr]).toEqual([0, '', 'Wrote echo.ts\n']);
      expect(readFileSync(path.join(directory, 'echo.ts'), 'utf8')).not.toContain('bigint');
    },
    BUSY_MS,
  );

  test(
    'names the line of an error in the IDL, and exits with 78',
    async () => {
      writeFileSync(path.join(directory, 'wrong.thrift'), 'service Echo {\n  Wrok say(1: string text)\n}\n');
      const wrong = await runKatamari(['types', 'wrong.thrift'], { cwd: directory });
      expect(wrong.code).toBe(78);
      expect(wrong.stderr).toContain('wrong.thrift:2');
      expect(wrong.stderr).toContain('Wrok');
      const missing = await runKatamari(['types', 'none.thrift'], { cwd: directory });
      expect([missing.code, missing.stderr]).toEqual([
        2,
        'katamari: none.thrift: no such file, expected a .thrift file\n',
      ]);
    },
    BUSY_MS,
  );
});

describe('katamari doctor', () => {
  const FREE = 'ports: { thrift: 0, jsonRpc: 0, stats: 0, link: 0, consul: 0 }\n';

  test(
    'finds nothing wrong with a mesh that can run',
    async () => {
      const file = yaml(
        `${FREE}limits: { connections: 10 }\ndeployments:\n  - {service: A, version: "1", command: [sh, -c, "true"]}\n`,
      );
      const { code, stdout } = await runKatamari(['doctor', '--config', file]);
      expect(stdout).toMatch(/^OK {4}process groups: \/bin\/sh runs/m);
      expect(stdout).toMatch(/^OK {4}chassis A@1: \S*\/sh$/m);
      expect(stdout).toContain('This mesh can run here');
      expect(code).toBe(0);
    },
    BUSY_MS,
  );

  test(
    'names each problem and its remedy, and exits with 1',
    async () => {
      server = await startRpcServer(() => undefined);
      const { port } = new URL(server.url);
      writeFileSync(path.join(directory, 'not-executable'), '#!/bin/sh\n', { mode: 0o644 });
      writeFileSync(path.join(directory, 'bad.thrift'), 'service {');
      writeFileSync(path.join(directory, 'well.thrift'), 'service E { void ready() }');
      writeFileSync(path.join(directory, 'open-token'), 'x', { mode: 0o644 });
      const file = yaml(
        `ports: { thrift: ${port}, jsonRpc: 0, stats: 0, link: 0 }\nadmin: { tokenFile: open-token }\n` +
          `consul: { address: "127.0.0.1:${port}1" }\nroutes: { A: { weights: { 1.0.0: 1 } } }\ndeployments:\n` +
          '  - {service: A, version: "1", command: [./not-executable]}\n  - {service: B, version: "1", command: [no-such-program]}\n' +
          '  - {service: C, version: "1", command: [sh], kit: none, idl: bad.thrift}\n  - {service: D, version: "1", script: gone.js}\n' +
          '  - {service: E, version: "1", command: [sh], kit: none, idl: well.thrift, healthCheck: reedy}\n',
      ).replace(/$/, '');
      const { code, stdout } = await runKatamari([
        'doctor',
        '--json',
        '--config',
        file,
        '--set',
        'consul.address=127.0.0.1:1',
      ]);
      expect(code).toBe(1);
      const { isHealthy, findings } = JSON.parse(stdout) as {
        isHealthy: boolean;
        findings: { verdict: string; subject: string; text: string; advice: string }[];
      };
      expect(isHealthy).toBe(false);
      const about = (subject: string): string => {
        const found = findings.find((finding) => finding.subject === subject);
        return `${found?.verdict} ${found?.text}; ${found?.advice}`;
      };
      expect(about('port thrift')).toMatch(
        new RegExp(
          `^FAIL ${port} is held by process ${process.pid} \\(.*\\); end that process, or choose another with --set ports.thrift=PORT$`,
        ),
      );
      expect(about('admin token')).toMatch(/^FAIL .*open-token has mode 0644/);
      expect(about('admin token')).toContain('chmod 600');
      expect(about('Consul')).toMatch(/^FAIL the Consul at http:\/\/127\.0\.0\.1:1 does not answer/);
      expect(about('chassis A@1')).toMatch(/^FAIL .*doctor\.yaml:6: .*not-executable is not executable; chmod \+x/);
      expect(about('chassis B@1')).toMatch(/no program "no-such-program" on PATH; install it, or write its path$/);
      expect(about('IDL C@1')).toMatch(/^FAIL .*bad\.thrift/);
      expect(about('IDL E@1')).toMatch(
        /^FAIL .*doctor\.yaml:10: healthCheck: E has no method "reedy"; it has ready; name another/,
      );
      expect(about('chassis D@1')).toMatch(/^FAIL .*gone\.js does not exist/);
      expect(about('route A')).toMatch(/^warn .*no deployment has this version/);
    },
    BUSY_MS,
  );

  test(
    'shows errors of the configuration as findings',
    async () => {
      const { code, stdout } = await runKatamari(['doctor', '--config', yaml('timeout: 10\n')]);
      expect(code).toBe(1);
      expect(stdout).toMatch(/^FAIL {2}configuration: .*doctor\.yaml:1: timeout: found 10, expected a duration/m);
    },
    BUSY_MS,
  );
});

describe('katamari up', () => {
  const up = 'test/fixtures/cli/up-stand-in.ts';
  const YAML =
    'mesh: lab\nports: { thrift: 0 }\ndeployments:\n  - {service: A, version: "1", command: [a], count: 3}\n  - {service: B, version: "2", command: [b], count: 2}\n';
  beforeAll(() => writeFileSync(path.join(directory, 'up.yaml'), YAML));

  test(
    'reports each pool when it is complete, then the addresses and a line to try, and drains on SIGTERM',
    async () => {
      server = await startRpcServer(({ path: asked }) =>
        asked === '/idl/A.thrift' ? 'service A { i32 add(1: i32 num1, 2: i32 num2) }' : undefined,
      );
      const mesh = startUp(args(), { program: up, env: { STAND_IN_JSON_RPC: server.url } });
      await mesh.says(/Ctrl-C drains and stops/);
      mesh.signal('SIGTERM');
      const { code, stdout, stderr } = await mesh.ended;
      expect([code, stderr]).toEqual([0, '']);
      expect(stdout).toContain('Starting mesh lab: 2 deployments, 5 resources\n');
      expect(stdout.indexOf('A@1: 3 of 3 ready')).toBeLessThan(stdout.indexOf('B@2: 2 of 2 ready'));
      expect(stdout).toContain('A@1/1 | warm');
      expect(stdout).toContain(`JSON-RPC  ${server.url}/rpc`);
      expect(stdout).toContain(
        `curl -s ${server.url}/rpc -H 'content-type: application/json' -d '{"jsonrpc":"2.0","id":1,"method":"A.add","params":{"num1":2,"num2":40}}'`,
      );
      expect(stdout).toContain(`katamari call --mesh ${server.url} A.add num1=2 num2=40`);
      expect(stdout).toContain(`katamari status -v --mesh ${server.url} --config ${path.join(directory, 'up.yaml')}`);
      // Framed strict binary: length, version and type, name, sequence id, two i32 fields, stop.
      const bytes = '00000020 80010001 00000005413a616464 00000001 08000100000002 08000200000028 00'.replaceAll(
        ' ',
        '',
      );
      expect(stdout).toMatch(
        new RegExp(`node -e 'require\\("net"\\)\\.connect\\(0,"127\\.0\\.0\\.1"\\).*"${bytes}","hex"`),
      );
      expect(stdout).toContain('Draining: ');
      expect(stdout).toMatch(/Stopped\.\n$/);
      expect(stdout).not.toContain('\x1b');
    },
    BUSY_MS,
  );

  test(
    'exits at once on the second signal',
    async () => {
      const mesh = startUp(args(), { program: up, env: { STAND_IN: 'slow-drain' } });
      await mesh.says(/Ctrl-C drains/);
      mesh.signal('SIGINT');
      await mesh.says(/Draining/);
      mesh.signal('SIGINT');
      expect((await mesh.ended).code).toBe(130);
    },
    BUSY_MS,
  );

  test(
    'shows the last output of a chassis that does not start, without control characters',
    async () => {
      const mesh = startUp(args('--set', 'ports.link=0'), { program: up, env: { STAND_IN: 'stuck' } });
      await mesh.says(/backing off +B@2\/1: exited with code 3 at once/);
      mesh.signal('SIGTERM');
      const { code, stdout } = await mesh.ended;
      expect(code).toBe(0);
      expect(stdout).toContain('          | Traceback:\n          |   no module named  ranker\n');
    },
    BUSY_MS,
  );

  test(
    'logs JSON lines with --log json',
    async () => {
      const mesh = startUp(args('--log', 'json', '--log-level', 'debug'), { program: up });
      await mesh.says(/is up/);
      mesh.signal('SIGTERM');
      const lines = (await mesh.ended).stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as Record<string, unknown>);
      expect(lines[0]).toMatchObject({ mesh: 'lab', kind: 'resource_ready', subject: 'A@1/1' });
      expect(lines.find(({ msg }) => msg === 'Mesh lab is up')).toMatchObject({
        isReady: true,
        addresses: { thrift: '127.0.0.1:0' },
      });
    },
    BUSY_MS,
  );

  test(
    'names the port that is taken and how to choose another',
    async () => {
      const { code, stderr } = await runKatamari(args('--thrift-port', '1234'), {
        program: up,
        env: { STAND_IN: 'taken' },
      });
      expect(code).toBe(1);
      expect(stderr).toContain('Port 1234 (ports.thrift) is in use');
      expect(stderr).toContain('--set ports.thrift=PORT');
    },
    BUSY_MS,
  );

  test(
    'refuses to run without deployments, and shows the shortest configuration as an example',
    async () => {
      const { code, stderr } = await runKatamari(['up'], { program: up });
      expect(code).toBe(78);
      expect(stderr).toContain('No katamari.yaml in ');
      expect(stderr).toContain('deployments:\n  - service: Calculator');
    },
    BUSY_MS,
  );

  test(
    'refuses an unknown log format',
    async () => {
      const { code, stderr } = await runKatamari(args('--log', 'jsno'), { program: up });
      expect([code, stderr]).toEqual([
        2,
        'katamari: --log: found "jsno", expected one of pretty, json, did you mean "json"?\n',
      ]);
    },
    BUSY_MS,
  );
});

// `npm run acceptance`: what the mesh promises, tried from the outside and told line by line with figures, for people. The sample mesh is
// started by `npm start` as a user would; what the samples cannot show is tried on meshes of the test chassis. Exit code 1 when a line fails.

import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { jsonRpcCaller } from '../test/kit/mesh/callers.ts';
import { freePorts } from '../test/kit/consul/consul.ts';
import { LagMeter } from '../test/kit/tools/lag-meter.ts';
import { fixture, isAlive, jsonRpc, work, type JsonRpcAnswer } from '../test/kit/mesh/mesh.ts';
import { startMeshProcess, type MeshProcess } from '../test/kit/mesh/mesh-process.ts';
import { openRpcValidator } from '../test/kit/wire/open-rpc.ts';
import { promtool } from '../test/kit/tools/promtool.ts';
import { callBytes, rawThrift } from '../test/kit/wire/raw-thrift.ts';
import { runKatamari } from '../test/kit/tools/run.ts';
import { runSoak } from '../test/kit/mesh/soak.ts';
import { generate, python } from '../test/kit/wire/thrift-client.ts';
import { parseIdl, readIdlFile } from '../core/idl/mod.ts';
import { sleep } from '../core/mod.ts';
import type { MeshStatus } from '../core/rpc/mod.ts';
import type { Interface } from '../core/thrift/mod.ts';
import { REPOSITORY } from '../test/kit/tools/repository.ts';
import { until } from '../test/kit/tools/wait.ts';

const STOCK_CLIENT = `
import sys
from thrift.protocol import TBinaryProtocol, TMultiplexedProtocol
from thrift.transport import TSocket, TTransport
from tutorial import Calculator

port, flags = int(sys.argv[1]), sys.argv[2:]
around = TTransport.TFramedTransport if 'framed' in flags else TTransport.TBufferedTransport
transport = around(TSocket.TSocket('127.0.0.1', port))
protocol = TBinaryProtocol.TBinaryProtocol(transport)
if 'multiplexed' in flags:
    protocol = TMultiplexedProtocol.TMultiplexedProtocol(protocol, 'Calculator')
transport.open()
print(Calculator.Client(protocol).add(2, 40))
transport.close()
`;

const { values } = parseArgs({
  options: {
    'soak-seconds': { type: 'string', default: '20' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (values.help) {
  console.log('npm run acceptance -- [--soak-seconds 20]');
  process.exit(0);
}

/** The sample mesh as `npm start` runs it. */
interface SampleMesh {
  readonly child: ChildProcess;
  readonly jsonRpcUrl: string;
  readonly statsUrl: string;
  readonly thriftPort: number;
  readonly firstAnswerMs: number;
  readonly wholeMs: number;
  call(method: string, params?: unknown, headers?: Readonly<Record<string, string>>): Promise<JsonRpcAnswer>;
  status(): Promise<MeshStatus>;
  end(): Promise<void>;
}

/** Nothing here takes so long, on any machine. */
const BOUND_MS = 600_000;
const KILLS = 5;
const WHAT_COLUMNS = 80;

const run = promisify(execFile);
const failed: string[] = [];
const bound = setTimeout(() => {
  console.error(`Not done after ${BOUND_MS / 1_000} s: something waits for ever`);
  process.exit(1);
}, BOUND_MS);

console.log(`${'LINE'.padEnd(6)}${'WHAT'.padEnd(WHAT_COLUMNS)}${'RESULT'.padEnd(8)}FIGURES`);
const mesh = await startSamples();
try {
  await line('1', 'npm start: first answered call in under 3 s', async () => {
    expectThat(mesh.firstAnswerMs < 3_000, `took ${ms(mesh.firstAnswerMs)}`);
    return `first answer after ${ms(mesh.firstAnswerMs)}, all chassis after ${ms(mesh.wholeMs)}`;
  });
  await firstCalls(mesh);
  await standards(mesh);
} finally {
  await mesh.end();
}
await soakLine();
await queueLine();
await killLine();
await firstStartLine();
await disconnectLine();
await busyLine();
await orphanLine();
clearTimeout(bound);
console.log(failed.length === 0 ? '\nEvery line holds.' : `\n${failed.length} lines do not hold: ${failed.join(', ')}`);
process.exit(failed.length === 0 ? 0 : 1);

async function firstCalls(samples: SampleMesh): Promise<void> {
  await line('2', 'curl to /rpc: Calculator.add of 2 and 40', async () => {
    const body = '{"jsonrpc":"2.0","id":1,"method":"Calculator.add","params":{"num1":2,"num2":40}}';
    const type = 'content-type: application/json';
    const { stdout } = await run('curl', ['-s', `${samples.jsonRpcUrl}/rpc`, '-H', type, '-d', body]);
    expectThat((JSON.parse(stdout) as { result: unknown }).result === 42, stdout);
    return stdout;
  });
  const generated = await generate(path.join(REPOSITORY, 'examples', 'calculator.thrift'));
  for (const flags of [['buffered'], ['framed'], ['buffered', 'multiplexed'], ['framed', 'multiplexed']]) {
    await line('2', `stock Python Thrift client, ${flags.join(', ')}`, async () => {
      const said = await python(generated, STOCK_CLIENT, String(samples.thriftPort), ...flags);
      expectThat(said === '42\n', said);
      return said.trim();
    });
  }
  generated.remove();
  await line('2', 'katamari call Calculator.add num1=2 num2=40', async () => {
    const args = ['call', 'Calculator.add', 'num1=2', 'num2=40', '--mesh', samples.jsonRpcUrl];
    const { code, stdout, stderr } = await runKatamari(args);
    expectThat(code === 0 && stdout === '42\n', stdout + stderr);
    return stdout.trim();
  });
}

async function standards(samples: SampleMesh): Promise<void> {
  await line('7', 'promtool check metrics accepts /metrics', async () => {
    await samples.call('Troublemaker.crash');
    await samples.call('Nobody.here');
    const metrics = await (await fetch(`${samples.statsUrl}/metrics`)).text();
    const { code, said } = await promtool(metrics);
    expectThat(code === 0 && said === '', said);
    return `${metrics.split('\n').filter((text) => text !== '' && !text.startsWith('#')).length} series`;
  });
  await line('7', 'rpc.discover is valid by the OpenRPC meta-schema', async () => {
    const { result } = await samples.call('rpc.discover');
    const validate = openRpcValidator();
    expectThat(validate(result) === true, JSON.stringify(validate.errors));
    return `${(result as { methods: unknown[] }).methods.length} methods`;
  });
}

async function soakLine(): Promise<void> {
  const seconds = Number(values['soak-seconds']);
  await line('3', `32 clients for ${seconds} s, 10 kills and stops, crashes, hangs, a rolling restart`, async () => {
    const report = await runSoak({ seconds, clients: 32, kills: 10, seed: Date.now() % 2 ** 32 });
    const broken = [...report.violations, ...report.lateness];
    expectThat(broken.length === 0, `seed ${report.seed}: ${broken.slice(0, 5).join('; ')}`);
    const { ok = 0, resource_failed = 0, timeout = 0 } = report.ends;
    return `${report.sent} calls: ${ok} answered, ${resource_failed} resource_failed, ${timeout} timeout; latest ${ms(report.worstLateRawMs)} after its deadline; seed ${report.seed}`;
  });
}

async function queueLine(): Promise<void> {
  await line('4', '6 callers of a 4 s method, one resource, 10 s timeout', () =>
    withMesh({ deployments: [work()] }, async (own) => {
      const answers = await Promise.all(Array.from({ length: 6 }, () => own.call('Work.take', { ms: 4_000 })));
      const answered = answers.filter(({ error }) => error === undefined).length;
      const inQueue = answers.filter(({ error }) => error?.data?.['stage'] === 'queue').length;
      const since = performance.now();
      const { result } = await own.call('Work.say', { text: 'right after' });
      const tookMs = performance.now() - since;
      const ran = own.ledger().length;
      expectThat(answered === 2 && inQueue === 4 && result === 'right after' && ran === 2, JSON.stringify(answers));
      return `${answered} answered, ${inQueue} timed out in the queue, ${ran} ran; the next call took ${ms(tookMs)}`;
    }),
  );
}

async function killLine(): Promise<void> {
  await line('5', 'killed while it works: its caller has the error in under 100 ms', () =>
    withMesh({ settings: { timeout: '60s' }, deployments: [work({ count: 2 })] }, async (own) => {
      const lag = new LagMeter(own.pid);
      const tookMs: number[] = [];
      for (let n = 0; n < KILLS; n++) {
        const called = own.call('Work.take', { ms: 50_000 }).then((answer) => ({ answer, atMs: performance.now() }));
        const pid = Number((await until('the call to run', () => own.ledger()[n])).split(' ')[2]);
        const killedAtMs = performance.now();
        process.kill(pid, 'SIGKILL');
        const { answer, atMs } = await called;
        expectThat(answer.error?.data?.['code'] === 'resource_failed', JSON.stringify(answer));
        tookMs.push(atMs - killedAtMs - lag.worstBetween(killedAtMs, atMs));
        await until(
          'both copies',
          async () => {
            const [pool] = (await own.status()).pools;
            return pool?.alive === 2 && pool.restartsByReason.crashed === n + 1;
          },
          40_000,
        );
      }
      lag.close();
      tookMs.sort((a, b) => a - b);
      expectThat((tookMs.at(-1) ?? 0) < 100, tookMs.map(ms).join(', '));
      return `${KILLS} kills: median ${ms(tookMs[KILLS >> 1] ?? 0)}, most ${ms(tookMs.at(-1) ?? 0)}`;
    }),
  );
}

async function firstStartLine(): Promise<void> {
  await line('5', 'fails its first starts: tried again with growing pauses', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'katamari-tries-'));
    const tries = path.join(directory, 'tries');
    writeFileSync(tries, '');
    const script = `echo >>"$0"; test "$(wc -l <"$0")" -gt 3 || exit 7; exec ${fixture('work.ts').join(' ')}`;
    const restart = { backoffFirst: '100ms' };
    try {
      return await withMesh(
        { deployments: [work({ command: ['/bin/sh', '-c', script, tries], restart })] },
        async (own) => {
          expectThat((await own.call('Work.say', { text: 'up' })).result === 'up', own.output());
          const pauses = [...own.output().matchAll(/next start in (\d+) ms/g)].map(([, pause]) => Number(pause));
          expectThat(pauses.join() === '100,200,400', `pauses of ${pauses.join(', ')} ms`);
          return `3 failed starts, pauses of ${pauses.join(', ')} ms, then it served`;
        },
      );
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
}

async function disconnectLine(): Promise<void> {
  await line('5', 'a client that disconnects frees its place', () =>
    withMesh({ settings: { timeout: '30s' }, deployments: [work()] }, async (own) => {
      const running = own.call('Work.take', { ms: 1_500 });
      await until('it to run', () => own.ledger().length === 1);
      const thrift = await rawThrift(Number(own.addresses.thrift.split(':').at(-1)));
      thrift.send(callBytes(workInterface(), 'take', { ms: 1 }));
      const http = connect(Number(new URL(own.addresses.jsonRpc).port), '127.0.0.1');
      const body = '{"jsonrpc":"2.0","id":1,"method":"Work.take","params":{"ms":1}}';
      http.write(`POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
      const queued = async (): Promise<number | undefined> => (await own.status()).pools[0]?.queued;
      await until('two to wait', async () => (await queued()) === 2);
      const since = performance.now();
      thrift.destroy();
      http.destroy();
      await until('none to wait', async () => (await queued()) === 0);
      const tookMs = performance.now() - since;
      await running;
      const { calls } = await own.status();
      expectThat(own.ledger().length === 1 && calls.cancelled === 2, JSON.stringify(calls));
      return `Thrift and HTTP: both places free after ${ms(tookMs)}, neither call ran`;
    }),
  );
}

async function busyLine(): Promise<void> {
  await line('6', 'busy for ever: overloaded at once, and still alive in /status', () =>
    withMesh({ settings: { timeout: '60s' }, deployments: [work({ queue: { max: 4 } })] }, async (own) => {
      const callers = Array.from({ length: 5 }, () => jsonRpcCaller(own.addresses.jsonRpc));
      const calls = callers.map((caller) => caller.call('Work', 'take', { ms: 50_000 }, 60_000));
      await until('a full queue', async () => (await own.status()).pools[0]?.queued === 4);
      const since = performance.now();
      const { status, headers, error } = await own.call('Work.say', { text: 'x' });
      const tookMs = performance.now() - since;
      const retryAfter = headers.get('retry-after');
      expectThat(status === 503 && error?.code === -32_002 && Number(retryAfter) >= 1, JSON.stringify(error));
      const health = async (wanted: number): Promise<number> =>
        (await fetch(`${own.addresses.stats}/status/Work/${wanted}`)).status;
      const [one, two] = [await health(1), await health(2)];
      expectThat(one === 200 && two === 503, `/status/Work/1 ${one}, /status/Work/2 ${two}`);
      for (const caller of callers) caller.close();
      await Promise.all(calls);
      return `refused after ${ms(tookMs)}, retry-after ${retryAfter} s; /status/Work/1 ${one}, /status/Work/2 ${two}`;
    }),
  );
}

async function orphanLine(): Promise<void> {
  await line('-', 'the mesh killed with SIGKILL leaves no process', () =>
    withMesh({ settings: { timeout: '60s' }, deployments: [work({ count: 3 })] }, async (own) => {
      await own.call('Work.spawnChild');
      own.call('Work.spin', { ms: 50_000 }).catch(() => undefined);
      const [pool] = (await own.status()).pools;
      const idle = pool?.resources.find(({ state }) => state === 'idle');
      if (idle !== undefined) process.kill(idle.pid, 'SIGSTOP');
      const all = own.descendants();
      const since = performance.now();
      await own.kill();
      await until('all to end', () => all.every((pid) => !isAlive(pid)));
      const tookMs = performance.now() - since;
      expectThat(own.descendants().length === 0, own.descendants().join(', '));
      return `${all.length} processes (one computing, one stopped, one grandchild) gone after ${ms(tookMs)}`;
    }),
  );
}

/** `npm start` on ports that are free, with data of its own; waits for the first answer and for all chassis. */
async function startSamples(): Promise<SampleMesh> {
  const directory = mkdtempSync(path.join(tmpdir(), 'katamari-acceptance-'));
  const [thrift = 0, rpc = 0, stats = 0, link = 0, consul = 0] = await freePorts(5);
  const ports = { THRIFT: thrift, JSON_RPC: rpc, STATS: stats, LINK: link, CONSUL: consul };
  const given = Object.entries(ports).map(([name, port]) => [`KATAMARI_PORTS_${name}`, String(port)]);
  const startedAtMs = performance.now();
  const child = spawn('npm', ['start'], {
    cwd: REPOSITORY,
    env: { ...process.env, ...Object.fromEntries(given), KATAMARI_DATA_DIR: directory },
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (part: Buffer) => (said += part.toString()));
  const [jsonRpcUrl, statsUrl] = [`http://127.0.0.1:${rpc}`, `http://127.0.0.1:${stats}`];
  const call: SampleMesh['call'] = (method, params, headers) => jsonRpc(`${jsonRpcUrl}/rpc`, method, params, headers);
  const end = async (): Promise<void> => {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    if (child.exitCode === null && child.pid !== undefined) {
      process.kill(-child.pid, 'SIGTERM');
      await Promise.race([ended, sleep(15_000)]);
    }
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await until(
      'the first answer',
      async () => {
        if (child.exitCode !== null) throw new Error(`npm start ended with ${child.exitCode}:\n${said}`);
        const answer = await call('Calculator.add', { num1: 2, num2: 40 }).catch(() => undefined);
        return answer?.result === 42;
      },
      60_000,
    );
    const firstAnswerMs = performance.now() - startedAtMs;
    await until('every chassis', async () => (await fetch(`${statsUrl}/readyz`)).status === 200, 60_000);
    const wholeMs = performance.now() - startedAtMs;
    const status = async (): Promise<MeshStatus> => (await (await fetch(`${statsUrl}/status`)).json()) as MeshStatus;
    return { child, jsonRpcUrl, statsUrl, thriftPort: thrift, firstAnswerMs, wholeMs, call, status, end };
  } catch (error) {
    await end();
    throw error;
  }
}

async function withMesh<T>(
  options: Parameters<typeof startMeshProcess>[0],
  use: (mesh: MeshProcess) => Promise<T>,
): Promise<T> {
  const own = await startMeshProcess(options);
  try {
    return await use(own);
  } finally {
    await own.end();
  }
}

async function line(number: string, what: string, attempt: () => Promise<string>): Promise<void> {
  let [result, figures] = ['ok', ''];
  try {
    figures = await attempt();
  } catch (error) {
    [result, figures] = ['FAILED', (error as Error).message];
    failed.push(`${number} (${what})`);
  }
  console.log(`${number.padEnd(6)}${what.padEnd(WHAT_COLUMNS)}${result.padEnd(8)}${figures}`);
}

function expectThat(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(otherwise.slice(0, 1_000));
}

function workInterface(): Interface {
  return parseIdl(readIdlFile(new URL('../test/fixtures/chassis/work.thrift', import.meta.url))).services.get(
    'Work',
  ) as Interface;
}

function ms(value: number): string {
  return value >= 1_000 ? `${(value / 1_000).toFixed(2)} s` : `${value.toFixed(1)} ms`;
}

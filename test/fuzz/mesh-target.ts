// The fuzzer's target in processes of their own: the real `katamari up` with every port that a mesh can have, chassis
// whose own sockets are attacked too, and one chassis that answers nonsense. Tells from outside how the mesh is: its
// memory after a garbage collection, open files, CPU time, defects, and whether a right call on every port is answered
// right. Linux.

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { buildShards } from '../../content-servers/text/mod.ts';
import { decodeResult, encodeParams, parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import { connectLink, Link } from '../../core/link/mod.ts';
import { DEFAULT_LIMITS, scriptCommand, systemClock } from '../../core/mod.ts';
import { createCall, EMPTY_STRUCT } from '../../core/rpc/mod.ts';
import type { Interface, Method } from '../../core/thrift/mod.ts';
import { consulClient } from '../../services/consul/mod.ts';
import { documentSigner } from '../../services/mesh/mod.ts';
import { addIndex } from '../kit/mesh/index-source.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { cpuMsOf, percent } from '../kit/tools/cpu.ts';
import { fixture, work } from '../kit/mesh/mesh.ts';
import { readMetrics, sumOf } from '../kit/mesh/metrics.ts';
import { rawClient } from '../kit/wire/raw-http.ts';
import { callBytes, rawThrift } from '../kit/wire/raw-thrift.ts';
import { until } from '../kit/tools/wait.ts';
import { answerLanes } from './answer-lanes.ts';
import { consulInput } from './consul-inputs.ts';
import { encodingInput } from './encoding-inputs.ts';
import { jsonInput } from './json-inputs.ts';
import { lineInput } from './line-inputs.ts';
import { memberInput, strangerInput } from './link-inputs.ts';
import { statsInput, webInput } from './page-inputs.ts';
import { contentControlCalls, searchCalls, searchInput } from './search-inputs.ts';
import { connected, portLane } from './port-lane.ts';
import type { FuzzTarget, GoodCall, Lane, Memory } from './target.ts';
import { thriftInput } from './thrift-inputs.ts';

/** How the processes are, when nothing is in flight. */
export interface Vitals extends Memory {
  /** Longest time that the event loop of the mesh was held since the last look, in ms. */
  readonly heldMs: number;
  /** Open files of the mesh. */
  readonly files: number;
  /** CPU time of the mesh so far, in ms. */
  readonly cpuMs: number;
  /** Sums of the chassis whose sockets are attacked. */
  readonly chassisRssBytes: number;
  readonly chassisFiles: number;
}

export interface MeshTarget extends FuzzTarget {
  readonly pid: number;
  /** Waits until nothing is in flight, then looks. */
  vitals(): Promise<Vitals>;
  /** Calls every port until `stop`; a refusal is counted, a wrong answer is kept. */
  watchCanaries(): { stop(): Promise<CanaryReport> };
  /**
   * Waits until mesh and chassis are at rest, as an untouched mesh beside them is.
   *
   * @returns the share of a core that they use together
   */
  rest(): Promise<number>;
  close(): Promise<void>;
  /** Kills the mesh; its chassis end with it. */
  kill(): void;
}

export interface CanaryReport {
  readonly right: number;
  /** The load was too high, for example. By the name of the port. */
  readonly refused: Readonly<Record<string, number>>;
}

const CALLS: readonly (readonly [string, Record<string, unknown>])[] = [
  ['say', { text: 'hello' }],
  ['big', { value: 41 }],
  ['sorry', { why: 'because' }],
  ['pid', {}],
  ['note', { line: 'x' }],
];
const EXAMPLES = new URL('../../examples/faceplates/line.ts', import.meta.url);
const PROBE = new URL('../fixtures/faceplates/probe.ts', import.meta.url);
const SEARCH_IDL = new URL('../../idl/search.thrift', import.meta.url);
const WIKI_DOCUMENTS = 60;
const WORK_IDL = new URL('../fixtures/chassis/work.thrift', import.meta.url);
/** How long everything that the input began may take to end, in ms. */
const SETTLE_MS = 30_000;
/** At rest, a mesh uses at most this much times what an untouched one uses at the same time, and REST_SHARE more. */
const REST_RATIO_MAX = 1.5;
const REST_SHARE = 0.01;
const REST_WINDOW_MS = 1_000;
const CANARY_EVERY_MS = 100;

export async function startMeshTarget(): Promise<MeshTarget> {
  const site = mkdtempSync(path.join(tmpdir(), 'katamari-fuzz-'));
  writeFileSync(path.join(site, 'index.html'), PAGE);
  const documents = path.join(site, 'wiki.ndjson');
  const lines = Array.from({ length: WIKI_DOCUMENTS }, (_, id) => ({
    text: id % 2 === 0 ? 'alpha beta' : 'alpha',
    id,
  }));
  writeFileSync(documents, lines.map((line) => JSON.stringify(line)).join('\n'));
  await buildShards({ inputs: [documents], output: path.join(site, 'wiki'), shards: 3 });
  const mesh = await startMesh(site);
  const target = new FuzzedMesh(mesh, site);
  try {
    await target.ready();
    return target;
  } catch (error) {
    await target.close();
    throw error;
  }
}

function startMesh(site: string): Promise<MeshProcess> {
  return startMeshProcess({
    settings: {
      timeout: '1s',
      limits: { frame: '4MiB' },
      content: { sources: [pathToFileURL(site).href] },
      faceplates: [
        { module: fileURLToPath(EXAMPLES), name: 'line', port: 0, options: { service: 'Work' } },
        { module: fileURLToPath(PROBE), name: 'probe', port: 0 },
      ],
      web: {
        port: 0,
        sites: [
          { prefix: '/app', service: 'Web', timeout: '5s' },
          { prefix: '/files', files: site },
        ],
      },
    },
    deployments: [
      work({ count: 2 }),
      {
        service: 'TextSearch',
        version: '1.0.0',
        command: scriptCommand(new URL('../../content-servers/text/main.ts', import.meta.url)),
        count: 2,
      },
      { service: 'Web', version: '1.0.0', command: fixture('web.ts'), count: 1 },
      {
        service: 'Hostile',
        version: '1.0.0',
        command: fixture('hostile.ts'),
        count: 1,
        restart: { intensity: 1_000, period: '1s', backoffFirst: '100ms', backoffMax: '2s' },
      },
    ],
  });
}

class FuzzedMesh implements MeshTarget {
  readonly #mesh: MeshProcess;
  readonly #site: string;
  readonly #work: Interface = parseIdl(readIdlFile(WORK_IDL)).services.get('Work') as Interface;
  readonly #content: Interface = parseIdl(readIdlFile(SEARCH_IDL)).services.get('TextContent') as Interface;
  readonly #secret: string;
  readonly #ports = new Map<string, number>();
  /** Work, Web and TextSearch, by pid; they outlive every input. */
  #chassis = new Map<number, string>();
  /** Of an answer of the index. */
  #cursor = '';
  lanes: readonly Lane[] = [];

  constructor(mesh: MeshProcess, site: string) {
    this.#mesh = mesh;
    this.#site = site;
    this.#secret = readFileSync(path.join(mesh.directory, 'data', 'link-secret'), 'utf8').trim();
  }

  get pid(): number {
    return this.#mesh.pid;
  }

  async ready(): Promise<void> {
    const ready = async (): Promise<boolean> => {
      const { pools } = await this.#mesh.status();
      const alive = (id: string): number => pools.find((pool) => pool.id === id)?.alive ?? 0;
      return alive('Work@1.0.0') === 2 && alive('Web@1.0.0') === 1 && alive('TextSearch@1.0.0') === 2;
    };
    await until('the chassis to be ready', ready, SETTLE_MS);
    for (const { name, address } of (await this.#mesh.status()).listeners)
      this.#ports.set(name, Number(address.split(':').at(-1)));
    await this.#addIndex();
    this.#chassis = this.#findChassis();
    this.lanes = this.#lanes();
    await this.#canariesAreRight();
  }

  async vitals(): Promise<Vitals> {
    await this.#settled();
    const { heapBytes, rssBytes, heldMs } = JSON.parse(await this.#line('probe', 'look')) as Memory & {
      heldMs: number;
    };
    const pids = [...this.#chassis.keys()];
    return {
      heapBytes,
      rssBytes,
      heldMs,
      files: filesOf(this.pid),
      cpuMs: cpuMsOf(this.pid),
      chassisRssBytes: sum(pids.map(rssOf)),
      chassisFiles: sum(pids.map(filesOf)),
    };
  }

  watchCanaries(): { stop(): Promise<CanaryReport> } {
    let isOver = false;
    let right = 0;
    const refused: Record<string, number> = {};
    const watch = async (): Promise<void> => {
      while (!isOver) {
        for (const [name, canary] of this.#canaries()) {
          try {
            await canary();
            right++;
          } catch (error) {
            if (error instanceof WrongAnswer) throw error;
            refused[name] = (refused[name] ?? 0) + 1;
          }
        }
        await new Promise((resolve) => setTimeout(resolve, CANARY_EVERY_MS));
      }
    };
    const watching = watch();
    watching.catch(() => undefined);
    return {
      stop: async () => {
        isOver = true;
        await watching;
        return { right, refused };
      },
    };
  }

  async rest(): Promise<number> {
    const untouched = await startMesh(this.#site);
    const measured = [
      [this.pid, ...this.#chassis.keys()],
      [untouched.pid, ...untouched.descendants()],
    ];
    let [share, untouchedShare] = [1, 0];
    try {
      await until(
        () =>
          `the mesh to come to rest; it uses ${percent(share)} of a core, an untouched one ${percent(untouchedShare)}`,
        async () => {
          const before = measured.map((pids) => sum(pids.map(cpuMsOf)));
          const startedAt = performance.now();
          await new Promise((resolve) => setTimeout(resolve, REST_WINDOW_MS));
          const forMs = performance.now() - startedAt;
          [share = 1, untouchedShare = 0] = measured.map(
            (pids, index) => (sum(pids.map(cpuMsOf)) - (before[index] as number)) / forMs,
          );
          return share <= untouchedShare * REST_RATIO_MAX + REST_SHARE;
        },
        SETTLE_MS,
      );
    } finally {
      await untouched.end();
    }
    return share;
  }

  async check(): Promise<void> {
    await this.#settled();
    await this.#canariesAreRight();
    await this.#settled();
    const found = [...this.#findChassis()].sort();
    if (JSON.stringify(found) !== JSON.stringify([...this.#chassis].sort()))
      throw new Error(
        `Chassis were replaced: ${JSON.stringify(found)}, they were ${JSON.stringify([...this.#chassis])}`,
      );
    const { calls, pools } = await this.#mesh.status();
    const { accepted, replied, failed, refused, timed_out, cancelled, inFlight } = calls;
    if (accepted !== replied + failed + refused + timed_out + cancelled + inFlight)
      throw new Error(`The call statistics do not add up: ${JSON.stringify(calls)}`);
    if (replied === 0 || refused === 0) throw new Error(`The input reached nothing: ${JSON.stringify(calls)}`);
    for (const { id, restartsByReason } of pools)
      if (!id.startsWith('Hostile@') && Object.keys(restartsByReason).length > 0)
        throw new Error(`${id} was restarted: ${JSON.stringify(restartsByReason)}`);
    const metrics = readMetrics(await this.#get('stats', '/metrics'));
    const defects = sumOf(metrics, 'katamari_defects_total');
    const said = this.#mesh.output();
    if (defects > 0 || /Defect in the embedded agent|"kind":"defect"/.test(said))
      throw new Error(
        `${defects} defects: ${said
          .split('\n')
          .filter((line) => /defect/i.test(line))
          .join('\n')
          .slice(0, 4_000)}`,
      );
    // The hostile chassis may say so itself.
    const failures = (metrics.get('katamari_call_errors_total') ?? []).filter(
      ({ labels }) => labels['code'] === 'internal' && labels['service'] !== 'Hostile',
    );
    if (failures.length > 0) throw new Error(`Calls ended as internal errors: ${JSON.stringify(failures)}`);
  }

  async close(): Promise<void> {
    await this.#mesh.end();
    rmSync(this.#site, { recursive: true, force: true });
  }

  kill(): void {
    if (this.#mesh.exitCode() === undefined) void this.#mesh.kill('group');
  }

  #lanes(): Lane[] {
    const calls = this.#goodCalls();
    const { consulToken } = this.#mesh;
    const consul = Number(this.#mesh.addresses.consul.split(':').at(-1));
    const at = (port: number | undefined) => (): Promise<Socket> =>
      connected({ host: '127.0.0.1', port: port as number });
    const port = (name: string): (() => Promise<Socket>) => at(this.#ports.get(name));
    const link = Number(this.#mesh.addresses.link.split(':').at(-1));
    const sockets = [...this.#chassis].filter(([, name]) => name.startsWith('Work@')).map(([pid]) => listenOf(pid));
    const servers = [...this.#chassis].filter(([, name]) => name.startsWith('TextS')).map(([pid]) => listenOf(pid));
    const searches = searchCalls(this.#content, this.#cursor);
    let turn = 0;
    return [
      portLane({ name: 'thrift', open: port('thrift'), make: (random) => thriftInput(random, calls, false) }),
      portLane({ name: 'encodings', open: port('thrift'), make: (random) => encodingInput(random, calls) }),
      portLane({ name: 'json-rpc', open: port('json-rpc'), make: (random) => jsonInput(random, calls) }),
      portLane({
        name: 'web',
        open: port('web'),
        make: (random) => webInput(random, { app: '/app', files: '/files' }),
      }),
      portLane({ name: 'line', open: port('line'), make: (random) => lineInput(random, calls) }),
      portLane({ name: 'stats', open: port('stats'), make: statsInput, width: 8 }),
      portLane({ name: 'link stranger', open: at(link), make: (random) => strangerInput(random, calls) }),
      portLane({ name: 'link member', open: () => this.#member(), make: (random) => memberInput(random, calls) }),
      portLane({ name: 'consul', open: at(consul), make: (random) => consulInput(random, consulToken, 'test') }),
      portLane({ name: 'consul, no token', open: at(consul), make: (random) => consulInput(random, '', 'test') }),
      portLane({
        name: 'chassis socket',
        open: () => connected({ path: sockets[turn++ % sockets.length] as string }),
        make: (random) => memberInput(random, [...calls, ...CONTROL_CALLS]),
      }),
      portLane({
        name: 'search',
        open: port('json-rpc'),
        make: (random) => searchInput(random, searches, this.#cursor),
        width: 6,
      }),
      portLane({
        name: 'search by thrift',
        open: port('thrift'),
        make: (random) => thriftInput(random, searches, false),
        width: 6,
      }),
      portLane({
        name: 'content control',
        open: () => connected({ path: servers[turn++ % servers.length] as string }),
        make: (random) => memberInput(random, contentControlCalls()),
        width: 6,
      }),
      ...answerLanes(),
    ];
  }

  #goodCalls(): GoodCall[] {
    const own = CALLS.map(([method, params]) => ({
      service: 'Work',
      method,
      params,
      args: encodeParams(this.#work.methods.get(method) as Method, params),
    }));
    const args = encodeParams(this.#work.methods.get('say') as Method, { text: 'x' });
    return [
      ...own,
      { service: 'Hostile', method: 'say', params: { text: 'x' }, args },
      { service: 'Katamari', method: 'status', params: { token: 'x' }, args },
    ];
  }

  async #addIndex(): Promise<void> {
    const client = consulClient({
      address: this.#mesh.addresses.consul,
      token: this.#mesh.consulToken,
      signer: documentSigner('test', () => [this.#secret]),
    });
    try {
      await addIndex(client, path.join(this.#site, 'wiki'), '1.0.0', { contentService: 'TextSearch' });
    } finally {
      client.close();
    }
    const search = { query: 'alpha', count: 3 };
    this.#cursor = await until('the index to be served', async () => {
      const { result } = await this.#mesh.call('wiki.search', search);
      return (result as { cursor?: string } | undefined)?.cursor;
    });
  }

  /** A connection of a process that belongs to the mesh. */
  #member(): Promise<Socket> {
    return connectLink(`tcp:${this.#mesh.addresses.link}`, {
      security: { secrets: [this.#secret], tls: undefined },
      timeoutMs: SETTLE_MS,
    });
  }

  /** Waits until no call is in flight, no blocking query waits and no connection of the fuzzer is open. */
  async #settled(): Promise<void> {
    if (this.#mesh.exitCode() !== undefined)
      throw new Error(`The mesh has ended: ${this.#mesh.output().slice(-4_000)}`);
    let last = '';
    await until(
      () => `everything to settle: ${last}`,
      async () => {
        const { calls, connections } = await this.#mesh.status();
        // The question itself is a connection of the stats port, and chassis hold connections to the inside.
        const busy = Object.entries(connections).filter(
          ([name, open]) => name !== 'inside' && open > (name === 'stats' ? 4 : 0),
        );
        last = JSON.stringify({ inFlight: calls.inFlight, busy });
        return calls.inFlight === 0 && busy.length === 0;
      },
      SETTLE_MS,
    );
  }

  async #canariesAreRight(): Promise<void> {
    for (const [name, canary] of this.#canaries()) {
      try {
        await canary();
      } catch (error) {
        throw new Error(`A right call on ${name} is not answered right: ${(error as Error).message}`, { cause: error });
      }
    }
  }

  /** A right call on every port. They reject with WrongAnswer if the answer is wrong, else if there was none. */
  #canaries(): readonly (readonly [name: string, call: () => Promise<void>])[] {
    const rpc = this.#mesh;
    return [
      ['thrift', () => this.#thriftCanary()],
      [
        'json-rpc',
        async () => {
          const { result, error } = await rpc.call('Work.say', { text: 'canary' }, { connection: 'close' });
          if (error !== undefined) throw new Error(error.message);
          mustBe('canary', result);
        },
      ],
      [
        'search',
        async () => {
          const { result, error } = await rpc.call('wiki.count', { query: 'alpha NOT beta' }, { connection: 'close' });
          if (error !== undefined) throw new Error(error.message);
          mustBe(WIKI_DOCUMENTS / 2, result);
        },
      ],
      ['web', async () => mustBe(PAGE, await this.#get('web', '/files/index.html'))],
      [
        'application',
        async () => mustBe('canary', await this.#get('web', '/app/echo', { method: 'POST', body: 'canary' })),
      ],
      ['line', async () => mustBe('{"result":"canary"}', await this.#line('line', 'Work.say {"text":"canary"}'))],
      ['stats', async () => mustBe('alive\n', await this.#get('stats', '/livez'))],
      ['link', () => this.#linkCanary()],
      ['consul', () => this.#consulCanary()],
      ['chassis', () => this.#chassisCanary()],
    ];
  }

  async #thriftCanary(): Promise<void> {
    const client = await rawThrift(this.#ports.get('thrift') as number);
    try {
      client.send(callBytes(this.#work, 'say', { text: 'canary' }, { name: 'Work:say', seqId: 77 }));
      const [answer] = await client.count(1);
      if (answer?.type !== 2) throw new Error(`refused: ${answer?.body.toString('latin1').slice(0, 200)}`);
      mustBe(77, answer.seqId);
      mustBe('canary', value(decodeResult(this.#work.methods.get('say') as Method, answer.body)));
    } finally {
      client.destroy();
    }
  }

  async #linkCanary(): Promise<void> {
    const link = new Link(await this.#member(), { peer: 'the mesh', limits: DEFAULT_LIMITS });
    try {
      const say = this.#work.methods.get('say') as Method;
      const args = encodeParams(say, { text: 'canary' });
      const deadlineMs = performance.now() + 5_000;
      const call = createCall({ service: 'Work', version: '1.0.0', method: 'say', args, deadlineMs });
      const reply = await link.dispatch(systemClock)(call);
      mustBe('canary', value(decodeResult(say, reply.body)));
    } finally {
      link.close();
    }
  }

  async #chassisCanary(): Promise<void> {
    for (const [pid, name] of this.#chassis) {
      const link = new Link(await connected({ path: listenOf(pid) }), { peer: name, limits: DEFAULT_LIMITS });
      try {
        const call = createCall({
          service: 'katamari.Chassis',
          method: 'ping',
          args: EMPTY_STRUCT,
          deadlineMs: performance.now() + 5_000,
        });
        const reply = await link.dispatch(systemClock, () => 'katamari.Chassis:ping')(call);
        mustBe(false, reply.isException);
      } finally {
        link.close();
      }
    }
  }

  async #consulCanary(): Promise<void> {
    const url = `${this.#mesh.addresses.consul}/v1/kv/canary`;
    const headers = { 'x-consul-token': this.#mesh.consulToken, connection: 'close' };
    mustBe('true', await (await fetch(url, { method: 'PUT', body: 'canary', headers })).text());
    mustBe('canary', await (await fetch(`${url}?raw`, { headers })).text());
    const stranger = await fetch(url, { headers: { connection: 'close' } });
    await stranger.text();
    mustBe(403, stranger.status);
  }

  async #get(port: string, target: string, init: RequestInit = {}): Promise<string> {
    const url = `http://127.0.0.1:${this.#ports.get(port)}${target}`;
    const response = await fetch(url, { ...init, headers: { connection: 'close', 'content-type': 'text/x-fuzz' } });
    const text = await response.text();
    if (!response.ok) throw new Error(`${response.status} ${text.slice(0, 200)}`);
    return text;
  }

  async #line(port: string, line: string): Promise<string> {
    const client = await rawClient(this.#ports.get(port) as number, `${line}\n`);
    try {
      const text = await client.seen(/\n/);
      if (text.includes('"error":{"code"')) throw new Error(text);
      return text.trimEnd();
    } finally {
      client.destroy();
    }
  }

  #findChassis(): Map<number, string> {
    const named = this.#mesh.descendants().map((pid) => [pid, environmentOf(pid)['KATAMARI_RESOURCE'] ?? ''] as const);
    return new Map(named.filter(([, name]) => /^(Work|Web|TextSearch)@/.test(name)));
  }
}

/** A right request had an answer, and it was wrong. */
class WrongAnswer extends Error {}

function mustBe(expected: unknown, found: unknown): void {
  if (found !== expected)
    throw new WrongAnswer(`found ${JSON.stringify(found)?.slice(0, 300)}, expected ${JSON.stringify(expected)}`);
}

function value(result: ReturnType<typeof decodeResult>): unknown {
  if (!result.ok) throw new Error(result.exception);
  return result.value;
}

/** The control service of a chassis, without `drain`, which ends it as it should. */
const CONTROL_CALLS: readonly GoodCall[] = ['describe', 'ping'].map((method) => ({
  service: 'katamari.Chassis',
  method,
  params: {},
  args: Buffer.from(EMPTY_STRUCT),
}));

function environmentOf(pid: number): Record<string, string> {
  const text = readFileSync(`/proc/${pid}/environ`, 'utf8');
  return Object.fromEntries(text.split('\0').map((line) => line.split(/=(.*)/s).slice(0, 2) as [string, string]));
}

/** Path of the socket at which a chassis listens. */
function listenOf(pid: number): string {
  return (environmentOf(pid)['KATAMARI_LISTEN'] ?? '').replace('unix:', '');
}

function filesOf(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

function rssOf(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((all, one) => all + one, 0);
}

const PAGE = '<!doctype html><title>fuzz</title>';

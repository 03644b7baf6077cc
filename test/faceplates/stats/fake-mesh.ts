// A fake mesh for tests of the stats faceplate: real call statistics and data structures whose content a test sets,
// since the faceplate only reads. No part of the faceplate itself is replaced.

import { DEFAULT_LIMITS } from '../../../core/mod.ts';
import {
  CallStats,
  StatsTable,
  type EventKind,
  type MeshEvent,
  type MeshStatus,
  type PoolStatus,
  type ProcessStatus,
  type ResourceState,
  type ResourceStatus,
} from '../../../core/rpc/mod.ts';
import type { StatsFaceplate } from '../../../faceplates/stats/faceplate.ts';
import {
  runLengths,
  startStatsFaceplate,
  type IndexOverview,
  type IndicesOverview,
  type MetricFamily,
} from '../../../faceplates/stats/mod.ts';
import type { PoolCallStats } from '../../../faceplates/stats/sources.ts';

export class FakeMesh {
  readonly callStats: StatsTable = new StatsTable();
  readonly happened: MeshEvent[] = [];
  readonly families: MetricFamily[] = [];
  pools: PoolStatus[] = [];
  /** Data of other managers and of every process of the mesh, which a faceplate collects. */
  elsewhere: PoolStatus[] = [];
  processes: ProcessStatus[] = [];
  change: Partial<MeshStatus> = {};
  indices: IndicesOverview = { versions: [], requests: { first: 0, retry: 0, hedge: 0 }, missing: {} };
  readonly #poolStats = new Map<string, PoolCallStats>();
  readonly #startedMs = performance.now();

  readonly status = (): MeshStatus => ({
    mesh: 'tests',
    name: 'one',
    version: '0.1.0',
    runtime: 'node 20.19.0',
    pid: process.pid,
    uptimeMs: performance.now() - this.#startedMs,
    isReady: true,
    isDraining: false,
    note: '',
    roles: ['master', 'manager', 'faceplate'],
    timeoutMs: 10_000,
    rssBytes: process.memoryUsage().rss,
    connections: { thrift: 3, 'json-rpc': 1 },
    listeners: [
      { name: 'thrift', address: '127.0.0.1:9090' },
      { name: 'json-rpc', address: 'http://127.0.0.1:9080' },
    ],
    calls: this.callStats.sums(),
    pools: this.pools,
    processes: [],
    leader: 'one',
    term: 1,
    ...this.change,
  });

  readonly meshStatus = (): Promise<MeshStatus> => {
    const own = this.status();
    return Promise.resolve({ ...own, pools: [...own.pools, ...this.elsewhere], processes: this.processes });
  };

  /** Names of shards: `part-00017`. */
  readonly shardNames = (id: string): Promise<readonly string[] | undefined> => {
    const index = this.indices.versions.find(({ name, version }) => `${name}@${version}` === id);
    const names = Array.from({ length: index?.shards ?? 0 }, (_, place) => `part-${String(place).padStart(5, '0')}`);
    return Promise.resolve(index === undefined ? undefined : names);
  };

  readonly events = (afterSeq: number): readonly MeshEvent[] => this.happened.filter(({ seq }) => seq > afterSeq);
  readonly poolStats = (): Iterable<PoolCallStats> => this.#poolStats.values();
  readonly extra = (): Iterable<MetricFamily> => this.families;

  /** A stats faceplate for this mesh; port 0 for any. */
  serve(port = 0): Promise<StatsFaceplate> {
    const { status, meshStatus, shardNames, events, callStats, poolStats, extra } = this;
    return startStatsFaceplate({
      status,
      meshStatus,
      indices: () => Promise.resolve(this.indices),
      shardNames,
      events,
      callStats,
      poolStats,
      extra,
      host: '127.0.0.1',
      port,
      limits: DEFAULT_LIMITS,
    });
  }

  statsOf(pool: PoolStatus): CallStats {
    const known = this.#poolStats.get(pool.id);
    if (known !== undefined) return known.stats;
    const stats = new CallStats();
    this.#poolStats.set(pool.id, { service: pool.service, version: pool.version, pool: pool.id, stats });
    return stats;
  }

  happens(kind: EventKind, subject: string, text: string, lines: readonly string[] = [], process = 'one'): void {
    this.happened.push({ seq: this.happened.length + 1, atMs: Date.now(), process, kind, subject, text, lines });
  }
}

/**
 * Two masters, three managers (one of them unreachable), two faceplates and five pools, as the first faceplate sees
 * them.
 */
export function madeFleet(): FakeMesh {
  const mesh = new FakeMesh();
  mesh.change = { name: 'front-1', roles: ['faceplate'], leader: 'master-1', term: 1207 };
  mesh.processes = [
    madeProcess('master-1', 'master', 'host-a', { isLeader: true }),
    madeProcess('master-2', 'master', 'host-b'),
    madeProcess('worker-1', 'manager', 'host-c', { capacity: 4, resources: 5 }),
    madeProcess('worker-2', 'manager', 'host-d', { capacity: 8, resources: 9, state: 'draining' }),
    madeProcess('worker-3', 'manager', 'host-e', { capacity: 4, resources: 6, state: 'unreachable' }),
    madeProcess('front-1', 'faceplate', 'host-a'),
    madeProcess('front-2', 'faceplate', 'host-b'),
  ];
  const unseen = { manager: 'worker-3', queueMax: 0, note: 'manager worker-3 cannot be reached' };
  mesh.elsewhere = [
    madePool('Calculator', '1.0.0', ['idle', 'busy'], { manager: 'worker-1', ratePerS: 20, p50Ms: 2, p99Ms: 9 }),
    madePool('Calculator', '1.0.0', ['busy', 'busy', 'backing_off'], {
      manager: 'worker-2',
      queued: 12,
      ratePerS: 60,
      p50Ms: 4,
      p99Ms: 21,
      restartsByReason: { crashed: 2 },
    }),
    madePool('Calculator', '2.0.0', ['idle'], { manager: 'worker-2', weight: 0.1, tags: ['preview'] }),
    madePool('Reformulate', '1.0.0', ['idle', 'starting'], { manager: 'worker-1' }),
    madePool('Search', '1.0.0', ['idle', 'busy'], { manager: 'worker-1', calls: 70, errors: 2 }),
    madePool('Search', '1.0.0', ['busy', 'draining'], { manager: 'worker-2', calls: 30, errors: 1 }),
    madePool('Search', '1.0.0', [], { ...unseen, wanted: 4 }),
    madePool('Troublemaker', '0.1.0', [], { ...unseen, wanted: 2 }),
  ];
  return mesh;
}

export function madeProcess(
  name: string,
  role: ProcessStatus['role'],
  machine: string,
  change: Partial<ProcessStatus> = {},
): ProcessStatus {
  const stats = `http://${machine}.example:9081`;
  return { name, role, machine, stats, state: 'up', capacity: 0, resources: 0, isLeader: false, ...change };
}

/** A version of an index whose shards are in the given states, by manager: a letter for each shard. */
export function madeIndex(
  name: string,
  version: string,
  letters: Readonly<Record<string, string>>,
  change: Partial<IndexOverview> = {},
): IndexOverview {
  const all = Object.values(letters);
  const shards = all[0]?.length ?? 0;
  const served = Array.from({ length: shards }, (_, place) => all.some((own) => own[place] === 's'));
  return {
    name,
    version,
    contentService: 'TextSearch@^1',
    state: 'complete',
    share: 1,
    entries: 1_234_567,
    bytes: 5 * 1024 ** 3,
    shards,
    served: served.filter(Boolean).length,
    replicas: 2,
    conditions: [],
    managers: Object.entries(letters).map(([manager, own]) => ({
      name: manager,
      isReachable: true,
      states: runLengths(own),
      bytesDone: 1024 ** 3,
      bytesWanted: own.includes('f') ? 4 * 1024 ** 3 : 1024 ** 3,
    })),
    calls: { whole: 0, partial: 0, exception: 0, incomplete: 0, failed: 0 },
    ...change,
  };
}

/** A pool whose resources are in the given states, with consistent figures. */
export function madePool(
  service: string,
  version: string,
  states: readonly ResourceState[],
  change: Partial<PoolStatus> = {},
): PoolStatus {
  const id = `${service}@${version}`;
  const alive = states.filter((state) => state === 'idle' || state === 'busy').length;
  return {
    id,
    service,
    version,
    roles: [],
    tags: [],
    interfaceId: 'f'.repeat(64),
    manager: 'one',
    wanted: states.length,
    alive,
    free: states.filter((state) => state === 'idle').length,
    queued: 0,
    queueMax: 64,
    weight: 1,
    calls: 0,
    errors: 0,
    ratePerS: 0,
    p50Ms: null,
    p99Ms: null,
    queueP99Ms: null,
    restartsByReason: {},
    resources: states.map((state, i) => madeResource(`${id}/${i}`, state)),
    note: '',
    ...change,
  };
}

function madeResource(name: string, state: ResourceState): ResourceStatus {
  const isRunning = state !== 'backing_off' && state !== 'failed';
  return {
    name,
    state,
    pid: isRunning ? 1000 + name.length : 0,
    inFlight: state === 'busy' ? 1 : 0,
    callsServed: 12,
    ageMs: isRunning ? 65_000 : 0,
    rssBytes: isRunning ? 48 * 1024 * 1024 : 0,
    restarts: isRunning ? 0 : 5,
    note: state === 'failed' ? 'Its interface differs from its pool: method add takes i64, i32 there' : '',
  };
}

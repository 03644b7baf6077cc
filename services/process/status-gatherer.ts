// The status of the whole mesh: the pools of every manager, requested over the links, and every process in Consul.
// Gathered on demand; a result is reused for FRESH_MS. For a manager that does not answer, the status shows its
// record in Consul.

import type { MeshStatus, PoolStatus, ProcessStatus } from '../../core/rpc/mod.ts';
import { ConsulError, within, type ConsulEntry } from '../consul/mod.ts';
import {
  FACEPLATE,
  keysOf,
  ManagerClient,
  MASTER,
  readRecord,
  readRecords,
  LEADER,
  type FaceplateRecord,
  type ManagerRecord,
  type MasterRecord,
  type PoolRecord,
} from '../mesh/mod.ts';
import type { ProcessBase } from './process-base.ts';

/** Masters, faceplates and leader as last read from Consul. */
interface KnownProcesses {
  readonly masters: ReadonlyMap<string, MasterRecord>;
  readonly faceplates: ReadonlyMap<string, FaceplateRecord>;
  readonly drained: ReadonlySet<string>;
  readonly leader: string;
  readonly term: number;
}

export class StatusGatherer {
  readonly #base: ProcessBase;
  #known: KnownProcesses = { masters: new Map(), faceplates: new Map(), drained: new Set(), leader: '', term: 0 };
  #gathering: Promise<PoolStatus[]> | undefined;
  #gathered: { readonly pools: PoolStatus[]; readonly atMs: number } | undefined;

  constructor(base: ProcessBase) {
    this.#base = base;
  }

  /** Returns the mesh status. Own figures are current, so a caller sees its last call; others may be FRESH_MS old. */
  async status(): Promise<MeshStatus> {
    const others = await this.#others();
    const own = this.#base.status.read();
    const { router } = this.#base;
    const weigh = (pool: PoolStatus): PoolStatus => ({ ...pool, weight: router.weightOf(pool.service, pool.version) });
    return {
      ...own,
      pools: [...own.pools, ...others.map(weigh)],
      processes: this.#processes(own),
      leader: this.#known.leader,
      term: this.#known.term,
    };
  }

  /** Returns the pools of the other managers. Concurrent calls share one round of requests. */
  #others(): Promise<PoolStatus[]> {
    const { clock } = this.#base;
    if (this.#gathered !== undefined && clock.nowMs() - this.#gathered.atMs < FRESH_MS) {
      return Promise.resolve(this.#gathered.pools);
    }
    this.#gathering ??= this.#gather().finally(() => (this.#gathering = undefined));
    return this.#gathering;
  }

  async #gather(): Promise<PoolStatus[]> {
    const { fleet, clock, roles, config } = this.#base;
    const others = [...fleet.records].filter(([name]) => name !== config.name || !roles.includes('manager'));
    const found = Promise.all(others.map(([name, record]) => this.#poolsOf(name, record)));
    const [pools] = await Promise.all([found, this.#refreshProcesses()]);
    this.#gathered = { pools: pools.flat(), atMs: clock.nowMs() };
    return this.#gathered.pools;
  }

  async #poolsOf(name: string, record: ManagerRecord): Promise<readonly PoolStatus[]> {
    const { fleet, clock } = this.#base;
    const peer = fleet.peers.find((one) => one.name === name);
    try {
      if (peer === undefined || !peer.isUsable) throw new Error(`manager ${name} cannot be reached`);
      return (await new ManagerClient(peer, clock).status()).pools;
    } catch (error) {
      return record.pools.map((pool) => statusFromRecord(pool, name, (error as Error).message));
    }
  }

  /** Reads the processes from Consul. Keeps the last result while Consul is unreachable. */
  async #refreshProcesses(): Promise<void> {
    const { clock, reachability } = this.#base;
    try {
      this.#known = await within(clock, CONSUL_MS, (signal) => this.#readProcesses(signal));
    } catch (error) {
      if (!(error instanceof ConsulError)) throw error;
      if (!error.isCancelled) reachability.failed(error);
    }
  }

  async #readProcesses(signal: AbortSignal): Promise<KnownProcesses> {
    const { client, config } = this.#base;
    const keys = keysOf(config.mesh);
    const list = async (prefix: string): Promise<Map<string, ConsulEntry>> =>
      new Map((await client.list(prefix, { signal })).entries.map((entry) => [entry.key, entry]));
    const [masters, faceplates, drained, leader] = await Promise.all([
      list(keys.masters),
      list(keys.faceplates),
      list(keys.drained),
      client.get(keys.leader, signal),
    ]);
    const led = leader === undefined || leader.session === '' ? undefined : readRecord(LEADER, leader.value);
    return {
      masters: readRecords(MASTER, keys.masters, masters, { onlyHeld: true }),
      faceplates: readRecords(FACEPLATE, keys.faceplates, faceplates, { onlyHeld: true }),
      drained: new Set([...drained.keys()].map((key) => key.slice(keys.drained.length))),
      leader: led === undefined || led instanceof Error ? '' : led.name,
      term: leader?.lockIndex ?? 0,
    };
  }

  #processes(own: MeshStatus): ProcessStatus[] {
    const { masters, faceplates, leader } = this.#known;
    const { fleet, config } = this.#base;
    const plain = { capacity: 0, resources: 0, isLeader: false, state: 'up' } as const;
    return [
      ...[...masters].map(([name, { machine, stats }]) => ({
        ...plain,
        name,
        role: 'master' as const,
        machine,
        stats,
        isLeader: name === leader,
      })),
      ...[...fleet.records].map(([name, record]) => ({
        ...plain,
        name,
        role: 'manager' as const,
        machine: record.machine,
        stats: record.stats,
        state: this.#stateOf(name, record, own),
        capacity: record.capacity,
        resources: record.pools.reduce((sum, { alive }) => sum + alive, 0),
      })),
      ...[...faceplates].map(([name, { machine, stats }]) => ({
        ...plain,
        name,
        role: 'faceplate' as const,
        machine,
        stats,
        state: name === config.name && own.isDraining ? ('draining' as const) : plain.state,
      })),
    ];
  }

  #stateOf(name: string, record: ManagerRecord, own: MeshStatus): ProcessStatus['state'] {
    if (record.isDraining || this.#known.drained.has(name)) return 'draining';
    if (name === own.name && own.roles.includes('manager')) return 'up';
    return this.#base.fleet.stateOf(name) === 'up' ? 'up' : 'unreachable';
  }
}

/** Returns the status of a pool of which only the record in Consul is known. */
function statusFromRecord(pool: PoolRecord, manager: string, note: string): PoolStatus {
  const { id, service, version, roles, tags, interfaceId, alive } = pool;
  return {
    id,
    service,
    version,
    roles,
    tags,
    interfaceId,
    manager,
    wanted: alive,
    alive: 0,
    free: 0,
    queued: 0,
    queueMax: 0,
    weight: 0,
    calls: 0,
    errors: 0,
    ratePerS: 0,
    p50Ms: null,
    p99Ms: null,
    queueP99Ms: null,
    restartsByReason: {},
    resources: [],
    note,
  };
}

/** Time for which gathered figures of other processes are reused. */
const FRESH_MS = 200;
/** Timeout for reading the processes from Consul. */
const CONSUL_MS = 1_000;

// The resource managers of the mesh as this process sees them. Consul says which managers exist; the links say which
// are reachable. The fleet makes one offer for each pool of every other manager. While Consul is unreachable, its
// last response stays in use. A manager that Consul no longer lists stays as long as its link answers: its session
// may have expired, or Consul may have lost its data, while the manager still works.

import { DeadlineWheel, type LinkSecurity } from '../../core/link/mod.ts';
import type { Clock, MessageLimits } from '../../core/mod.ts';
import {
  type ConsulClient,
  type ConsulError,
  watchPrefix,
  type ConsulWatch,
  type WatchedEntries,
  type WatchStats,
} from '../consul/mod.ts';
import type { DeployedService } from './deployed.ts';
import type { EventLog } from './event-log.ts';
import { InterfaceStore } from './interface-store.ts';
import { Peer, type PeerState } from './peer.ts';
import { keysOf, MANAGER, readRecords, type ManagerRecord, type PoolRecord, type RecordCache } from './records.ts';
import { RemotePool } from './remote-pool.ts';

export interface FleetOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  /** Name of the manager in this process, whose pools need no link; '' for none. */
  readonly self: string;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly security: LinkSecurity | undefined;
  readonly limits: MessageLimits;
  /** Faceplates keep links to all managers; managers connect only to those that their chassis call. */
  readonly connects: 'at once' | 'on demand';
  /** Called when pools were added or removed, or their reachability changed. */
  readonly onChange: () => void;
  /** Called for every response of Consul. */
  readonly onAnswer: () => void;
  /** Called for every failed request to Consul. */
  readonly onError: (error: ConsulError) => void;
}

/** One manager with its record, link and pools. */
interface Member {
  record: ManagerRecord;
  readonly peer: Peer;
  readonly pools: Map<string, RemotePool>;
  /** True while Consul no longer lists the manager but its link still answers. */
  isUnlisted: boolean;
}

export class Fleet {
  readonly #options: FleetOptions;
  readonly #members = new Map<string, Member>();
  readonly #deadlines: DeadlineWheel;
  readonly #end = new AbortController();
  readonly interfaces: InterfaceStore;
  #watch: ConsulWatch | undefined;
  /** Records of all managers, including the one of this process. */
  #records: ReadonlyMap<string, ManagerRecord> = new Map();
  readonly #recordCache: RecordCache<ManagerRecord> = new Map();
  #changePending = false;
  readonly #onNextChange = new Set<() => void>();
  /** What managers ran that have left; kept for LEFT_KEPT_MS, because a restarted manager comes back. */
  readonly #left = new Map<string, { readonly record: ManagerRecord; readonly forget: () => void }>();

  constructor(options: FleetOptions) {
    this.#options = options;
    this.#deadlines = new DeadlineWheel(options.clock);
    this.interfaces = new InterfaceStore({
      client: options.client,
      keys: keysOf(options.mesh),
      clock: options.clock,
      onLoaded: () => this.#changed(),
      onError: options.onError,
      onWrong: (id, why) =>
        options.events.add('consul_lost', `idl/${id.slice(0, 12)}`, `pools with this interface are ignored: ${why}`),
    });
  }

  /** Starts to watch the managers in Consul. Resolves after its first response. */
  start(): Promise<void> {
    const { client, mesh, clock, onAnswer, onError } = this.#options;
    this.#watch = watchPrefix(client, keysOf(mesh).managers, (entries) => this.#onRecords(entries), {
      signal: this.#end.signal,
      onAnswer,
      onError,
      clock,
    });
    return this.#watch.ready;
  }

  /** Resolves when the interfaces of all known pools are loaded, or when the fleet closes. */
  async whenInterfacesKnown(): Promise<void> {
    const isKnown = ({ record, pools }: Member): boolean => record.pools.every((pool) => pools.has(poolKey(pool)));
    while (!this.#end.signal.aborted && ![...this.#members.values()].every(isKnown)) {
      await new Promise<void>((resolve) => this.#onNextChange.add(resolve));
    }
  }

  /** Loads the managers of a snapshot, for a start without Consul. Does nothing once records are known. */
  loadSnapshot(records: ReadonlyMap<string, ManagerRecord>): void {
    if (this.#records.size === 0) this.#apply(records);
  }

  /** Every manager that Consul lists or whose link still answers, by name. */
  get records(): ReadonlyMap<string, ManagerRecord> {
    return this.#records;
  }

  stats(): WatchStats | undefined {
    return this.#watch?.stats();
  }

  /** The other managers, for calls of the mesh itself. */
  get peers(): readonly Peer[] {
    return [...this.#members.values()].map(({ peer }) => peer);
  }

  /** State of the link to a manager; undefined when there is no such manager. */
  stateOf(manager: string): PeerState | undefined {
    return this.#members.get(manager)?.peer.state;
  }

  /** Returns the pools whose interface is known, of all other managers that are not draining. */
  offers(): readonly RemotePool[] {
    return [...this.#members.values()].flatMap(({ record, pools }) => (record.isDraining ? [] : [...pools.values()]));
  }

  /**
   * Returns what the other managers run: their pools, also of those that are draining, and the deployments that have
   * no pool yet. A manager that has left counts for a minute, so that calls wait while it restarts.
   */
  deployed(): readonly DeployedService[] {
    const records = [...this.#members.values(), ...this.#left.values()].map(({ record }) => record);
    return records.flatMap(({ pools, starting }) => [
      ...starting,
      ...pools.map(({ service, version, roles }) => ({
        service,
        version,
        roles,
        queueMax: UNKNOWN_QUEUE_MAX,
        failure: '',
      })),
    ]);
  }

  close(): void {
    for (const { forget } of this.#left.values()) forget();
    this.#left.clear();
    this.#end.abort();
    this.interfaces.close();
    for (const { peer } of this.#members.values()) peer.close('this process is stopping');
    this.#members.clear();
    this.#notifyWaiters();
  }

  #onRecords(entries: WatchedEntries): void {
    const { mesh, events } = this.#options;
    this.#apply(
      readRecords(MANAGER, keysOf(mesh).managers, entries, {
        onlyHeld: true,
        cache: this.#recordCache,
        onInvalid: (name, error) => events.add('consul_lost', `managers/${name}`, `record ignored: ${error.message}`),
      }),
    );
  }

  #apply(listed: ReadonlyMap<string, ManagerRecord>): void {
    const { self, events } = this.#options;
    for (const [name, record] of listed) {
      if (name === self) continue;
      const before = this.#members.get(name);
      if (before?.peer.address === record.address) {
        before.record = record;
        before.isUnlisted = false;
        continue;
      }
      before?.peer.close('the address of the manager has changed');
      this.#left.get(name)?.forget();
      this.#left.delete(name);
      this.#members.set(name, this.#addMember(name, record));
      events.add('manager_joined', name, `at ${record.address}`);
    }
    for (const [name, member] of this.#members) {
      if (listed.has(name)) continue;
      member.isUnlisted = true;
      if (!isLinked(member.peer.state)) this.#removeMember(name, member);
    }
    this.#setRecords(listed);
    this.#changed();
  }

  #addMember(name: string, record: ManagerRecord): Member {
    const { security, limits, connects, clock } = this.#options;
    const peer = new Peer({
      name,
      address: record.address,
      security,
      limits,
      connects,
      clock,
      deadlines: this.#deadlines,
      onState: (state, why) => this.#onState(name, peer, state, why),
    });
    return { record, peer, pools: new Map(), isUnlisted: false };
  }

  #onState(name: string, peer: Peer, state: PeerState, why: string): void {
    const member = this.#members.get(name);
    if (member?.peer !== peer) return;
    if (state === 'up') this.#options.events.add('link_found', name, `linked to ${peer.address}`);
    else if (why !== '') this.#options.events.add('link_lost', name, why);
    if (member.isUnlisted && !isLinked(state)) {
      this.#removeMember(name, member);
      const records = new Map(this.#records);
      records.delete(name);
      this.#records = records;
    }
    this.#changed();
  }

  #removeMember(name: string, { peer, record }: Member): void {
    this.#members.delete(name);
    peer.close('the manager has left');
    const forget = this.#options.clock.after(LEFT_KEPT_MS, () => {
      this.#left.delete(name);
      this.#changed();
    });
    this.#left.set(name, { record, forget });
    this.#options.events.add('manager_left', name, 'Consul no longer lists it, and its link is closed');
  }

  #setRecords(listed: ReadonlyMap<string, ManagerRecord>): void {
    const records = new Map(listed);
    for (const [name, { record }] of this.#members) if (!records.has(name)) records.set(name, record);
    this.#records = new Map([...records].sort(([a], [b]) => (a < b ? -1 : 1)));
    const used = [...this.#records.values()].flatMap(({ pools }) => pools.map(({ interfaceId }) => interfaceId));
    this.interfaces.keepOnly(new Set(used));
  }

  /** Schedules a microtask that updates the pools and calls `onChange`, once for all changes before it runs. */
  #changed(): void {
    if (this.#changePending || this.#end.signal.aborted) return;
    this.#changePending = true;
    queueMicrotask(() => {
      this.#changePending = false;
      if (this.#end.signal.aborted) return;
      for (const member of this.#members.values()) this.#updatePools(member);
      this.#options.onChange();
      this.#notifyWaiters();
    });
  }

  #notifyWaiters(): void {
    for (const resolve of this.#onNextChange) resolve();
    this.#onNextChange.clear();
  }

  #updatePools({ record, peer, pools }: Member): void {
    const listed = new Map(record.pools.map((pool) => [poolKey(pool), pool]));
    for (const key of pools.keys()) if (!listed.has(key)) pools.delete(key);
    for (const [key, pool] of listed) {
      const iface = this.interfaces.get({ id: pool.interfaceId, service: pool.service });
      const known = pools.get(key);
      if (known !== undefined) known.setAlive(pool.alive);
      else if (iface !== undefined)
        pools.set(key, new RemotePool(pool, iface, peer, this.#options.clock, () => this.#changed()));
    }
  }
}

/** Whether the manager still answers calls on its link; true for a draining manager too. */
function isLinked(state: PeerState): boolean {
  return state === 'up' || state === 'leaving';
}

const LEFT_KEPT_MS = 60_000;
/** Calls that may wait for a pool of a manager that is away: the default of a deployment. */
const UNKNOWN_QUEUE_MAX = 256;

/** Key of a pool within one manager. */
function poolKey({ id, service, version, roles, tags, more, interfaceId }: PoolRecord): string {
  return JSON.stringify([id, service, version, roles, tags, more, interfaceId]);
}

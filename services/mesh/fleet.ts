// The resource managers of the mesh as this process sees them: who they are comes from Consul, whether they can be reached from the links.
// Makes an offer of every pool of every other manager. What Consul said last stays true while Consul is away; and a manager that vanished
// from Consul stays for as long as its link answers: its session may have been lost, or Consul emptied, while it works on.

import { DeadlineWheel, type LinkSecurity } from '../../core/link/mod.ts';
import type { Clock } from '../../core/mod.ts';
import {
  type ConsulClient,
  type ConsulError,
  watchPrefix,
  type ConsulWatch,
  type WatchedEntries,
  type WatchStats,
} from '../consul/mod.ts';
import type { EventLog } from './event-log.ts';
import { InterfaceStore } from './interface-store.ts';
import { Peer, type PeerState } from './peer.ts';
import { keysOf, MANAGER, readRecords, type ManagerRecord, type PoolRecord, type RecordCache } from './records.ts';
import { RemotePool } from './remote-pool.ts';

export interface FleetOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  /** Name of the manager in this process, whose pools are at hand without a link; '' for none. */
  readonly self: string;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly security: LinkSecurity | undefined;
  readonly frameBytesMax: number;
  /** Faceplates keep links to all managers, managers only to those that their chassis call. */
  readonly connects: 'at once' | 'on demand';
  /** Pools came, went, or can be reached otherwise than before. */
  readonly onChange: () => void;
  /** Told of every answer of Consul, and of every failure. */
  readonly onAnswer: () => void;
  readonly onError: (error: ConsulError) => void;
}

/** One manager: its record, its link, its pools. */
interface Member {
  record: ManagerRecord;
  readonly peer: Peer;
  readonly pools: Map<string, RemotePool>;
  /** Consul has it no more. */
  isUnlisted: boolean;
}

export class Fleet {
  readonly #options: FleetOptions;
  readonly #members = new Map<string, Member>();
  readonly #deadlines: DeadlineWheel;
  readonly #end = new AbortController();
  readonly interfaces: InterfaceStore;
  #watch: ConsulWatch | undefined;
  /** All that is listed, this process's own too. */
  #records: ReadonlyMap<string, ManagerRecord> = new Map();
  readonly #read: RecordCache<ManagerRecord> = new Map();
  #changePending = false;
  readonly #awaitingChange = new Set<() => void>();

  constructor(options: FleetOptions) {
    this.#options = options;
    this.#deadlines = new DeadlineWheel(options.clock);
    this.interfaces = new InterfaceStore({
      client: options.client,
      keys: keysOf(options.mesh),
      clock: options.clock,
      onLearned: () => this.#changed(),
      onError: options.onError,
      onWrong: (id, why) =>
        options.events.add('consul_lost', `idl/${id.slice(0, 12)}`, `its pools are not used: ${why}`),
    });
  }

  /** Begins with what was known before (a snapshot, if Consul does not answer), then follows Consul. Resolves with its first answer. */
  start(): Promise<void> {
    const { client, mesh, clock, onAnswer, onError } = this.#options;
    this.#watch = watchPrefix(client, keysOf(mesh).managers, (entries) => this.#take(entries), {
      signal: this.#end.signal,
      onAnswer,
      onError,
      clock,
    });
    return this.#watch.ready;
  }

  /** Resolves when the pools of all managers that are known by now can be offered, or this has ended. */
  async whenInterfacesKnown(): Promise<void> {
    const isKnown = ({ record, pools }: Member): boolean => record.pools.every((pool) => pools.has(poolKey(pool)));
    while (!this.#end.signal.aborted && ![...this.#members.values()].every(isKnown)) {
      await new Promise<void>((resolve) => this.#awaitingChange.add(resolve));
    }
  }

  /** What a snapshot says, for a start without Consul. */
  begin(records: ReadonlyMap<string, ManagerRecord>): void {
    if (this.#records.size === 0) this.#apply(records);
  }

  /** Every manager that Consul lists, or that works on without it, by name. */
  get records(): ReadonlyMap<string, ManagerRecord> {
    return this.#records;
  }

  stats(): WatchStats | undefined {
    return this.#watch?.stats();
  }

  /** Managers that are linked to, for what is not a user's call. */
  get peers(): readonly Peer[] {
    return [...this.#members.values()].map(({ peer }) => peer);
  }

  stateOf(manager: string): PeerState | undefined {
    return this.#members.get(manager)?.peer.state;
  }

  /** Pools of the other managers whose interface is known. */
  offers(): readonly RemotePool[] {
    return [...this.#members.values()].flatMap(({ record, pools }) => (record.isDraining ? [] : [...pools.values()]));
  }

  close(): void {
    this.#end.abort();
    this.interfaces.close();
    for (const { peer } of this.#members.values()) peer.close('this process is stopping');
    this.#members.clear();
    this.#tellChange();
  }

  #take(entries: WatchedEntries): void {
    const { mesh, events } = this.#options;
    this.#apply(
      readRecords(MANAGER, keysOf(mesh).managers, entries, {
        onlyHeld: true,
        before: this.#read,
        onWrong: (name, error) =>
          events.add('consul_lost', `managers/${name}`, `its record is not used: ${error.message}`),
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
      before?.peer.close('the manager has another address now');
      this.#members.set(name, this.#join(name, record));
      events.add('manager_joined', name, `at ${record.address}`);
    }
    for (const [name, member] of this.#members) {
      if (listed.has(name)) continue;
      member.isUnlisted = true;
      if (!isLinked(member.peer.state)) this.#leave(name, member);
    }
    this.#noteRecords(listed);
    this.#changed();
  }

  #join(name: string, record: ManagerRecord): Member {
    const { security, frameBytesMax, connects, clock } = this.#options;
    const peer = new Peer({
      name,
      address: record.address,
      security,
      frameBytesMax,
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
      this.#leave(name, member);
      const { [name]: _, ...others } = Object.fromEntries(this.#records);
      this.#records = new Map(Object.entries(others));
    }
    this.#changed();
  }

  #leave(name: string, { peer }: Member): void {
    this.#members.delete(name);
    peer.close('the manager has left');
    this.#options.events.add('manager_left', name, 'Consul has it no more, and its link is gone');
  }

  #noteRecords(listed: ReadonlyMap<string, ManagerRecord>): void {
    const records = new Map(listed);
    for (const [name, { record }] of this.#members) if (!records.has(name)) records.set(name, record);
    this.#records = new Map([...records].sort(([a], [b]) => (a < b ? -1 : 1)));
    const used = [...this.#records.values()].flatMap(({ pools }) => pools.map(({ interfaceId }) => interfaceId));
    this.interfaces.keepOnly(new Set(used));
  }

  /** Brings the pools into line and tells, once for all that happens in one turn of the loop. */
  #changed(): void {
    if (this.#changePending || this.#end.signal.aborted) return;
    this.#changePending = true;
    queueMicrotask(() => {
      this.#changePending = false;
      if (this.#end.signal.aborted) return;
      for (const member of this.#members.values()) this.#alignPools(member);
      this.#options.onChange();
      this.#tellChange();
    });
  }

  #tellChange(): void {
    for (const tell of this.#awaitingChange) tell();
    this.#awaitingChange.clear();
  }

  #alignPools({ record, peer, pools }: Member): void {
    const wanted = new Map(record.pools.map((pool) => [poolKey(pool), pool]));
    for (const key of pools.keys()) if (!wanted.has(key)) pools.delete(key);
    for (const [key, pool] of wanted) {
      const found = this.interfaces.get({ id: pool.interfaceId, service: pool.service });
      const known = pools.get(key);
      if (known !== undefined) known.setAlive(pool.alive);
      else if (found !== undefined) pools.set(key, new RemotePool(pool, found, peer, this.#options.clock));
    }
  }
}

/** Also one that is leaving: what is under way on it is still answered. */
function isLinked(state: PeerState): boolean {
  return state === 'up' || state === 'leaving';
}

/** All that makes it this pool and no other. */
function poolKey({ id, service, version, roles, tags, more, interfaceId }: PoolRecord): string {
  return JSON.stringify([id, service, version, roles, tags, more, interfaceId]);
}

// Offers the index versions of the mesh to the router of this process, and gathers their calls. An index version is
// offered from the first time that all its shards were served.

import { DeadlineWheel } from '../../core/link/mod.ts';
import { HedgeBudget, KatamariError, RequestLatencies, RetryBudget } from '../../core/mod.ts';
import { NONE, type Call, type PoolQuery, type PoolView } from '../../core/rpc/mod.ts';
import type { Interface } from '../../core/thrift/mod.ts';
import type { WatchStats } from '../consul/mod.ts';
import type { DeployedService, IndexRecord, Offer, Peer } from '../mesh/mod.ts';
import { GatherCounts } from './gather-counts.ts';
import { HoldingsFollower, type ReadHoldings } from './holdings-follower.ts';
import { IndexCatalog, type IndexCatalogOptions } from './index-catalog.ts';
import { IndexOffer, type IndexOfferOptions } from './index-offer.ts';
import { HEDGES_PER_SECOND } from './limits.ts';
import { ReplicaWaits } from './replica-waits.ts';
import type { GatherTools } from './gather-tools.ts';
import { SearchOffer } from './search-offer.ts';
import { ShardMap } from './shard-map.ts';
import { StatisticsCache } from './statistics-cache.ts';

export interface GathererOptions extends Omit<IndexCatalogOptions, 'onChange'> {
  /** Name of this process. */
  readonly self: string;
  /** The other managers. */
  readonly peers: () => readonly Peer[];
  /** Called when the offers have changed. */
  readonly onChange: () => void;
  readonly mayCall: IndexOfferOptions['mayCall'];
  /** Version of Katamari, which is that of the service KatamariSearch. */
  readonly version: string;
  /** The pool that a call gets now. @throws KatamariError no_pool, denied */
  readonly choose: (query: PoolQuery) => PoolView;
}

export class Gatherer {
  readonly counts: GatherCounts = new GatherCounts();
  readonly #options: GathererOptions;
  readonly #catalog: IndexCatalog;
  readonly #follower: HoldingsFollower;
  readonly #map = new ShardMap();
  readonly #tools: GatherTools;
  readonly #offers = new Map<string, IndexOffer>();
  readonly #search: SearchOffer;
  #readOwn: ReadHoldings | undefined;
  #stopChange: (() => void) | undefined;

  constructor(options: GathererOptions) {
    this.#options = options;
    const { clock } = options;
    this.#tools = {
      clock,
      deadlines: new DeadlineWheel(clock),
      retries: new RetryBudget(clock),
      hedges: new HedgeBudget(clock, HEDGES_PER_SECOND),
      latencies: new RequestLatencies(),
      statistics: new StatisticsCache(),
      replicaWaits: new ReplicaWaits(clock),
      counts: this.counts,
    };
    this.#search = new SearchOffer({
      self: options.self,
      version: options.version,
      tools: this.#tools,
      map: this.#map,
      names: () => [...new Set([...this.#offers.values()].map(({ details }) => details.service))].sort(),
      choose: (call, name, version) => this.#choose(call, name, version),
    });
    this.#catalog = new IndexCatalog({ ...options, onChange: () => this.#catalogChanged() });
    this.#follower = new HoldingsFollower(clock, (manager, holdings) => {
      this.#map.setHoldings(manager, holdings);
      this.#tools.replicaWaits.changed();
      this.#changedSoon();
    });
  }

  /** Starts to watch the index versions in Consul. Resolves after its first response. */
  start(): Promise<void> {
    return this.#catalog.start();
  }

  /** Loads the index versions of a snapshot, for a start without Consul. */
  loadSnapshot(records: ReadonlyMap<string, IndexRecord>): void {
    this.#catalog.loadSnapshot(records);
  }

  /** Reads what the manager of this process serves. */
  followOwn(read: ReadHoldings): void {
    this.#readOwn = read;
    this.#follow();
  }

  /** The index versions of the mesh, by `name@version`. */
  get records(): ReadonlyMap<string, IndexRecord> {
    return this.#catalog.records;
  }

  stats(): WatchStats | undefined {
    return this.#catalog.stats();
  }

  /**
   * Returns the offers of the index versions.
   * @param pools the pools of all managers, which serve the shards
   */
  offers(pools: readonly Offer[]): readonly Offer[] {
    const { records, indices } = this.#catalog;
    for (const id of this.#offers.keys()) {
      if (records.has(id)) continue;
      this.#offers.delete(id);
      this.counts.forget(id);
    }
    this.#follow();
    if (records.size === 0) return [];
    this.#map.setOffers(pools);
    this.#tools.replicaWaits.changed();
    const offers = [...records].flatMap(([id, { readyAtMs }]): Offer[] => {
      if (readyAtMs === 0 || !indices.has(id)) return [];
      const known = this.#offers.get(id);
      const iface = this.#map.offerOf(id)?.interface ?? known?.interface;
      if (iface === undefined) return [];
      return [known?.interface.id === iface.id ? known : this.#addOffer(id, iface)];
    });
    return offers.length === 0 ? [] : [...offers, this.#search];
  }

  /** The index versions without an offer: calls for them wait, or fail with the state of the loading. */
  deployed(): readonly DeployedService[] {
    return [...this.#catalog.records].map(([id, { name, version, readyAtMs, shards }]) => {
      const common = { service: name, version, roles: [], queueMax: WAITING_MAX };
      if (readyAtMs > 0) return { ...common, failure: '' };
      const served = this.#map.servedCount(id);
      // When all are served, the leader records it in a moment, and calls wait for that.
      const failure = served >= shards ? '' : `${id} is being loaded: ${served} of ${shards} shards are served`;
      return { ...common, failure, isLoading: true };
    });
  }

  /** Shards of an index version that a manager serves that can be reached from here. */
  servedShards(id: string): number {
    const { holders = [] } = this.#map.get(id) ?? {};
    return holders.filter((own) => own.some(({ isReachable }) => isReachable)).length;
  }

  /**
   * Collects changes of holdings, because each rebuilds the router. While an index loads, every manager sends a change
   * every few milliseconds.
   */
  #changedSoon(): void {
    this.#stopChange ??= this.#options.clock.after(CHANGE_AFTER_MS, () => {
      this.#stopChange = undefined;
      this.#options.onChange();
    });
  }

  close(): void {
    this.#stopChange?.();
    this.#catalog.close();
    this.#follower.close();
  }

  /** The version of an index that a call gets. */
  #choose(call: Call, name: string, version: string): IndexOffer {
    const { method, tags, details, key, identity } = call;
    const { id } = this.#options.choose({ service: name, method, version, roles: NONE, tags, details, key, identity });
    const offer = this.#offers.get(id);
    if (offer !== undefined) return offer;
    throw new KatamariError('no_pool', `${name} is a service and no index, so it cannot be searched`, { notRun: true });
  }

  #addOffer(id: string, iface: Interface): IndexOffer {
    const { self, mayCall } = this.#options;
    const offer = new IndexOffer(id, iface, {
      self,
      tools: this.#tools,
      map: this.#map,
      offerOf: (other) => this.#offers.get(other),
      mayCall,
    });
    this.#offers.set(id, offer);
    return offer;
  }

  #catalogChanged(): void {
    this.#map.setIndices(this.#catalog.indices);
    this.#options.onChange();
  }

  /** A mesh without indices needs no polls. */
  #follow(): void {
    if (this.#catalog.records.size === 0) {
      this.#follower.close();
      return;
    }
    this.#follower.follow(this.#options.peers());
    if (this.#readOwn !== undefined) this.#follower.followOwn(this.#options.self, this.#readOwn);
  }
}

/** Changes of holdings within this time rebuild the router once. */
const CHANGE_AFTER_MS = 50;
/** Calls that may wait for the first manager of an index version. */
const WAITING_MAX = 256;

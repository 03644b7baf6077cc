// An index version as a pool of the router: a service whose calls are gathered from its shards. So versions, ranges,
// weights, sticky keys, statistics and access rules hold for indices as they do for services.

import { asKatamariError, clipText, KatamariError } from '../../core/mod.ts';
import { NONE, type Call, type CallerIdentity, type PoolDetails, type Send } from '../../core/rpc/mod.ts';
import type { Interface, Method } from '../../core/thrift/mod.ts';
import type { Offer } from '../mesh/mod.ts';
import { shardsOfDocuments } from './arguments.ts';
import { CountedSink } from './gather-counts.ts';
import { gatherCall } from './gather-call.ts';
import { NAME_CHARS_MAX } from './limits.ts';
import { searchCall, shardOfCursor, takesStatistics } from './search-call.ts';
import type { GatherTools } from './gather-tools.ts';
import type { ServedIndex, ShardMap } from './shard-map.ts';

export interface IndexOfferOptions {
  /** Name of this process, which gathers. */
  readonly self: string;
  readonly tools: GatherTools;
  readonly map: ShardMap;
  /** The offer of another index version. */
  readonly offerOf: (id: string) => Offer | undefined;
  /** Whether the access policy allows a call of a pool. */
  readonly mayCall: (identity: CallerIdentity, pool: Offer, method: string) => boolean;
}

export class IndexOffer implements Offer {
  readonly id: string;
  readonly manager: string;
  readonly details: PoolDetails;
  readonly interface: Interface;
  readonly isReachable = true;
  readonly queued = 0;
  readonly #options: IndexOfferOptions;

  constructor(id: string, iface: Interface, options: IndexOfferOptions) {
    const at = id.indexOf('@');
    this.id = id;
    this.manager = options.self;
    this.details = { service: id.slice(0, at), version: id.slice(at + 1), roles: NONE, tags: NONE, more: {} };
    this.interface = iface;
    this.#options = options;
  }

  /** Managers that serve its shards. */
  get alive(): number {
    const { managers = [] } = this.#options.map.get(this.id) ?? {};
    return managers.reduce((count, { isReachable }) => (isReachable ? count + 1 : count), 0);
  }

  /** Calls never wait for each other here: they wait at the managers. */
  get free(): number {
    return this.alive;
  }

  readonly send: Send = (call, caller) => {
    let sink = caller;
    try {
      const method = this.interface.methods.get(call.method);
      if (method?.gather === undefined) {
        const why = `${call.method} of ${this.interface.service} cannot be called through an index: it has no katamari.gather`;
        throw new KatamariError('bad_request', why, { notRun: true });
      }
      const { tools } = this.#options;
      sink = new CountedSink(caller, tools.counts.of(this.id, method.name));
      const index = this.#indexFor(call, method);
      if (takesStatistics(method)) searchCall(tools, index, this.interface, call, sink);
      else gatherCall(tools, index, method, call, sink);
    } catch (error) {
      sink.fail(asKatamariError(error));
    }
  };

  /**
   * The index version that the call is about. Documents and cursors of an earlier answer may be of another version than
   * the one that gets the calls now.
   * @throws KatamariError no_pool
   */
  #indexFor({ args, identity }: Call, method: Method): ServedIndex {
    const { map, offerOf, mayCall } = this.#options;
    const named = shardOfCursor(method, args) ?? shardsOfDocuments(method, args)[0];
    const id = named === undefined ? this.id : (named.split('/', 1)[0] as string);
    const offer = id === this.id ? this : offerOf(id);
    const isAllowed =
      offer === this ||
      (offer !== undefined &&
        offer.details.service === this.details.service &&
        offer.interface.methods.has(method.name) &&
        mayCall(identity, offer, method.name));
    const index = isAllowed ? map.get(id) : undefined;
    if (index !== undefined) return index;
    throw new KatamariError(
      'no_pool',
      `There is no ${clipText(id, NAME_CHARS_MAX)} here, or this caller may not call it`,
      { notRun: true },
    );
  }
}

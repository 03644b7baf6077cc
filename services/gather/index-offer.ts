// An index version as a pool of the router: a service whose calls are gathered from its shards. So versions, ranges,
// weights, sticky keys, statistics and access rules hold for indices as they do for services.

import { KatamariError } from '../../core/mod.ts';
import { NONE, type PoolDetails, type Send } from '../../core/rpc/mod.ts';
import type { Interface } from '../../core/thrift/mod.ts';
import type { Offer } from '../mesh/mod.ts';
import { gatherCall } from './gather-call.ts';
import type { GatherTools } from './scatter.ts';
import type { ShardMap } from './shard-map.ts';

export class IndexOffer implements Offer {
  readonly id: string;
  readonly manager: string;
  readonly details: PoolDetails;
  readonly interface: Interface;
  readonly isReachable = true;
  readonly queued = 0;
  readonly #tools: GatherTools;
  readonly #map: ShardMap;

  /** @param self name of this process, which gathers */
  constructor(id: string, iface: Interface, self: string, tools: GatherTools, map: ShardMap) {
    const at = id.indexOf('@');
    this.id = id;
    this.manager = self;
    this.details = { service: id.slice(0, at), version: id.slice(at + 1), roles: NONE, tags: NONE, more: {} };
    this.interface = iface;
    this.#tools = tools;
    this.#map = map;
  }

  /** Managers that serve its shards. */
  get alive(): number {
    const { managers = [] } = this.#map.get(this.id) ?? {};
    return managers.reduce((count, { isReachable }) => (isReachable ? count + 1 : count), 0);
  }

  /** Calls never wait for each other here: they wait at the managers. */
  get free(): number {
    return this.alive;
  }

  readonly send: Send = (call, sink) => {
    const index = this.#map.get(this.id);
    if (index === undefined)
      return sink.fail(new KatamariError('no_pool', `${this.id} has been removed`, { notRun: true }));
    const method = this.interface.methods.get(call.method);
    if (method?.gather === undefined) {
      const why = `${call.method} of ${this.interface.service} cannot be called through an index: it has no katamari.gather`;
      return sink.fail(new KatamariError('bad_request', why, { notRun: true }));
    }
    gatherCall(this.#tools, index, method, call, sink);
  };
}

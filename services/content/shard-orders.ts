// Turns the shards of an assignment into orders for the keeper: reads the manifests that the assignment names. While a
// manifest cannot be read, the shards of its index version stay as they are, and it is tried again.

import { Backoff, type Clock, mustNotFail } from '../../core/mod.ts';
import { pause } from '../consul/mod.ts';
import { parsePlaces, type EventLog, type ManifestCache, type ShardsOrder } from '../mesh/mod.ts';
import type { Keeper } from './keeper.ts';
import type { ShardOrder } from './shard.ts';

export interface ShardOrdersOptions {
  readonly keeper: Pick<Keeper, 'setOrders'>;
  readonly manifests: Pick<ManifestCache, 'get' | 'keepOnly'>;
  readonly events: EventLog;
  readonly clock: Clock;
}

export class ShardOrders {
  readonly #options: ShardOrdersOptions;
  readonly #backoff: Backoff = new Backoff({ firstMs: RETRY_FIRST_MS, maxMs: RETRY_MAX_MS, random: Math.random });
  /** The orders in force, by index version. */
  #current: ReadonlyMap<string, readonly ShardOrder[]> = new Map();
  /** Ends the work for older orders. */
  #work = new AbortController();
  #told = '';

  constructor(options: ShardOrdersOptions) {
    this.#options = options;
  }

  /** Replaces the orders. */
  set(orders: readonly ShardsOrder[]): void {
    this.#work.abort();
    this.#work = new AbortController();
    mustNotFail('the orders of shards', this.#follow(orders, this.#work.signal));
  }

  close(): void {
    this.#work.abort();
  }

  async #follow(orders: readonly ShardsOrder[], signal: AbortSignal): Promise<void> {
    const { keeper, manifests, events, clock } = this.#options;
    for (;;) {
      const found = new Map<string, readonly ShardOrder[]>();
      const unknown = new Set<string>();
      let failure = '';
      for (const order of orders) {
        try {
          found.set(order.indexVersion, await this.#expand(order, signal));
        } catch (error) {
          failure = `${order.indexVersion}: ${(error as Error).message}`;
          const current = this.#current.get(order.indexVersion);
          if (current === undefined) unknown.add(order.indexVersion);
          else found.set(order.indexVersion, current);
        }
        if (signal.aborted) return;
      }
      this.#current = found;
      keeper.setOrders([...found.values()].flat(), unknown);
      if (failure !== '' && failure !== this.#told) events.add('order_refused', 'shards', failure);
      this.#told = failure;
      if (failure === '') {
        this.#backoff.reset();
        return await manifests.keepOnly(new Set(orders.map(({ manifest }) => manifest))).catch(() => undefined);
      }
      await pause(clock, this.#backoff.next(), signal);
      if (signal.aborted) return;
    }
  }

  /** @throws Error that says why the order cannot be carried out */
  async #expand(order: ShardsOrder, signal: AbortSignal): Promise<readonly ShardOrder[]> {
    const { indexVersion, manifest, source, contentService, contentRange, places } = order;
    const { shards } = await this.#options.manifests.get(manifest, signal);
    return parsePlaces(places).map((place) => {
      const shard = shards[place];
      if (shard === undefined)
        throw new Error(`its manifest has ${shards.length} shards, and place ${place} is ordered`);
      const url = `${source.replace(/\/$/, '')}/${shard.name}`;
      return { ...shard, indexVersion, manifest, place, source: url, contentService, contentRange };
    });
  }
}

const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 30_000;

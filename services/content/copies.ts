// The copies of content servers on this manager, and the shards that each has open. A copy joins its pool when it has
// opened all shards that are announced, and a shard is announced when all copies in a pool have it open.

import type { Clock } from '../../core/mod.ts';
import type { JoiningChassis } from '../mesh/mod.ts';
import { ContentClient, type ShardFacts } from './content-client.ts';
import { CLOSES_MAX, OPENS_MAX } from './limits.ts';
import { fullNameOf } from './shard-name.ts';
import { isServedBy, type ShardOrder } from './shard.ts';
import { Turns } from './turns.ts';

/** One copy of a content server. */
export interface Copy {
  readonly name: string;
  readonly service: string;
  readonly version: string;
  readonly left: AbortSignal;
  /** Whether it has left because it failed. */
  readonly hasFailed: () => boolean;
  readonly client: ContentClient;
  /** Shards that it has open, or is opening, by full name. */
  readonly open: Map<string, Promise<ShardFacts>>;
  /** Shards that it has open. */
  readonly isOpen: Set<string>;
  readonly opens: Turns;
  readonly closes: Turns;
  /** Whether it is in its pool. */
  isJoined: boolean;
}

export class Copies {
  readonly #times: { readonly clock: Clock; readonly openTimeoutMs: number };
  readonly #copies = new Set<Copy>();
  readonly #onChange: (copy: Copy) => void;

  /** @param onChange called when a copy has come, joined its pool or left */
  constructor(times: { readonly clock: Clock; readonly openTimeoutMs: number }, onChange: (copy: Copy) => void) {
    this.#times = times;
    this.#onChange = onChange;
  }

  add(chassis: JoiningChassis): Copy {
    const { name, service, version, left, hasFailed } = chassis;
    const client = new ContentClient(chassis, this.#times);
    const [opens, closes] = [new Turns(OPENS_MAX), new Turns(CLOSES_MAX)];
    const copy: Copy = {
      name,
      service,
      version,
      left,
      hasFailed,
      client,
      open: new Map(),
      isOpen: new Set(),
      opens,
      closes,
      isJoined: false,
    };
    this.#copies.add(copy);
    const leave = (): void => {
      this.#copies.delete(copy);
      this.#onChange(copy);
    };
    left.addEventListener('abort', leave, { once: true });
    if (left.aborted) this.#copies.delete(copy);
    this.#onChange(copy);
    return copy;
  }

  /** Marks the copy as in its pool. */
  join(copy: Copy): void {
    copy.isJoined = true;
    this.#onChange(copy);
  }

  /** Copies that can open the shard. */
  servers(order: ShardOrder): readonly Copy[] {
    return [...this.#copies].filter((copy) => isServedBy(order, copy));
  }

  /** Opens a shard in one copy. Rejects with ShardRefusal or KatamariError, also when the copy leaves. */
  async open(copy: Copy, order: ShardOrder, path: string): Promise<ShardFacts> {
    const name = fullNameOf(order);
    const known = copy.open.get(name);
    if (known !== undefined) return await known;
    const opening = copy.opens.take(() => copy.client.open(name, path));
    copy.open.set(name, opening);
    opening.then(
      () => copy.open.get(name) === opening && copy.isOpen.add(name),
      () => copy.open.get(name) === opening && copy.open.delete(name),
    );
    return await opening;
  }

  /**
   * Closes a shard in every copy that has it open. Never rejects: pings detect a copy that hangs.
   */
  async close(name: string): Promise<void> {
    await Promise.all(
      [...this.#copies].map(async (copy) => {
        const opening = copy.open.get(name);
        if (opening === undefined) return;
        copy.isOpen.delete(name);
        await opening.catch(() => undefined);
        await copy.closes.take(() => copy.client.close(name)).catch(() => undefined);
        if (copy.open.get(name) === opening) copy.open.delete(name);
      }),
    );
  }
}

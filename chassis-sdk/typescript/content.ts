// The shards that a content server has open. The mesh says which shards to open and close; handlers use them through
// `Content.use`, and a shard is closed only when no call uses it.

import { KatamariError } from '../../core/mod.ts';
import { contentInterface, serveHandlers, type Send } from '../../core/rpc/mod.ts';
import { ThriftException } from '../../core/thrift/mod.ts';

/** What `open` returns for a shard. */
export interface OpenedShard<Shard> {
  /** What the handlers get. */
  readonly shard: Shard;
  /** Number of documents or records. */
  readonly entries: number;
  /** Facts for people: format, codec, analyzer. */
  readonly more?: Readonly<Record<string, string>>;
}

export interface ContentOptions<Shard> {
  /**
   * Opens the files of a shard. An error that it throws tells the operator why the shard is refused.
   * @param path folder or file; read-only
   * @param name `index@version/shard`
   * @throws DamagedShard when the files must be fetched again
   */
  readonly open: (path: string, name: string) => OpenedShard<Shard> | Promise<OpenedShard<Shard>>;
  /** Closes all files of a shard. No call uses it any more. */
  readonly close?: (shard: Shard, name: string) => void | Promise<void>;
}

/** The files of a shard are not as they should be. The mesh checks them, and fetches them again. */
export class DamagedShard extends Error {
  override readonly name = 'DamagedShard';
}

/** A call asks for a shard that is not open here: the caller gets the code no_pool. */
export class ShardNotOpen extends KatamariError {}

/** A shard from the first `open` until no call uses it. */
interface ShardEntry<Shard> {
  readonly path: string;
  opening: Promise<OpenedShard<Shard>>;
  /** undefined while it is being opened. */
  opened: OpenedShard<Shard> | undefined;
  uses: number;
  onUnused: () => void;
}

/**
 * Makes a chassis a content server.
 *
 * @example
 * const content = new Content({ open: (path) => readWords(path) });
 * await chassis({ content, handlers: { count: ({ shards, word }) => content.use(shards, (open) => ...) }, ... });
 */
export class Content<Shard> {
  readonly #options: ContentOptions<Shard>;
  readonly #entries = new Map<string, ShardEntry<Shard>>();
  /** Shards that are being closed, by name. */
  readonly #closing = new Map<string, Promise<void>>();

  constructor(options: ContentOptions<Shard>) {
    this.#options = options;
  }

  /** Names of the open shards, in order. */
  get names(): readonly string[] {
    return [...this.#entries].flatMap(([name, { opened }]) => (opened === undefined ? [] : [name])).sort();
  }

  /**
   * Calls `work` with open shards by name. They stay open until its result has settled.
   * @param names the shards of the call; absent or empty means all that are open
   * @throws KatamariError no_pool when one of them is not open; if the handler lets it pass, the caller gets this code
   */
  async use<T>(
    names: readonly string[] | undefined,
    work: (shards: ReadonlyMap<string, Shard>) => T | Promise<T>,
  ): Promise<T> {
    const wanted = names === undefined || names.length === 0 ? this.names : names;
    const used = wanted.map((name) => this.#find(name));
    for (const entry of used) entry.uses++;
    try {
      const shards = used.map(({ opened }, at): [string, Shard] => [
        wanted[at] as string,
        (opened as OpenedShard<Shard>).shard,
      ]);
      return await work(new Map(shards));
    } finally {
      for (const entry of used) if (--entry.uses === 0) entry.onUnused();
    }
  }

  /** Serves `katamari.Content` to the manager. */
  control(): Send {
    return serveHandlers<undefined>({
      interface: contentInterface(),
      i64: 'number',
      contextOf: () => undefined,
      handlers: {
        open: async ({ shard, path }: { shard: string; path: string }) => {
          try {
            const { entries, more = {} } = await this.#open(shard, path);
            return { entries, more };
          } catch (error) {
            const why = (error as Error).message;
            throw new ThriftException('ShardRefused', { why, isDamaged: error instanceof DamagedShard });
          }
        },
        close: ({ shard }: { shard: string }) => this.#close(shard),
        shards: () => this.names,
      },
    });
  }

  #find(name: string): ShardEntry<Shard> {
    const entry = this.#entries.get(name);
    if (entry?.opened !== undefined) return entry;
    throw new ShardNotOpen('no_pool', `Shard ${name} is not open here; open are ${this.#listed()}`);
  }

  #listed(): string {
    const { names } = this;
    const others = names.length > NAMES_SHOWN_MAX ? ` and ${names.length - NAMES_SHOWN_MAX} more` : '';
    return `${names.slice(0, NAMES_SHOWN_MAX).join(', ') || 'none'}${others}`;
  }

  async #open(name: string, path: string): Promise<OpenedShard<Shard>> {
    while (this.#closing.has(name)) await this.#closing.get(name);
    const known = this.#entries.get(name);
    if (known !== undefined) {
      if (known.path === path) return await known.opening;
      throw new Error(`${name} is open from ${known.path}; close it first`);
    }
    const entry: ShardEntry<Shard> = {
      path,
      opening: (async () => await this.#options.open(path, name))(),
      opened: undefined,
      uses: 0,
      onUnused: () => undefined,
    };
    this.#entries.set(name, entry);
    try {
      entry.opened = await entry.opening;
      return entry.opened;
    } catch (error) {
      if (this.#entries.get(name) === entry) this.#entries.delete(name);
      throw error;
    }
  }

  async #close(name: string): Promise<void> {
    const entry = this.#entries.get(name);
    if (entry === undefined) return await this.#closing.get(name);
    this.#entries.delete(name);
    const closed = this.#finish(name, entry).finally(() => this.#closing.delete(name));
    this.#closing.set(name, closed);
    await closed;
  }

  async #finish(name: string, entry: ShardEntry<Shard>): Promise<void> {
    const opened = await entry.opening.catch(() => undefined);
    if (opened === undefined) return;
    if (entry.uses > 0) await new Promise<void>((resolve) => (entry.onUnused = resolve));
    await this.#options.close?.(opened.shard, name);
  }
}

const NAMES_SHOWN_MAX = 20;

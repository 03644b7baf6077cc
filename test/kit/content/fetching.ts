// Fetches shards from a source into a folder: in the real fetch process, or faster by its code in the test.

import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { copyShard } from '../../../services/content/fetch/copy-shard.ts';
import { inspect } from '../../../services/content/fetch/inspect.ts';
import { sourceFor } from '../../../services/content/fetch/sources/choose.ts';
import { Fetcher, inspectSource } from '../../../services/content/fetch/fetcher.ts';
import { ShardStore } from '../../../services/content/mod.ts';

export interface FetchedShard {
  /** Text by path. */
  readonly files: Readonly<Record<string, string>>;
  readonly folder: string;
  /** Sums of bytes that the process reported. */
  readonly progress: readonly number[];
}

export class Fetching {
  readonly store: ShardStore;
  readonly #allowed: readonly string[];
  readonly #isHere: boolean;

  /** @param choices `isHere`: without a process, and so without the rules for sources and its end by a signal */
  constructor(root: string, allowed: readonly string[], { isHere = false }: { readonly isHere?: boolean } = {}) {
    this.#isHere = isHere;
    this.store = new ShardStore(root);
    this.#allowed = allowed;
  }

  /** Digests of the shards of a source by name, as they are kept when an index is added. */
  async inspect(source: string): Promise<ReadonlyMap<string, string>> {
    const { shards } = this.#isHere
      ? await inspect(source, await sourceFor(source, this.#allowed))
      : await inspectSource(source, this.#allowed, new AbortController().signal);
    return new Map(shards.map(({ name, digest }) => [name, digest]));
  }

  /** Fetches a shard as it is now, or with the digest of an earlier look. */
  async fetch(
    source: string,
    name: string,
    { digest, bytesPerS = 0, signal = new AbortController().signal }: FetchChoices = {},
  ): Promise<FetchedShard> {
    const id = { indexVersion: 'wiki@1.0.0', name };
    const progress: number[] = [];
    const job = {
      shard: `wiki@1.0.0/${name}`,
      source: `${source.replace(/\/$/, '')}/${name}`,
      digest: digest ?? (await this.inspect(source)).get(name) ?? 'none',
      into: this.partPath(name),
    };
    const onBytes = (done: number): void => void progress.push(done);
    if (this.#isHere) await copyShard({ ...job, bytesPerS }, await sourceFor(job.source, this.#allowed), onBytes);
    else await this.#inProcess(bytesPerS, (fetcher) => fetcher.fetch(job, onBytes, signal));
    await this.store.commit(id);
    const folder = this.store.contentPath(id);
    return { files: textsIn(folder), folder, progress };
  }

  async #inProcess(bytesPerS: number, work: (fetcher: Fetcher) => Promise<void>): Promise<void> {
    const fetcher = new Fetcher(this.#allowed, bytesPerS);
    try {
      await work(fetcher);
    } finally {
      fetcher.close();
    }
  }

  partPath(name: string): string {
    return this.store.partPath({ indexVersion: 'wiki@1.0.0', name });
  }

  /** Why a fetch fails. */
  async refusal(source: string, name: string, choices: FetchChoices = {}): Promise<string> {
    return await this.fetch(source, name, choices).then(
      () => 'it was fetched',
      (error: Error) => error.message,
    );
  }
}

export interface FetchChoices {
  readonly digest?: string;
  readonly bytesPerS?: number;
  readonly signal?: AbortSignal;
}

function textsIn(folder: string): Record<string, string> {
  if (statSync(folder).isFile()) return { '': readFileSync(folder, 'latin1') };
  return Object.fromEntries(
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => statSync(path.join(folder, name)).isFile())
      .sort()
      .map((name) => [name, readFileSync(path.join(folder, name), 'latin1')]),
  );
}

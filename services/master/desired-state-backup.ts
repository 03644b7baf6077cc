// What admins have written into Consul (deployments, routes, settings, drains), remembered on this master's disk. A
// Consul that lost its data lacks a marker; whichever master leads then puts everything back that it remembers, and
// the marker last. While the marker is missing nothing is learned: an empty Consul must not make anybody forget. What
// was taken back by somebody while the marker stood is not remembered.
import type { Clock } from '../../core/mod.ts';
import { watchPrefix, type ConsulClient, type ConsulError, type ConsulWatch } from '../consul/mod.ts';
import { keysOf, readRecord, replaceFile, type EventLog } from '../mesh/mod.ts';
import type { Election } from './election.ts';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';

export interface DesiredStateBackupOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  readonly dataDir: string;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly onError: (error: ConsulError) => void;
}

export class DesiredStateBackup {
  readonly #options: DesiredStateBackupOptions;
  readonly #file: string;
  readonly #marker: string;
  readonly #end = new AbortController();
  #watches: readonly ConsulWatch[] = [];
  /** As the watches say, by prefix: values by key. */
  readonly #seen = new Map<string, ReadonlyMap<string, string>>();
  #remembered: ReadonlyMap<string, string> = new Map();
  #working: Promise<void> = Promise.resolve();
  #stopGathering: (() => void) | undefined;

  constructor(options: DesiredStateBackupOptions) {
    this.#options = options;
    this.#file = path.join(options.dataDir, 'wanted.json');
    this.#marker = keysOf(options.mesh).begun;
  }

  /** Values by key. */
  get documents(): ReadonlyMap<string, string> {
    return this.#remembered;
  }

  /** Reads what it remembered when it ended, then follows Consul. */
  async start(): Promise<void> {
    const { mesh } = this.#options;
    this.#remembered = await this.#read();
    if (this.#end.signal.aborted) return;
    const { deployments, drained, routes, settings } = keysOf(mesh);
    this.#watches = [deployments, drained, routes, settings, this.#marker].map((prefix) => this.#follow(prefix));
  }

  /**
   * For one who leads and is about to act: puts everything back when this Consul does not know it.
   * @returns false when this process leads no more
   * @throws ConsulError
   */
  async restore(election: Election, term: number): Promise<boolean> {
    const { client, events } = this.#options;
    const { signal } = this.#end;
    if ((await client.get(this.#marker, signal)) !== undefined) return true;
    for (const [key, value] of this.#remembered) {
      const outcome = await election.write(term, [{ verb: 'cas', key, value, index: 0 }], signal);
      if (outcome.kind === 'stale') return false;
      // Who has written there meanwhile knows better.
      if (outcome.kind === 'done')
        events.add('deployment_changed', this.#nameOf(key), 'put back: Consul came back without its data');
    }
    const value = JSON.stringify({ since: new Date().toISOString() });
    const outcome = await election.write(term, [{ verb: 'cas', key: this.#marker, value, index: 0 }], signal);
    return outcome.kind !== 'stale';
  }

  async close(): Promise<void> {
    this.#end.abort();
    this.#stopGathering?.();
    await this.#working;
  }

  #follow(prefix: string): ConsulWatch {
    const { client, clock, onError } = this.#options;
    const take = (entries: ReadonlyMap<string, { readonly value: string }>): void => {
      this.#seen.set(prefix, new Map([...entries].map(([key, { value }]) => [key, value])));
      this.#stopGathering ??= clock.after(GATHER_MS, () => {
        this.#stopGathering = undefined;
        this.#working = this.#working.then(() => this.#learn());
      });
    };
    return watchPrefix(client, prefix, take, { signal: this.#end.signal, clock, onError });
  }

  /** The marker is read after what it vouches for: had the data been lost in between, it would be gone too. */
  async #learn(): Promise<void> {
    const { client, onError, events, mesh } = this.#options;
    if (this.#seen.size < this.#watches.length) return;
    const seen = new Map([...this.#seen.values()].flatMap((documents) => [...documents]));
    seen.delete(this.#marker);
    try {
      if ((await client.get(this.#marker, this.#end.signal)) === undefined) return;
    } catch (error) {
      if (!this.#end.signal.aborted) onError(error as ConsulError);
      return;
    }
    if (isEqual(seen, this.#remembered)) return;
    this.#remembered = seen;
    try {
      await replaceFile(this.#file, JSON.stringify({ mesh, documents: Object.fromEntries(seen) }));
    } catch (error) {
      events.add(
        'consul_lost',
        this.#file,
        `cannot be written: ${(error as Error).message}; should Consul lose its data and this process be restarted, it could not put it back`,
      );
    }
  }

  async #read(): Promise<ReadonlyMap<string, string>> {
    const { events, mesh } = this.#options;
    let text: string;
    try {
      text = await readFile(this.#file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        events.add('consul_lost', this.#file, `cannot be read: ${(error as Error).message}`);
      return new Map();
    }
    const found = readRecord(SAVED, text);
    if (found instanceof Error) events.add('consul_lost', this.#file, `is not used: ${found.message}`);
    return found instanceof Error || found.mesh !== mesh ? new Map() : new Map(Object.entries(found.documents));
  }

  /** `Service@version` of a deployment, else what follows the mesh's prefix. */
  #nameOf(key: string): string {
    const { prefix, deployments } = keysOf(this.#options.mesh);
    return key.startsWith(deployments) ? key.slice(deployments.length).replace('/', '@') : key.slice(prefix.length);
  }
}

function isEqual(some: ReadonlyMap<string, string>, others: ReadonlyMap<string, string>): boolean {
  return some.size === others.size && [...some].every(([key, value]) => others.get(key) === value);
}

interface Saved {
  readonly mesh: string;
  readonly documents: Readonly<Record<string, string>>;
}

const SAVED: z.ZodType<Saved> = z.object({ mesh: z.string(), documents: z.record(z.string(), z.string()) });
/** Changes that come together are written together. */
const GATHER_MS = 100;

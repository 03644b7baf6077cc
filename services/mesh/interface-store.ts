// The interfaces of the mesh's pools by their id. Managers publish the text of theirs in Consul (`idl/<id>`, written once: the id is a hash of
import { parseIdl } from '../../core/idl/mod.ts';
import { type Clock, Backoff } from '../../core/mod.ts';
import type { IdlSource, Interface } from '../../core/thrift/mod.ts';
import { type ConsulClient, type ConsulError, pause } from '../consul/mod.ts';
import { readRecord, type Keys } from './records.ts';

// what it says), others learn it from there when a pool that they hear of has it. What is learned is kept while a pool needs it.
import { z } from 'zod';

export interface InterfaceStoreOptions {
  readonly client: ConsulClient;
  readonly keys: Keys;
  readonly clock: Clock;
  /** An interface that was asked for is known now. */
  readonly onLearned: () => void;
  readonly onError: (error: ConsulError) => void;
  /** An interface in Consul is not what its id says, or cannot be read. */
  readonly onWrong: (id: string, why: string) => void;
}

/** What is asked for: the interface of a service, by the id of the interface. */
export interface RequestedInterface {
  readonly id: string;
  readonly service: string;
}

export class InterfaceStore {
  readonly #options: InterfaceStoreOptions;
  readonly #known = new Map<string, Interface>();
  readonly #asked = new Set<string>();
  readonly #published = new Set<string>();
  readonly #end = new AbortController();

  constructor(options: InterfaceStoreOptions) {
    this.#options = options;
  }

  /** undefined: not known yet; it is being looked for, and `onLearned` tells when it is there. */
  get(wanted: RequestedInterface): Interface | undefined {
    const found = this.#known.get(wanted.id);
    if (found === undefined && !this.#asked.has(wanted.id) && !this.#end.signal.aborted) {
      this.#asked.add(wanted.id);
      void this.#learn(wanted);
    }
    return found;
  }

  /** Interfaces that are known without Consul: own pools, a snapshot. */
  know(found: Interface): void {
    this.#known.set(found.id, found);
  }

  /** From a snapshot; one that does not fit its id is left out. */
  knowSource({ id, service }: RequestedInterface, source: IdlSource): void {
    const found = compile(source, service);
    if (!(found instanceof Error) && found.id === id) this.#known.set(id, found);
  }

  /** Makes sure that the text is in Consul. */
  publish(found: Interface): void {
    this.know(found);
    if (this.#published.has(found.id) || this.#end.signal.aborted) return;
    this.#published.add(found.id);
    const { client, keys, onError } = this.#options;
    const written = client.put(keys.idl + found.id, JSON.stringify(found.source), {
      cas: 0,
      signal: this.#end.signal,
    });
    written.catch((error: unknown) => {
      // Tried again with the next publication, which the return of Consul brings about.
      this.#published.delete(found.id);
      if (!this.#end.signal.aborted) onError(error as ConsulError);
    });
  }

  /** Consul may have come back without what was written: everything is published again when it is published next. */
  forgetPublished(): void {
    this.#published.clear();
  }

  /** Lets go of what no pool has any more. */
  keepOnly(ids: ReadonlySet<string>): void {
    for (const id of this.#known.keys()) if (!ids.has(id)) this.#known.delete(id);
  }

  close(): void {
    this.#end.abort();
  }

  async #learn({ id, service }: RequestedInterface): Promise<void> {
    const { client, keys, clock, onLearned, onError, onWrong } = this.#options;
    const { signal } = this.#end;
    const backoff = new Backoff({ firstMs: BACKOFF_FIRST_MS, maxMs: BACKOFF_MAX_MS, random: Math.random });
    let isReported = false;
    while (!signal.aborted && !this.#known.has(id)) {
      try {
        const entry = await client.get(keys.idl + id, signal);
        const found = entry === undefined ? new Error('it is not in Consul') : readSource(entry.value, service);
        if (!(found instanceof Error) && found.id === id) {
          this.#known.set(id, found);
          this.#asked.delete(id);
          onLearned();
          return;
        }
        if (!isReported && backoff.tries > TRIES_BEFORE_REPORT) {
          isReported = true;
          onWrong(id, found instanceof Error ? found.message : `it is the text of ${found.id}`);
        }
      } catch (error) {
        if (!signal.aborted) onError(error as ConsulError);
      }
      await pause(clock, backoff.next(), signal);
    }
    this.#asked.delete(id);
  }
}

function readSource(value: string, service: string): Interface | Error {
  const source = readRecord(SOURCE, value);
  return source instanceof Error ? source : compile(source, service);
}

function compile(source: IdlSource, service: string): Interface | Error {
  try {
    return parseIdl(source).services.get(service) ?? new Error(`its text declares no service ${service}`);
  } catch (error) {
    return error as Error;
  }
}

const SOURCE: z.ZodType<IdlSource> = z.object({ main: z.string(), files: z.record(z.string(), z.string()) });
const BACKOFF_FIRST_MS = 50;
const BACKOFF_MAX_MS = 5_000;
/** A manager enters itself and its texts at about the same time: one that is missing for a moment is nothing to report. */
const TRIES_BEFORE_REPORT = 5;

// The interfaces of the pools of the mesh, by id. A manager publishes the IDL of its interfaces in Consul
// (`idl/<id>`, written once, because the id is a hash of the IDL). Other processes read it there when they first see
// a pool with that id, and keep it while a pool uses it.

import { parseIdl } from '../../core/idl/mod.ts';
import { type Clock, Backoff } from '../../core/mod.ts';
import type { IdlSource, Interface } from '../../core/thrift/mod.ts';
import { type ConsulClient, type ConsulError, pause } from '../consul/mod.ts';
import { readRecord, type Keys } from './records.ts';

import { z } from 'zod';

export interface InterfaceStoreOptions {
  readonly client: ConsulClient;
  readonly keys: Keys;
  readonly clock: Clock;
  /** Called when a requested interface was loaded. */
  readonly onLoaded: () => void;
  readonly onError: (error: ConsulError) => void;
  /** Called when an interface in Consul does not match its id or cannot be parsed. */
  readonly onWrong: (id: string, why: string) => void;
}

/** A service and the id of its interface. */
export interface RequestedInterface {
  readonly id: string;
  readonly service: string;
}

export class InterfaceStore {
  readonly #options: InterfaceStoreOptions;
  readonly #known = new Map<string, Interface>();
  readonly #loading = new Set<string>();
  readonly #published = new Set<string>();
  readonly #end = new AbortController();

  constructor(options: InterfaceStoreOptions) {
    this.#options = options;
  }

  /** Returns an interface, or undefined while it loads. `onLoaded` is called when it is loaded. */
  get(requested: RequestedInterface): Interface | undefined {
    const found = this.#known.get(requested.id);
    if (found === undefined && !this.#loading.has(requested.id) && !this.#end.signal.aborted) {
      this.#loading.add(requested.id);
      void this.#load(requested);
    }
    return found;
  }

  /** Adds the interface of a pool of this process, which is known without Consul. */
  add(iface: Interface): void {
    this.#known.set(iface.id, iface);
  }

  /** Adds an interface from a snapshot; ignored when it does not match its id. */
  addSource({ id, service }: RequestedInterface, source: IdlSource): void {
    const found = compile(source, service);
    if (!(found instanceof Error) && found.id === id) this.#known.set(id, found);
  }

  /** Writes the IDL to Consul if it is not there yet. */
  publish(iface: Interface): void {
    this.add(iface);
    if (this.#published.has(iface.id) || this.#end.signal.aborted) return;
    this.#published.add(iface.id);
    const { client, keys, onError } = this.#options;
    const written = client.put(keys.idl + iface.id, JSON.stringify(iface.source), {
      cas: 0,
      signal: this.#end.signal,
    });
    written.catch((error: unknown) => {
      // The next `publish` retries; the caller publishes again when Consul responds again.
      this.#published.delete(iface.id);
      if (!this.#end.signal.aborted) onError(error as ConsulError);
    });
  }

  /** Makes the next `publish` of each interface write it again. Call it when Consul may have lost its data. */
  forgetPublished(): void {
    this.#published.clear();
  }

  /** Removes the interfaces that no pool uses anymore. */
  keepOnly(ids: ReadonlySet<string>): void {
    for (const id of this.#known.keys()) if (!ids.has(id)) this.#known.delete(id);
  }

  close(): void {
    this.#end.abort();
  }

  async #load({ id, service }: RequestedInterface): Promise<void> {
    const { client, keys, clock, onLoaded, onError, onWrong } = this.#options;
    const { signal } = this.#end;
    const backoff = new Backoff({ firstMs: BACKOFF_FIRST_MS, maxMs: BACKOFF_MAX_MS, random: Math.random });
    let isReported = false;
    while (!signal.aborted && !this.#known.has(id)) {
      try {
        const entry = await client.get(keys.idl + id, signal);
        const found = entry === undefined ? new Error('it is not in Consul') : readSource(entry.value, service);
        if (!(found instanceof Error) && found.id === id) {
          this.#known.set(id, found);
          this.#loading.delete(id);
          onLoaded();
          return;
        }
        if (!isReported && backoff.tries > TRIES_BEFORE_REPORT) {
          isReported = true;
          onWrong(id, found instanceof Error ? found.message : `its IDL has id ${found.id}`);
        }
      } catch (error) {
        if (!signal.aborted) onError(error as ConsulError);
      }
      await pause(clock, backoff.next(), signal);
    }
    this.#loading.delete(id);
  }
}

function readSource(value: string, service: string): Interface | Error {
  const source = readRecord(SOURCE, value);
  return source instanceof Error ? source : compile(source, service);
}

function compile(source: IdlSource, service: string): Interface | Error {
  try {
    return parseIdl(source).services.get(service) ?? new Error(`its IDL declares no service ${service}`);
  } catch (error) {
    return error as Error;
  }
}

const SOURCE: z.ZodType<IdlSource> = z.object({ main: z.string(), files: z.record(z.string(), z.string()) });
const BACKOFF_FIRST_MS = 50;
const BACKOFF_MAX_MS = 5_000;
/** A manager writes its record and its IDL at about the same time, so a short delay between them is not reported. */
const TRIES_BEFORE_REPORT = 5;

// Caches the interfaces of services for which the caller gave no IDL. It fetches an interface from the mesh on first
// use and when its entry expires. Concurrent requests for one interface share one call. If the mesh cannot be
// reached, the expired interface is used. Limits: number of entries and their age.

import { LRUCache } from 'lru-cache';
import { encodeStruct, parseIdl } from '../core/idl/mod.ts';
import { KatamariError } from '../core/mod.ts';
import { meshInterface } from '../core/rpc/mod.ts';
import type { Interface, Method } from '../core/thrift/mod.ts';
import type { Channel } from './channel.ts';
import type { ClientSettings } from './options.ts';
import { prepareMethod } from './prepared-method.ts';
import { RequestHeaders } from './request-headers.ts';

interface CachedInterface {
  readonly promise: Promise<Interface>;
  /** Set when the promise resolves. */
  value: Interface | undefined;
  expiresAtMs: number;
}

/** Struct InterfaceText of idl/chassis.thrift. */
interface DescribedInterface {
  readonly idlMain: string;
  readonly idlFiles: ReadonlyMap<string, string>;
  readonly idlService?: string;
}

export class InterfaceCache {
  readonly #channel: Channel;
  readonly #timeoutMs: number;
  readonly #nowMs: () => number;
  readonly #cache = new LRUCache<string, CachedInterface>({ max: ENTRIES_MAX });
  readonly #headers: RequestHeaders;

  constructor(channel: Channel, { timeoutMs, token }: ClientSettings, nowMs: () => number) {
    this.#channel = channel;
    this.#timeoutMs = timeoutMs;
    this.#headers = new RequestHeaders({}, token);
    this.#nowMs = nowMs;
  }

  /** Returns the cached interface; undefined if it must be fetched. */
  known(service: string, version: string): Interface | undefined {
    const cached = this.#cache.get(`${service}@${version}`);
    return cached !== undefined && this.#nowMs() < cached.expiresAtMs ? cached.value : undefined;
  }

  /** Returns the interface, from the cache or from the mesh. @throws KatamariError the error of the mesh */
  of(service: string, version: string): Promise<Interface> {
    const key = `${service}@${version}`;
    const cached = this.#cache.get(key);
    if (cached !== undefined && this.#nowMs() < cached.expiresAtMs) return cached.promise;
    const promise = this.#refresh(service, version, cached?.value);
    const entry: CachedInterface = { promise, value: undefined, expiresAtMs: Number.POSITIVE_INFINITY };
    this.#cache.set(key, entry);
    entry.promise.then(
      (value) => {
        entry.value = value;
        entry.expiresAtMs = this.#nowMs() + MAX_AGE_MS;
      },
      () => {
        if (this.#cache.peek(key) === entry) this.#cache.delete(key);
      },
    );
    return entry.promise;
  }

  async #refresh(service: string, version: string, previous: Interface | undefined): Promise<Interface> {
    try {
      const current = await this.#fetch(service, version);
      // If the interface is unchanged, keep the object: it is the cache key of the prepared methods.
      return current.id === previous?.id ? previous : current;
    } catch (error) {
      if (previous === undefined) throw error;
      return previous;
    }
  }

  async #fetch(service: string, version: string): Promise<Interface> {
    const describe = meshInterface().methods.get('describe') as Method;
    const call = this.#channel.open(`katamari.Mesh.describe(${service})`, this.#headers, this.#timeoutMs, {});
    const args = encodeStruct(describe.args, { serviceName: service, version });
    this.#channel.send(call, prepareMethod('katamari.Mesh', describe, 'bigint'), args);
    const { idlMain, idlFiles, idlService = service } = (await call.promise) as DescribedInterface;
    const files = Object.fromEntries(idlFiles);
    const iface = parseIdl({ main: idlMain, files }).services.get(idlService);
    if (iface !== undefined) return iface;
    throw new KatamariError('internal', `The mesh sent an IDL for ${service} that does not declare it`);
  }
}

const ENTRIES_MAX = 100;
const MAX_AGE_MS = 60_000;

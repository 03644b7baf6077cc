// The interfaces of services that the caller gave no IDL for: asked of the mesh when first needed, and again when
// they are old. Who asks at the
import { encodeStruct, parseIdl } from '../core/idl/mod.ts';
import { KatamariError } from '../core/mod.ts';
import { meshInterface } from '../core/rpc/mod.ts';
import type { Interface, Method } from '../core/thrift/mod.ts';
import type { Channel } from './channel.ts';
import { prepareMethod } from './prepared-method.ts';
import { RequestHeaders } from './request-headers.ts';

// same time waits for the same answer, and an old one is better than none. Limits: how many are kept, and for how
// long one is believed.

import { LRUCache } from 'lru-cache';

interface CachedInterface {
  readonly promise: Promise<Interface>;
  /** Once it is known. */
  found: Interface | undefined;
  untilMs: number;
}

export class InterfaceCache {
  readonly #office: Channel;
  readonly #timeoutMs: number;
  readonly #nowMs: () => number;
  readonly #kept = new LRUCache<string, CachedInterface>({ max: KEPT_MAX });
  readonly #wishes = new RequestHeaders({});

  /** @param timeoutMs for asking */
  constructor(office: Channel, timeoutMs: number, nowMs: () => number) {
    this.#office = office;
    this.#timeoutMs = timeoutMs;
    this.#nowMs = nowMs;
  }

  /** What is known already, without waiting. */
  known(service: string, version: string): Interface | undefined {
    const kept = this.#kept.get(`${service}@${version}`);
    return kept !== undefined && this.#nowMs() < kept.untilMs ? kept.found : undefined;
  }

  /** @throws KatamariError what the mesh had to say */
  of(service: string, version: string): Promise<Interface> {
    const key = `${service}@${version}`;
    const kept = this.#kept.get(key);
    if (kept !== undefined && this.#nowMs() < kept.untilMs) return kept.promise;
    const promise = this.#askAgain(service, version, kept?.found);
    const asked: CachedInterface = { promise, found: undefined, untilMs: Number.POSITIVE_INFINITY };
    this.#kept.set(key, asked);
    asked.promise.then(
      (found) => {
        asked.found = found;
        asked.untilMs = this.#nowMs() + BELIEVED_MS;
      },
      () => {
        if (this.#kept.peek(key) === asked) this.#kept.delete(key);
      },
    );
    return asked.promise;
  }

  async #askAgain(service: string, version: string, before: Interface | undefined): Promise<Interface> {
    try {
      const found = await this.#ask(service, version);
      // The same object, for those who have prepared calls by it.
      return found.id === before?.id ? before : found;
    } catch (error) {
      if (before === undefined) throw error;
      return before;
    }
  }

  async #ask(service: string, version: string): Promise<Interface> {
    const describe = meshInterface().methods.get('describe') as Method;
    const call = this.#office.open(`katamari.Mesh.describe(${service})`, this.#wishes, this.#timeoutMs, undefined);
    const args = encodeStruct(describe.args, { serviceName: service, version });
    this.#office.send(call, prepareMethod('katamari.Mesh', describe, 'bigint'), args);
    const { idlMain, idlFiles } = (await call.promise) as { idlMain: string; idlFiles: Map<string, string> };
    const files = Object.fromEntries(idlFiles);
    const found = parseIdl({ main: idlMain, files }).services.get(service);
    if (found !== undefined) return found;
    throw new KatamariError('internal', `The mesh sent an IDL for ${service} that does not declare it`);
  }
}

const KEPT_MAX = 100;
const BELIEVED_MS = 60_000;

// Resolves a method name on the wire to service, version, method and call statistics. Resolved once per name and
// cached. Names that no pool has are counted under '-', so that clients cannot grow the statistics.
import type { MeshAccess, CallStats, StatsTable } from '../../core/rpc/mod.ts';
import { type Method, parseTarget } from '../../core/thrift/mod.ts';

import { LRUCache } from 'lru-cache';

export interface MethodTarget {
  /** '' when the client names none and the port has no default. */
  readonly service: string;
  readonly version: string;
  /** Method name without the service; the reply has the same name. */
  readonly method: string;
  /** Statistics of its calls; changes when the service appears or goes. */
  stats: CallStats;
  /**
   * The interface declares the method oneway. Goes before the message type, since old clients send oneway calls as
   * plain calls.
   */
  isOneway: boolean;
  /** Types of arguments and result, for encodings that need them; undefined while no known pool has the method. */
  schema: Method | undefined;
  /** When a pool with the method was last seen; -Infinity when never. */
  knownAtMs: number;
}

export interface MethodTargetsOptions {
  readonly mesh: MeshAccess;
  readonly book: StatsTable;
  readonly defaultService: string;
}

export class MethodTargets {
  readonly #options: MethodTargetsOptions;
  readonly #byName = new LRUCache<string, MethodTarget>({ max: NAMES_MAX });
  /** Target of messages whose name could not be read. */
  readonly nameless: MethodTarget;

  constructor(options: MethodTargetsOptions) {
    this.#options = options;
    const stats = options.book.of(FACEPLATE, '-', '-');
    this.nameless = {
      service: '',
      version: '',
      method: '',
      stats,
      isOneway: false,
      schema: undefined,
      knownAtMs: -Infinity,
    };
  }

  /** Returns the target of a call of this name at `nowMs`. */
  of(name: string, nowMs: number): MethodTarget {
    let target = this.#byName.get(name);
    if (target === undefined) {
      const { service, version, method } = parseTarget(name);
      target = {
        service: service === '' ? this.#options.defaultService : service,
        version,
        method,
        stats: this.nameless.stats,
        isOneway: false,
        schema: undefined,
        knownAtMs: -Infinity,
      };
      this.#byName.set(name, target);
    }
    if (nowMs - target.knownAtMs > KNOWN_MS) this.#lookUp(target, nowMs);
    return target;
  }

  #lookUp(target: MethodTarget, nowMs: number): void {
    const { mesh, book } = this.#options;
    let service = '-';
    let found: Method | undefined;
    for (const pool of mesh.directory.pools()) {
      const { details } = pool;
      if (target.service !== '' && target.service !== details.service) continue;
      const method = pool.interface.methods.get(target.method);
      if (method === undefined) {
        // Calls of unknown methods of a known service are counted under the service.
        if (target.service !== '' && found === undefined) service = details.service;
        continue;
      }
      // Two services have the method and the client named none: the mesh will refuse the call.
      if (found !== undefined && service !== details.service) {
        [service, found] = ['-', undefined];
        break;
      }
      // Of several versions the requested one, else the first.
      if (found === undefined || details.version === target.version) found = method;
      service = details.service;
    }
    target.stats = book.of(FACEPLATE, service, found === undefined ? '-' : target.method);
    target.isOneway = found?.oneway ?? false;
    target.schema = found;
    target.knownAtMs = found === undefined ? -Infinity : nowMs;
  }
}

const FACEPLATE = 'thrift';
/** Names in the cache. A hostile client that invents names only makes look-ups slower. */
const NAMES_MAX = 4_096;
/** How long a resolved name is valid, in ms. */
const KNOWN_MS = 1_000;

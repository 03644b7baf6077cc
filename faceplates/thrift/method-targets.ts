// Resolves a method name on the wire to service, version, method and call statistics, and caches the result. Calls of
// names that no pool has are counted under '-', so that clients cannot grow the statistics without limit.
import type { MeshAccess, CallStats, StatsTable } from '../../core/rpc/mod.ts';
import { type Method, parseTarget } from '../../core/thrift/mod.ts';

import { LRUCache } from 'lru-cache';

export interface MethodTarget {
  /** '' if the client names no service and the port has no default. */
  readonly service: string;
  readonly version: string;
  /** Method name without the service; the reply has the same name. */
  readonly method: string;
  /** Statistics of its calls; replaced when the service appears or disappears. */
  stats: CallStats;
  /**
   * Whether the interface declares the method oneway. This takes precedence over the message type, because old
   * clients send oneway calls as plain calls.
   */
  isOneway: boolean;
  /** Types of arguments and result, for encodings that need them; undefined while no known pool has the method. */
  schema: Method | undefined;
  /** When a pool with the method was last seen; -Infinity if never. */
  knownAtMs: number;
}

export interface MethodTargetsOptions {
  readonly mesh: MeshAccess;
  readonly callStats: StatsTable;
  readonly defaultService: string;
}

export class MethodTargets {
  readonly #options: MethodTargetsOptions;
  readonly #byName = new LRUCache<string, MethodTarget>({ max: NAMES_MAX });
  /** Target of messages whose name could not be decoded. */
  readonly nameless: MethodTarget;

  constructor(options: MethodTargetsOptions) {
    this.#options = options;
    const stats = options.callStats.of(FACEPLATE, '-', '-');
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

  /** Returns the target of this name, resolved again when it is older than KNOWN_MS. */
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
    const { mesh, callStats } = this.#options;
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
      // Two services have the method and the client named neither, so the mesh will refuse the call.
      if (found !== undefined && service !== details.service) {
        [service, found] = ['-', undefined];
        break;
      }
      // Prefer the requested version, otherwise take the first.
      if (found === undefined || details.version === target.version) found = method;
      service = details.service;
    }
    target.stats = callStats.of(FACEPLATE, service, found === undefined ? '-' : target.method);
    target.isOneway = found?.oneway ?? false;
    target.schema = found;
    target.knownAtMs = found === undefined ? -Infinity : nowMs;
  }
}

const FACEPLATE = 'thrift';
/** Maximum names in the cache. A hostile client that invents names only makes look-ups slower. */
const NAMES_MAX = 4_096;
/** How long a resolved name is valid, in ms. */
const KNOWN_MS = 1_000;

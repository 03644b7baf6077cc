// What a method name on the wire means: service, version and method, and the page of the book its calls are entered
// on. Worked out once per name
import type { MeshAccess, CallStats, StatsTable } from '../../core/rpc/mod.ts';
import { type Method, parseTarget } from '../../core/thrift/mod.ts';

// and looked up after that. Names that no pool has are entered under '-', so that strangers cannot grow the book.

import { LRUCache } from 'lru-cache';

export interface MethodTarget {
  /** '' when the client named none and the listener has no default. */
  readonly service: string;
  readonly version: string;
  /** The bare name; also what the answer is called. */
  readonly method: string;
  /** Where its calls are entered; changes when the service appears or goes. */
  stats: CallStats;
  /**
   * The interface says that nothing is answered, whatever the client's message type says (old clients write plain
   * calls).
   */
  isOneway: boolean;
  /** What arguments and result are, for encodings that need to know; undefined while no pool is known that has it. */
  schema: Method | undefined;
  /** When a pool was last seen that has it; -Infinity when none was. */
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
  /** Of messages whose name could not be read. */
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

  /** The target of a call of that name, made at `nowMs`. */
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
        // A service that exists has a page for the methods it lacks.
        if (target.service !== '' && found === undefined) service = details.service;
        continue;
      }
      // Two services have the method and the client named none: the mesh will refuse.
      if (found !== undefined && service !== details.service) {
        [service, found] = ['-', undefined];
        break;
      }
      // Of several versions the one that was asked for, else whichever comes first.
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
/** Different names remembered; a hostile client that invents names only makes look-ups slower. */
const NAMES_MAX = 4_096;
/** How long a name that was found is believed to exist, in ms. */
const KNOWN_MS = 1_000;

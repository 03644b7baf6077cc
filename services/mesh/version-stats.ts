// Counts, in the router of this process, how the calls of services with a route end, by version and method. Only calls
// that the weights have led are counted: a caller who asks for a version, or whom a rule leads, is not like the others.
// A count begins anew when the split of its service changes, so that all calls of a count had the same chance.

import { randomBytes } from 'node:crypto';
import { ERROR_TABLE, type ErrorCode } from '../../core/mod.ts';
import type { Reply } from '../../core/rpc/mod.ts';
import type { Offer } from './offer.ts';
import { isNoRoute, type Routes } from './route.ts';
import { emptyCount, type OutcomeCount, type VersionCount, type VersionReport } from './version-count.ts';

export class VersionStats {
  readonly #start: string = randomBytes(8).toString('hex');
  #byService: ReadonlyMap<string, ServiceStats> = new Map();
  #entries = 0;
  #seq = 0;

  /** Whether a service has a route. */
  get isActive(): boolean {
    return this.#byService.size > 0;
  }

  setRoutes(routes: Routes): void {
    const byService = new Map<string, ServiceStats>();
    for (const [service, route] of routes) {
      if (isNoRoute(route)) continue;
      const { splitIndex = 0 } = route;
      const known = this.#byService.get(service);
      byService.set(service, known?.splitIndex === splitIndex ? known : new ServiceStats(service, splitIndex));
    }
    this.#byService = byService;
    this.#entries = [...byService.values()].reduce((sum, { entries }) => sum + entries, 0);
  }

  replied(service: string, method: string, offer: Offer, reply: Reply, durationMs: number): void {
    const count = this.#countOf(service, method, offer);
    if (count === undefined) return;
    count.calls++;
    if (reply.isException) count.failures++;
    else if (isDeclaredException(reply.body)) count.exceptions++;
    count.durations.record(durationMs);
    count.queueing.record(reply.context.queueUs / 1_000);
  }

  failed(service: string, method: string, offer: Offer, code: ErrorCode, durationMs: number): void {
    const count = this.#countOf(service, method, offer);
    if (count === undefined) return;
    count.calls++;
    const { outcome } = ERROR_TABLE[code];
    if (outcome === 'timed_out') {
      count.timeouts++;
      count.durations.record(durationMs);
    } else if (outcome === 'refused') count.refusals++;
    else if (outcome === 'cancelled') count.cancelled++;
    else count.failures++;
  }

  /**
   * Adds a value that a caller has reported for a call of a service.
   * @returns false if the service has no route, or too many metrics
   */
  addOutcome(service: string, version: string, metric: string, value: number): boolean {
    const stats = this.#byService.get(service);
    if (stats === undefined) return false;
    const outcome = stats.outcomeOf(version, metric);
    if (outcome === undefined) return false;
    outcome.count++;
    outcome.sum += value;
    outcome.sumOfSquares += value * value;
    if (value !== 0 && value !== 1) outcome.others++;
    return true;
  }

  /** The services that have a route. */
  get services(): readonly string[] {
    return [...this.#byService.keys()];
  }

  /** What this process has counted of a service. */
  read(service: string): Pick<VersionReport, 'start' | 'seq' | 'counts' | 'outcomes'> {
    const read = this.#byService.get(service)?.read() ?? { counts: [], outcomes: [] };
    return { start: this.#start, seq: ++this.#seq, ...read };
  }

  #countOf(service: string, method: string, { details: { version } }: Offer): VersionCount | undefined {
    const stats = this.#byService.get(service);
    if (stats === undefined) return undefined;
    const known = stats.countOf(version, method);
    if (known !== undefined || this.#entries >= ENTRIES_MAX) return known;
    this.#entries++;
    return stats.begin(version, method);
  }
}

/** The counts of one service since its split has changed. */
class ServiceStats {
  readonly service: string;
  readonly splitIndex: number;
  readonly #sinceMs: number = Date.now();
  readonly #counts = new Map<string, Map<string, VersionCount>>();
  readonly #outcomes = new Map<string, OutcomeCount>();
  entries = 0;

  constructor(service: string, splitIndex: number) {
    this.service = service;
    this.splitIndex = splitIndex;
  }

  countOf(version: string, method: string): VersionCount | undefined {
    return this.#counts.get(version)?.get(method);
  }

  begin(version: string, method: string): VersionCount {
    const count = emptyCount({ ...this.#key(version), method });
    this.entries++;
    const methods = this.#counts.get(version) ?? new Map<string, VersionCount>();
    this.#counts.set(version, methods.set(method, count));
    return count;
  }

  /** The count of a metric; undefined if there are too many. */
  outcomeOf(version: string, metric: string): OutcomeCount | undefined {
    const name = JSON.stringify([version, metric]);
    const known = this.#outcomes.get(name);
    if (known !== undefined || this.#outcomes.size >= OUTCOMES_MAX) return known;
    const count: OutcomeCount = { ...this.#key(version), metric, count: 0, sum: 0, sumOfSquares: 0, others: 0 };
    this.#outcomes.set(name, count);
    return count;
  }

  read(): Pick<VersionReport, 'counts' | 'outcomes'> {
    const counts = [...this.#counts.values()].flatMap((methods) => [...methods.values()]);
    return { counts, outcomes: [...this.#outcomes.values()] };
  }

  #key(version: string): Pick<VersionCount, 'serviceName' | 'version' | 'splitIndex' | 'sinceMs'> {
    return { serviceName: this.service, version, splitIndex: this.splitIndex, sinceMs: this.#sinceMs };
  }
}

/** Whether a result struct holds a declared exception: a field that is not `success`, which has the id 0. */
function isDeclaredException(result: Uint8Array): boolean {
  return result.length > FIELD_HEAD_BYTES && (result[1] !== 0 || result[2] !== 0);
}

/** Type and id of a field. A struct without fields is one stop byte. */
const FIELD_HEAD_BYTES = 3;
/** Methods of versions with counts, some 5 KB each. */
const ENTRIES_MAX = 1_000;
/** Metrics of all versions of a service. */
const OUTCOMES_MAX = 200;

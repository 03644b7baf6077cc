// Copies calls to another version of their service, as routes say (`mirror`), and compares the answers. A call is
// copied once its caller has the answer, so the copy delays nobody, and a call that failed is not copied.
//
// A copy is sent only to a manager that reports a free place, with `doNotQueue`, and is never tried again. Copies under
// way are bounded in number and bytes, and they take a small part of the time of the event loop, comparisons included.
// What is above a bound is counted as skipped. A version that answers no copy gets none for a growing while.

import { compareReplies, shortArguments } from '../../core/idl/mod.ts';
import type { Clock, KatamariError } from '../../core/mod.ts';
import { createCall, mirrorHeaders, type Call, type CallSink, type PoolQuery, type Reply } from '../../core/rpc/mod.ts';
import type { Method } from '../../core/thrift/mod.ts';
import { chooseManager } from './choose-manager.ts';
import type { MirrorCount, MirrorDifference, MirrorPathCount, MirrorReport } from './mirror-report.ts';
import type { Offer } from './offer.ts';
import { isMirrored, type RouteMirror } from './route-mirror.ts';
import type { Routes } from './route.ts';

export interface MirrorsOptions {
  readonly clock: Clock;
  /** The offers for a call to an exact version; none if its caller may not call it. */
  readonly offersOf: (query: PoolQuery) => readonly Offer[];
}

export class Mirrors {
  readonly #options: MirrorsOptions;
  #byService: ReadonlyMap<string, ServiceMirror> = new Map();
  #differences: MirrorDifference[] = [];
  /** Copies under way, and the bytes that they hold. */
  #copies = 0;
  #bytes = 0;
  /** Time in ms that copies and comparisons may take now, as of `#budgetAtMs`. */
  #budgetMs: number = BURST_MS;
  #budgetAtMs: number;

  constructor(options: MirrorsOptions) {
    this.#options = options;
    this.#budgetAtMs = options.clock.nowMs();
  }

  /** Whether a route has a mirror. */
  get isActive(): boolean {
    return this.#byService.size > 0;
  }

  /** Figures of a mirror that has changed begin anew. */
  setRoutes(routes: Routes): void {
    const byService = new Map<string, ServiceMirror>();
    for (const [service, { mirror }] of routes) {
      if (mirror === undefined || (mirror.share ?? SHARE) === 0) continue;
      const text = JSON.stringify(mirror);
      const known = this.#byService.get(service);
      byService.set(service, known?.text === text ? known : new ServiceMirror(service, mirror, text));
    }
    const isKept = ({ serviceName }: MirrorDifference): boolean =>
      byService.has(serviceName) && byService.get(serviceName) === this.#byService.get(serviceName);
    this.#differences = this.#differences.filter(isKept);
    this.#byService = byService;
  }

  /**
   * Copies a call that was answered, if its route says so.
   * @param call as it was sent to the pool of `offer`
   */
  replied(call: Call, { details: { version }, interface: iface }: Offer, reply: Reply): void {
    const mirror = this.#byService.get(call.service);
    const method = iface.methods.get(call.method);
    if (mirror === undefined || method === undefined || version === mirror.route.to) return;
    if (!isMirrored(mirror.route, method) || !mirror.takesNext()) return;
    const bytes = call.args.length + reply.body.length;
    const isRefused =
      this.#copies >= COPIES_MAX ||
      this.#bytes + bytes > BYTES_MAX ||
      bytes > CALL_BYTES_MAX ||
      mirror.isPaused(this.#options.clock.nowMs()) ||
      !this.#hasTime();
    const offer = isRefused ? undefined : this.#freeOffer(call, mirror);
    if (offer === undefined) {
      mirror.countOf(method.name).skipped++;
      return;
    }
    this.#copies++;
    this.#bytes += bytes;
    this.#budgetMs -= COPY_COST_MS;
    // They are parts of buffers that hold other messages too.
    const copied = { ...call, args: Buffer.from(call.args) };
    const answer = { ...reply, body: Buffer.from(reply.body) };
    const copy = new MirrorCopy(this, mirror, copied, method, version, answer);
    // Other calls of this turn of the event loop come first.
    setImmediate(() => this.#send(copy, offer));
  }

  /** An offer of the version that gets the copies, with a free place. */
  #freeOffer(call: Call, mirror: ServiceMirror): Offer | undefined {
    const offers = this.#options.offersOf({ ...call, version: mirror.route.to });
    const offer = chooseManager(offers, undefined, undefined);
    if (offer !== undefined && offer.free > 0) return offer;
    // The search costs more than routing the call, so not every call looks for a place.
    mirror.pause(this.#options.clock.nowMs(), FULL_MS);
    return undefined;
  }

  #send(copy: MirrorCopy, offer: Offer): void {
    const { clock } = this.#options;
    const { call } = copy;
    const method = offer.interface.methods.get(call.method);
    if (method === undefined || offer.free <= 0) {
      this.#end(copy, 'skipped');
      return;
    }
    copy.mirrorMethod = method;
    const timeoutMs = method.timeoutMs === 0 ? COPY_MS_MAX : Math.min(COPY_MS_MAX, method.timeoutMs);
    const sent = createCall({
      ...call,
      version: offer.details.version,
      deadlineMs: clock.nowMs() + timeoutMs,
      headers: mirrorHeaders(call),
      attempt: 0,
      doNotQueue: true,
      rule: '',
      group: '',
      signal: undefined,
    });
    offer.send(sent, copy);
  }

  answered(copy: MirrorCopy, reply: Reply): void {
    copy.mirror.answered();
    setImmediate(() => this.#compare(copy, reply));
  }

  failed(copy: MirrorCopy, { facts, code }: KatamariError): void {
    // It did not run: a free place was taken by another call, or the manager stops.
    const isSkipped = facts.notRun === true && code !== 'timeout';
    if (!isSkipped) copy.mirror.failed(this.#options.clock.nowMs());
    this.#end(copy, isSkipped ? 'skipped' : 'failed');
  }

  #compare(copy: MirrorCopy, reply: Reply): void {
    const { clock } = this.#options;
    const { mirror, method, mirrorMethod, answer, call } = copy;
    const startedMs = clock.nowMs();
    const { isException, body } = answer;
    const found = compareReplies(
      { method, isException, body },
      { method: mirrorMethod, isException: reply.isException, body: reply.body },
      { tolerance: mirror.route.tolerance, ignore: mirror.ignore },
    );
    if (found.kind === 'different' && this.#byService.get(call.service) === mirror) {
      for (const { path } of found.differences) mirror.countPath(method.name, path);
      this.#differences.push({
        atMs: Date.now(),
        serviceName: call.service,
        method: method.name,
        version: copy.version,
        answer: found.one,
        mirrorVersion: mirror.route.to,
        mirrorAnswer: found.other,
        parameters: shortArguments(method, call.args, ARGUMENT_CHARS),
        places: found.differences.map(({ path, at, one, other }) => ({ path, at, answer: one, mirrorAnswer: other })),
      });
      if (this.#differences.length > DIFFERENCES_MAX) this.#differences.shift();
    }
    this.#budgetMs -= clock.nowMs() - startedMs;
    this.#end(copy, found.kind);
  }

  #end({ mirror, method, bytes }: MirrorCopy, result: MirrorResult): void {
    this.#copies--;
    this.#bytes -= bytes;
    mirror.countOf(method.name)[result]++;
  }

  /** Whether copies and comparisons have taken no more than their part of the time. */
  #hasTime(): boolean {
    const nowMs = this.#options.clock.nowMs();
    const gained = (nowMs - this.#budgetAtMs) * PART_OF_TIME;
    this.#budgetMs = Math.min(BURST_MS, this.#budgetMs + gained);
    this.#budgetAtMs = nowMs;
    return this.#budgetMs > 0;
  }

  /** What the mirrors of this process have found. @param service '' for all */
  report(service: string = ''): MirrorReport {
    const all = [...this.#byService.values()].filter(({ name }) => service === '' || name === service);
    return {
      counts: all.flatMap((mirror) => [...mirror.counts.values()]),
      paths: all.flatMap((mirror) => [...mirror.paths.values()]),
      differences: this.#differences.filter(({ serviceName }) => service === '' || serviceName === service),
      missing: [],
    };
  }
}

type MirrorResult = 'equal' | 'different' | 'failed' | 'skipped';

/** The mirror of one service, and its figures. */
class ServiceMirror {
  readonly name: string;
  readonly route: RouteMirror;
  /** JSON of the route's mirror: another text is another mirror. */
  readonly text: string;
  readonly ignore: ReadonlySet<string>;
  readonly counts: Map<string, MirrorCount> = new Map();
  readonly paths: Map<string, MirrorPathCount> = new Map();
  /** Percentages of calls that were not copied. At 100 the next one is. */
  #passed = 0;
  /** Copies in a row without an answer. */
  #failures = 0;
  #pausedUntilMs = 0;

  constructor(name: string, route: RouteMirror, text: string) {
    this.name = name;
    this.route = route;
    this.text = text;
    this.ignore = new Set(route.ignore);
  }

  /** Whether the share takes this call. Of any 1,000 calls it takes its share, to one call. */
  takesNext(): boolean {
    this.#passed += this.route.share ?? SHARE;
    if (this.#passed < 100) return false;
    this.#passed -= 100;
    return true;
  }

  pause(nowMs: number, ms: number): void {
    this.#pausedUntilMs = Math.max(this.#pausedUntilMs, nowMs + ms);
  }

  isPaused(nowMs: number): boolean {
    return nowMs < this.#pausedUntilMs;
  }

  answered(): void {
    this.#failures = 0;
  }

  /** Several failures in a row stop the copies for a while, since each may cost a copy of the version its life. */
  failed(nowMs: number): void {
    this.#failures++;
    if (this.#failures < FAILURES_MAX || this.#pausedUntilMs - nowMs > FULL_MS) return;
    this.pause(nowMs, Math.min(PAUSE_MS_MAX, PAUSE_MS * 2 ** (this.#failures - FAILURES_MAX)));
  }

  countOf(method: string): MirrorCount {
    let count = this.counts.get(method);
    if (count === undefined) {
      const of = { serviceName: this.name, version: this.route.to, method };
      this.counts.set(method, (count = { ...of, equal: 0, different: 0, failed: 0, skipped: 0 }));
    }
    return count;
  }

  countPath(method: string, path: string): void {
    const key = `${method} ${path}`;
    const count = this.paths.get(key);
    if (count !== undefined) count.calls++;
    else if (this.paths.size < PATHS_MAX)
      this.paths.set(key, { serviceName: this.name, version: this.route.to, method, path, calls: 1 });
  }
}

/** The copy of one call, and the answer that its caller got. */
class MirrorCopy implements CallSink {
  readonly #mirrors: Mirrors;
  readonly mirror: ServiceMirror;
  readonly call: Call;
  readonly method: Method;
  /** The version that answered. */
  readonly version: string;
  readonly answer: Reply;
  /** The method in the interface of the version that gets the copy. */
  mirrorMethod: Method;

  constructor(mirrors: Mirrors, mirror: ServiceMirror, call: Call, method: Method, version: string, answer: Reply) {
    this.#mirrors = mirrors;
    this.mirror = mirror;
    this.call = call;
    this.method = method;
    this.version = version;
    this.answer = answer;
    this.mirrorMethod = method;
  }

  get bytes(): number {
    return this.call.args.length + this.answer.body.length;
  }

  reply(reply: Reply): void {
    this.#mirrors.answered(this, reply);
  }

  fail(error: KatamariError): void {
    this.#mirrors.failed(this, error);
  }
}

/** Percentage of calls that a mirror copies unless it says otherwise. */
const SHARE = 100;
const COPIES_MAX = 64;
const BYTES_MAX: number = 16 * 1024 * 1024;
/** Arguments and answer of one call. */
const CALL_BYTES_MAX: number = 128 * 1024;
/** Longest time of a copy. */
const COPY_MS_MAX = 5_000;
const DIFFERENCES_MAX = 100;
const PATHS_MAX = 1_000;
const ARGUMENT_CHARS = 1_000;
/** Part of the time of the event loop that copies and comparisons may take, and how much of it at once. */
const PART_OF_TIME = 0.05;
const BURST_MS = 10;
/** Time that sending a copy and receiving its answer takes, rather more than less. */
const COPY_COST_MS = 0.05;
/** Time after which calls look for a free place again. */
const FULL_MS = 1;
const FAILURES_MAX = 5;
const PAUSE_MS = 1_000;
const PAUSE_MS_MAX = 30_000;

// The link to one resource manager of the mesh. The peer reconnects with backoff and pings the manager, so that a
// frozen or partitioned manager is avoided within two seconds even though no connection closes. It enforces the
// deadlines of the calls on the link: each call settles within about 20 ms of its deadline, even if the manager
// never answers. When a caller disconnects, the peer cancels its call at the manager too.

import {
  callerGone,
  connectLink,
  DeadlineWheel,
  Link,
  type DeadlineEntry,
  type LinkSecurity,
  type ReplySink,
} from '../../core/link/mod.ts';
import {
  asKatamariError,
  KatamariError,
  type Clock,
  type MessageLimits,
  Backoff,
  mustNotFail,
  untilNextTurnMs,
} from '../../core/mod.ts';
import type { Call, CallSink, Reply } from '../../core/rpc/mod.ts';
import { pause } from '../consul/mod.ts';

/**
 * - waiting: not connected; connects at first use
 * - connecting: connecting, or between two tries
 * - up: connected and answering
 * - silent: connected, but the manager did not answer the last ping in time; no new calls are sent
 * - leaving: the manager drains; no new calls are sent, calls in flight are answered
 * - closed: closed for good
 */
export type PeerState = 'waiting' | 'connecting' | 'up' | 'silent' | 'leaving' | 'closed';

export interface PeerOptions {
  /** Name of the manager. */
  readonly name: string;
  /** `host:port` of its link. */
  readonly address: string;
  readonly security: LinkSecurity | undefined;
  readonly limits: MessageLimits;
  /** Connect at once, or at the first call. */
  readonly connects: 'at once' | 'on demand';
  readonly clock: Clock;
  readonly deadlines: DeadlineWheel;
  /** Called on every change of state. `why` says why the peer is not up. */
  readonly onState: (state: PeerState, why: string) => void;
}

export class Peer {
  readonly #options: PeerOptions;
  readonly #end = new AbortController();
  #state: PeerState = 'waiting';
  #link: Link | undefined;
  #isRunning = false;

  constructor(options: PeerOptions) {
    this.#options = options;
    if (options.connects === 'at once') this.#run();
  }

  get name(): string {
    return this.#options.name;
  }

  get address(): string {
    return this.#options.address;
  }

  get state(): PeerState {
    return this.#state;
  }

  /** Whether a call may be sent now; true for a peer that has not connected yet. */
  get isUsable(): boolean {
    return this.#state === 'up' || this.#state === 'waiting';
  }

  /** Calls in flight on the link. */
  get inFlight(): number {
    return this.#link?.inFlight ?? 0;
  }

  /** Frames received on the current link. A change shows that the manager is alive. */
  get heard(): number {
    return this.#link?.heard ?? 0;
  }

  /** Sends a ping; its answer changes `heard`. */
  probe(): void {
    // Ignore a timeout here. A regular ping that is due meanwhile shares this one and handles it.
    this.#link?.ping(PING_TIMEOUT_MS, this.#options.clock).catch(() => undefined);
  }

  /**
   * Sends a call. Fails with `resource_failed` (`facts.notRun` when nothing was written), `timeout`, `cancelled`,
   * or the error of the manager.
   * @param name method name to write, for services of the mesh itself; default: the method of the call
   */
  send(call: Call, sink: CallSink, name?: string): void {
    if (this.#state === 'waiting') {
      this.#whenUp(call).then(
        () => this.send(call, sink, name),
        (thrown: unknown) => sink.fail(asKatamariError(thrown)),
      );
      return;
    }
    const link = this.#link;
    if (link === undefined || !this.isUsable) {
      sink.fail(this.#unreachable());
      return;
    }
    const remote = new PeerCall(call, link, this.#options, sink);
    try {
      remote.send(name);
    } catch (error) {
      remote.fail(error as KatamariError);
    }
  }

  /** Closes the link for good. Calls in flight fail. */
  close(why: string): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#end.abort();
    this.#link?.close(why);
    this.#link = undefined;
  }

  #unreachable(): KatamariError {
    const { name, address } = this.#options;
    return new KatamariError('resource_failed', `Manager ${name} at ${address} cannot be reached`, { notRun: true });
  }

  #run(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    mustNotFail(`the link to manager ${this.#options.name}`, this.#reconnectForever());
  }

  /** Connects for the first call of a peer that connects on demand. */
  async #whenUp(call: Call): Promise<void> {
    this.#run();
    const { clock } = this.#options;
    const signal = this.#end.signal;
    // Wait for the first connection attempt only. If it fails, the router tries another manager.
    while (this.#state === 'waiting' && clock.nowMs() < call.deadlineMs) await pause(clock, POLL_EVERY_MS, signal);
    if (this.#link === undefined) throw this.#unreachable();
  }

  async #reconnectForever(): Promise<void> {
    const { clock, address, security } = this.#options;
    const { signal } = this.#end;
    const backoff = new Backoff({ firstMs: BACKOFF_FIRST_MS, maxMs: BACKOFF_MAX_MS, random: Math.random });
    while (!signal.aborted) {
      try {
        if (this.#options.connects === 'at once') this.#setState('connecting', '');
        const socket = await connectLink(`tcp:${address}`, { security, timeoutMs: CONNECT_TIMEOUT_MS, signal });
        if (signal.aborted) {
          socket.destroy();
          return;
        }
        await this.#runLink(socket, backoff);
      } catch (error) {
        if (signal.aborted) return;
        this.#setState('connecting', (error as Error).message);
      }
      await pause(clock, backoff.next(), signal);
    }
  }

  /** Runs a connected link; resolves when it breaks. */
  async #runLink(socket: Awaited<ReturnType<typeof connectLink>>, backoff: Backoff): Promise<void> {
    const { name, limits, clock } = this.#options;
    const broken = new AbortController();
    const link = new Link(socket, {
      peer: `Manager ${name}`,
      limits,
      onDrain: () => this.#setState('leaving', 'it is draining'),
      onClose: (error) => {
        if (this.#link === link) this.#link = undefined;
        if (this.#state !== 'closed') this.#setState('connecting', error.message);
        broken.abort();
      },
    });
    try {
      // The kernel accepts connections for a frozen process too, so the link is up only after the first pong.
      await link.ping(CONNECT_TIMEOUT_MS, clock);
    } catch (error) {
      link.close((error as Error).message);
      return;
    }
    if (!link.isOpen) return;
    this.#link = link;
    backoff.reset();
    this.#setState('up', '');
    await this.#pingUntilBroken(link, broken.signal);
  }

  /** Pings until the link breaks. Closes a link that is silent for too long, so that it reconnects. */
  async #pingUntilBroken(link: Link, broken: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    let silentSinceMs = 0;
    while (!broken.aborted) {
      await pause(clock, untilNextTurnMs(clock.nowMs(), PING_EVERY_MS), broken);
      if (broken.aborted) return;
      const sentMs = clock.nowMs();
      try {
        await link.ping(PING_TIMEOUT_MS, clock);
        silentSinceMs = 0;
        if (!broken.aborted && !link.isDraining) this.#setState('up', '');
      } catch (error) {
        if (broken.aborted) return;
        silentSinceMs ||= sentMs;
        this.#setState('silent', (error as Error).message);
        if (clock.nowMs() - silentSinceMs >= SILENT_MAX_MS)
          link.close(`has not answered for ${SILENT_MAX_MS / 1000} s`);
      }
    }
  }

  #setState(state: PeerState, why: string): void {
    if (this.#state === state || this.#state === 'closed') return;
    this.#state = state;
    this.#options.onState(state, why);
  }
}

/** A call on the link. Settles once: answered, failed, timed out, or canceled by its caller. */
class PeerCall implements ReplySink, DeadlineEntry {
  readonly #call: Call;
  readonly #link: Link;
  readonly #options: PeerOptions;
  readonly #sink: CallSink;
  #sentId = 0;
  #isSettled = false;
  /** Owned by the deadline wheel. */
  readonly expiresAtMs: number;
  slot = -1;
  place = -1;

  constructor(call: Call, link: Link, options: PeerOptions, sink: CallSink) {
    this.#call = call;
    this.#link = link;
    this.#options = options;
    this.#sink = sink;
    this.expiresAtMs = call.deadlineMs + LATE_MS;
  }

  /** @throws KatamariError when nothing was written */
  send(name: string | undefined): void {
    const { clock, deadlines } = this.#options;
    const { signal } = this.#call;
    if (signal?.aborted === true) throw callerGone();
    this.#sentId = this.#link.send(this.#call, this, clock.nowMs(), name);
    deadlines.add(this);
    signal?.addEventListener('abort', this);
  }

  reply(reply: Reply): void {
    if (this.#settle()) this.#sink.reply(reply);
  }

  fail(error: KatamariError): void {
    if (this.#settle()) this.#sink.fail(error === this.#link.closedBy ? this.#explain(error) : error);
  }

  /** The error for a call whose link broke; it may have run. */
  #explain(error: KatamariError): KatamariError {
    const { name } = this.#options;
    const why = `Manager ${name} failed while it worked on ${this.#call.method}: ${error.message}; send the call again if it is safe to run twice`;
    return new KatamariError(error.code, why, error.facts, error);
  }

  /** Fails the call when the manager has not answered by its deadline. */
  expire(): void {
    if (!this.#settle()) return;
    this.#link.cancel(this.#sentId);
    const why = `Manager ${this.#options.name} did not answer ${this.#call.method} in time`;
    this.#sink.fail(new KatamariError('timeout', why, { stage: 'service' }));
  }

  /** The caller has gone. */
  handleEvent(): void {
    if (!this.#settle()) return;
    this.#link.cancel(this.#sentId);
    this.#sink.fail(new KatamariError('cancelled', 'The caller has gone'));
  }

  /** Settles the call. Returns false if it was already settled. */
  #settle(): boolean {
    if (this.#isSettled) return false;
    this.#isSettled = true;
    this.#options.deadlines.remove(this);
    this.#call.signal?.removeEventListener('abort', this);
    return true;
  }
}

/** How late the answer of a manager may arrive after the deadline, in ms; the mesh allows 50 ms in all. */
const LATE_MS = 20;
const CONNECT_TIMEOUT_MS = 2_000;
const PING_EVERY_MS = 400;
/** A manager that does not answer a ping within this time gets no calls until it answers. */
const PING_TIMEOUT_MS = 1_000;
/**
 * A link that is silent for this long is closed and reconnected: after a network partition TCP retransmits at growing
 * intervals.
 */
const SILENT_MAX_MS = 5_000;
const BACKOFF_FIRST_MS = 20;
const BACKOFF_MAX_MS = 1_000;
const POLL_EVERY_MS = 10;

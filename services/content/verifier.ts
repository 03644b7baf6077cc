// Checks the files of the shards of this manager against their SHA-256, one shard at a time: each once after a start of
// the manager and then every `verifyEvery`, and first those that an operator asks for. A check in its turn waits while
// shards are being opened, and pauses while one is fetched. What is damaged, the replica gives up by itself.

import { type Clock, mustNotFail } from '../../core/mod.ts';
import { pause } from '../consul/mod.ts';
import { RETRY_FIRST_MS, RETRY_MAX_MS } from './limits.ts';
import type { Replica } from './replica.ts';

/** A shard of a run: `unknown` when it could not be checked, and `why` says the reason. */
export interface ShardCheck {
  /** `index@version/shard` */
  readonly shard: string;
  state: 'waiting' | 'checking' | 'intact' | 'damaged' | 'unknown';
  readonly bytes: number;
  bytesDone: number;
  /** What is damaged, or why it is unknown; '' for neither. */
  why: string;
  /** State of the replica. */
  replica: string;
}

export type CheckableReplica = Pick<
  Replica,
  'name' | 'isCheckable' | 'isOpening' | 'checkedAtMs' | 'checkFiles' | 'status'
>;

export interface VerifierOptions {
  readonly clock: Clock;
  /** Time between two checks of a shard; 0: only when an operator asks. */
  readonly everyMs: number;
  readonly replicas: () => Iterable<CheckableReplica>;
  /** Called for a check that could not be done. */
  readonly onFailed: (shard: string, why: string) => void;
}

export class Verifier {
  readonly #options: VerifierOptions;
  /** What operators have asked for, by id, oldest first. */
  readonly #runs = new Map<string, ShardCheck[]>();
  /** Checks that could not be done, by full name. */
  readonly #failures = new Map<string, { readonly tries: number; readonly untilMs: number }>();
  readonly #counts = { intact: 0, damaged: 0, failed: 0, bytes: 0 };
  readonly #end = new AbortController();
  #wake = new AbortController();

  constructor(options: VerifierOptions) {
    this.#options = options;
    mustNotFail('the checks of shards', this.#work());
  }

  /** Checks since the start by result, and the bytes that they have read. */
  get counts(): { readonly intact: number; readonly damaged: number; readonly failed: number; readonly bytes: number } {
    return this.#counts;
  }

  /** Called when replicas have changed. */
  changed(): void {
    this.#wake.abort();
  }

  /** Checks shards now. The same id again changes nothing. @param isAsked gets the full name of a shard */
  start(id: string, isAsked: (shard: string) => boolean): void {
    if (this.#runs.has(id)) return;
    const asked = [...this.#options.replicas()].filter(({ name }) => isAsked(name));
    const run = asked.map((replica): ShardCheck => {
      const { name, bytes, state } = replica.status();
      return { shard: name, state: 'waiting', bytes, bytesDone: 0, why: '', replica: state };
    });
    this.#runs.set(
      id,
      run.sort((a, b) => (a.shard < b.shard ? -1 : 1)),
    );
    for (const old of [...this.#runs.keys()].slice(0, -RUNS_KEPT_MAX)) this.#runs.delete(old);
    this.#wake.abort();
  }

  /** The shards of a run in order of their names; none for an unknown id. */
  read(id: string): readonly ShardCheck[] {
    const replicas = new Map([...this.#options.replicas()].map((replica) => [replica.name, replica]));
    return (this.#runs.get(id) ?? []).map((check) => ({
      ...check,
      replica: replicas.get(check.shard)?.status().state ?? 'gone',
    }));
  }

  /** Ends the check that runs. No other one begins. */
  close(): void {
    this.#end.abort(new Error('this manager is stopping'));
    this.#wake.abort();
  }

  async #work(): Promise<void> {
    const { clock } = this.#options;
    while (!this.#end.signal.aborted) {
      this.#wake = new AbortController();
      const next = this.#nextAsked() ?? this.#nextDue();
      if (typeof next === 'object') await this.#check(next);
      else await pause(clock, next, this.#wake.signal);
    }
  }

  /** The first shard that an operator waits for, and that can be checked now. */
  #nextAsked(): CheckableReplica | undefined {
    const replicas = new Map([...this.#options.replicas()].map((replica) => [replica.name, replica]));
    for (const shard of this.#failures.keys()) if (!replicas.has(shard)) this.#failures.delete(shard);
    for (const check of [...this.#runs.values()].flat()) {
      if (check.state !== 'waiting') continue;
      const replica = replicas.get(check.shard);
      if (replica?.isCheckable !== true) settle(check, 'unknown', 'its files are not on this manager now');
      else if (this.#pauseOf(check.shard) <= 0) return replica;
    }
    return undefined;
  }

  /** The shard that was not checked for the longest time; or ms until one is due. */
  #nextDue(): CheckableReplica | number {
    const { clock, everyMs, replicas } = this.#options;
    const nowMs = clock.nowMs();
    let [next, nextInMs]: [CheckableReplica | undefined, number] = [undefined, Number.POSITIVE_INFINITY];
    for (const replica of replicas()) {
      // Opening reads the same disk, and callers wait for it. A change follows.
      if (replica.isOpening) return this.#shortestPause();
      if (!replica.isCheckable || everyMs === 0) continue;
      const inMs = Math.max(replica.checkedAtMs + everyMs - nowMs, this.#pauseOf(replica.name));
      if (inMs < nextInMs) [next, nextInMs] = [replica, inMs];
    }
    if (next !== undefined && nextInMs <= 0) return next;
    return Math.min(nextInMs, this.#shortestPause());
  }

  async #check(replica: CheckableReplica): Promise<void> {
    const { name } = replica;
    let counted = 0;
    this.#settle(name, 'checking');
    try {
      const found = await replica.checkFiles((bytesDone) => {
        this.#counts.bytes += Math.max(0, bytesDone - counted);
        counted = bytesDone;
        for (const check of this.#checksOf(name, 'checking')) check.bytesDone = bytesDone;
      }, this.#end.signal);
      this.#failures.delete(name);
      if (found !== 'replaced') this.#counts[found]++;
      if (found === 'replaced') this.#pauseAfter(name, 0);
      if (found === 'intact') this.#settle(name, 'intact');
      else if (found === 'replaced') this.#settle(name, 'unknown', 'its files were replaced meanwhile');
      else this.#settle(name, 'damaged', replica.status().why);
    } catch (error) {
      if (this.#end.signal.aborted) return;
      const why = `its files cannot be checked: ${(error as Error).message}`;
      const tries = (this.#failures.get(name)?.tries ?? 0) + 1;
      this.#pauseAfter(name, tries);
      this.#counts.failed++;
      this.#options.onFailed(name, why);
      if (tries < TRIES_MAX) this.#settle(name, 'waiting');
      else this.#settle(name, 'unknown', why);
    }
  }

  #settle(shard: string, state: ShardCheck['state'], why = ''): void {
    for (const check of this.#checksOf(shard, state === 'checking' ? 'waiting' : 'checking')) settle(check, state, why);
  }

  #checksOf(shard: string, state: ShardCheck['state']): readonly ShardCheck[] {
    return [...this.#runs.values()].flat().filter((check) => check.shard === shard && check.state === state);
  }

  #pauseAfter(shard: string, tries: number): void {
    const pauseMs = Math.min(RETRY_FIRST_MS * 2 ** tries, RETRY_MAX_MS);
    this.#failures.set(shard, { tries, untilMs: this.#options.clock.nowMs() + pauseMs });
  }

  /** Ms until a shard may be checked again after a failure; 0 or less without one. */
  #pauseOf(shard: string): number {
    return (this.#failures.get(shard)?.untilMs ?? Number.NEGATIVE_INFINITY) - this.#options.clock.nowMs();
  }

  /** Ms until a shard may be checked again, at most WAIT_MS_MAX. */
  #shortestPause(): number {
    const pauses = [...this.#failures.keys()].map((shard) => this.#pauseOf(shard));
    return pauses.reduce((min, ms) => (ms > 0 ? Math.min(min, ms) : min), WAIT_MS_MAX);
  }
}

function settle(check: ShardCheck, state: ShardCheck['state'], why: string): void {
  check.state = state;
  check.why = why;
  if (state === 'intact') check.bytesDone = check.bytes;
  if (state === 'waiting') check.bytesDone = 0;
}

const RUNS_KEPT_MAX = 16;
/** An operator's check that could not be done is given up after so many tries. */
const TRIES_MAX = 3;
const WAIT_MS_MAX = 3_600_000;

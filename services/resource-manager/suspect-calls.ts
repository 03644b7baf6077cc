// Calls of a pool that have cost a copy its connection or its life. Sent again, they would cost the next one, so the
// same caller, method and arguments are refused with `refused_as_poison` for a time that grows with every loss.
//
// Certain or perhaps: a call is to blame at once if it was the only one that ran in the copy. If several ran, or the
// process was killed by a signal from outside, each of them is noted as perhaps to blame, and is refused only when a
// second copy is lost with the same arguments within a minute. So no call is condemned for a neighbor.
//
// When the time is over, one such call may run: if it is answered, the record is deleted. A reply to an equal call
// deletes a record at any time, because its arguments then harm no copy. Calls are compared only while the pool has a
// record of their method, so the check costs nothing otherwise. Limits: records of a pool, the time of a refusal.

import { KatamariError, type Clock } from '../../core/mod.ts';
import { callerWithoutPort, type Call, type SuspectCall } from '../../core/rpc/mod.ts';
import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';

export interface SuspectCallsOptions {
  /** Name of the pool, for messages. */
  readonly pool: string;
  readonly clock: Clock;
  /** Called when calls with these arguments are refused from now on. */
  readonly onRefusing: (why: string) => void;
}

/** What is known about one caller, method and arguments. */
interface SuspectRecord {
  readonly key: string;
  readonly method: string;
  readonly caller: string;
  readonly shape: string;
  /** Copies that calls of this shape have certainly cost, and those that they have perhaps cost. */
  losses: number;
  doubts: number;
  /** The copy whose loss is not settled yet: equal calls that it ran count once. '' if there is none. */
  unsettled: string;
  /** The current time of refusal; 0 before the first. */
  refuseMs: number;
  refusedUntilMs: number;
  /** While a call runs as a trial after a refusal, other calls wait for its result. */
  trialUntilMs: number;
  forgottenAtMs: number;
  /** Calls that were refused. */
  refused: number;
}

/** A copy that was lost while a call ran in it. Its cause is settled once: see `settle`. */
export interface Loss {
  readonly record: SuspectRecord;
  readonly copy: string;
  readonly isCertain: boolean;
  readonly lossesBefore: number;
}

/** What became of the process of a lost copy: it lives on without the connection, ended by itself, or was killed. */
export type LossCause = 'lives' | 'ended' | 'killed from outside';

export class SuspectCalls {
  readonly #options: SuspectCallsOptions;
  readonly #records: LRUCache<string, SuspectRecord>;
  /** Number of records by method. */
  readonly #methods = new Map<string, number>();

  constructor(options: SuspectCallsOptions) {
    this.#options = options;
    this.#records = new LRUCache({ max: RECORDS_MAX, dispose: ({ method }) => this.#count(method, -1) });
  }

  /** Whether calls must be compared with the records: the cheap check for the path of every call. */
  get isEmpty(): boolean {
    return this.#records.size === 0;
  }

  /** The refusal of a call; undefined when it may run. */
  refusalOf(call: Call, nowMs: number): KatamariError | undefined {
    const record = this.#find(call, nowMs);
    if (record === undefined || record.refuseMs === 0) return undefined;
    const untilMs = Math.max(record.refusedUntilMs, record.trialUntilMs);
    if (nowMs < untilMs) {
      record.refused++;
      return this.#refusal(call, record, untilMs - nowMs);
    }
    record.trialUntilMs = call.deadlineMs;
    return undefined;
  }

  /** Deletes the record of an equal call that was answered. */
  acquit(call: Call): void {
    if (this.#methods.has(call.method)) this.#records.delete(keyOf(call));
  }

  /**
   * Notes that a copy was lost while it ran this call. Until the loss is settled, the call is only perhaps to blame: a
   * copy that was killed from outside makes no equal call fail.
   * @param isCertain no other call can be to blame
   */
  note(call: Call, copy: string, isCertain: boolean): Loss {
    const nowMs = this.#options.clock.nowMs();
    const record = this.#find(call, nowMs) ?? this.#add(call);
    const loss: Loss = { record, copy, isCertain, lossesBefore: record.losses };
    record.forgottenAtMs = Math.max(record.forgottenAtMs, nowMs + MEMORY_MS);
    record.trialUntilMs = 0;
    if (record.unsettled === copy) return loss;
    record.unsettled = copy;
    if (record.doubts > 0) this.#condemn(record, nowMs);
    else record.doubts++;
    return loss;
  }

  /**
   * Settles a loss when it is known what became of the process. If it lives on, no other call can have cost it the
   * connection. If it was killed from outside, the call is only perhaps to blame.
   * @returns whether the call is suspect, so that it must not be sent to another copy
   */
  settle(loss: Loss, cause: LossCause): boolean {
    const { record, lossesBefore, isCertain } = loss;
    const isKilled = cause === 'killed from outside';
    if (this.#records.get(record.key) !== record) return !isKilled;
    record.unsettled = '';
    if ((cause === 'lives' || (isCertain && !isKilled)) && record.losses === lossesBefore) {
      record.doubts--;
      this.#condemn(record, this.#options.clock.nowMs());
    }
    const isCondemned = record.losses > lossesBefore;
    if (isCondemned) this.#report(loss);
    return isCondemned || !isKilled;
  }

  /** The records, for the status: those that are refused and those that are in doubt. */
  list(): SuspectCall[] {
    const nowMs = this.#options.clock.nowMs();
    return [...this.#records.values()]
      .filter(({ forgottenAtMs }) => nowMs < forgottenAtMs)
      .map(({ method, caller, shape, losses, doubts, refusedUntilMs, refused }) => ({
        method,
        caller,
        shape,
        losses,
        doubts,
        refusedForMs: Math.max(0, Math.ceil(refusedUntilMs - nowMs)),
        refused,
      }));
  }

  #condemn(record: SuspectRecord, nowMs: number): void {
    record.losses++;
    // Equal calls that ran at the same time lengthen the refusal only once.
    if (nowMs >= record.refusedUntilMs)
      record.refuseMs = record.refuseMs === 0 ? REFUSE_FIRST_MS : Math.min(REFUSE_MAX_MS, record.refuseMs * 2);
    record.refusedUntilMs = nowMs + record.refuseMs;
    record.forgottenAtMs = record.refusedUntilMs + MEMORY_MS;
  }

  #report({ record, copy }: Loss): void {
    const { method, caller, shape, losses, doubts, refuseMs } = record;
    const count = losses + doubts === 1 ? '' : ` (${losses + doubts} copies so far)`;
    const why = `${method} of ${caller || 'a caller without a name'} with arguments ${shape} cost ${copy} its connection or its life${count}: such calls are refused for ${refuseMs / 1000} s`;
    this.#options.onRefusing(why);
  }

  #refusal({ method }: Call, { caller, shape, losses, doubts }: SuspectRecord, leftMs: number): KatamariError {
    const retryAfterMs = Math.ceil(leftMs);
    const lost = losses + doubts === 1 ? 'a copy' : `${losses + doubts} copies`;
    const why = `Refused ${method} of ${caller || 'this caller'}: the same call (arguments ${shape}) has cost ${lost} of ${this.#options.pool} its connection or its life; change its arguments, or mend the service and try again in ${retryAfterMs} ms`;
    return new KatamariError('refused_as_poison', why, { notRun: true, retryAfterMs });
  }

  #find(call: Call, nowMs: number): SuspectRecord | undefined {
    if (!this.#methods.has(call.method)) return undefined;
    const key = keyOf(call);
    const record = this.#records.get(key);
    if (record === undefined || nowMs < record.forgottenAtMs) return record;
    this.#records.delete(key);
    return undefined;
  }

  #add(call: Call): SuspectRecord {
    const { method } = call;
    const key = keyOf(call);
    const record: SuspectRecord = {
      key,
      method,
      caller: callerWithoutPort(call.caller),
      shape: shapeOf(call.args),
      losses: 0,
      doubts: 0,
      unsettled: '',
      refuseMs: 0,
      refusedUntilMs: 0,
      trialUntilMs: 0,
      forgottenAtMs: 0,
      refused: 0,
    };
    this.#count(method, 1);
    this.#records.set(key, record);
    return record;
  }

  #count(method: string, change: 1 | -1): void {
    const count = (this.#methods.get(method) ?? 0) + change;
    if (count === 0) this.#methods.delete(method);
    else this.#methods.set(method, count);
  }
}

function keyOf(call: Call): string {
  return JSON.stringify([call.method, callerWithoutPort(call.caller), shapeOf(call.args)]);
}

/** Number of bytes of the arguments, and a hash of them. */
function shapeOf(args: Uint8Array): string {
  return `${createHash('sha1').update(args).digest('hex').slice(0, HASH_CHARS)}/${args.length}`;
}

const HASH_CHARS = 16;
const RECORDS_MAX = 1_000;
/** How long a loss is remembered after the refusals because of it have ended. */
const MEMORY_MS = 60_000;
const REFUSE_FIRST_MS = 10_000;
const REFUSE_MAX_MS = 600_000;

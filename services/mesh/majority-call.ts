// A call that goes to several chassis at once. The answer that enough of them give alike is the answer to the caller,
// as soon as it is certain; the other copies are cancelled. Answers are compared by the types of the interface
// (core/idl/compare-replies.ts). A declared exception is an answer too. An error and an undeclared exception are none.
//
// A copy that fails is replaced by one at another chassis, unless it may have cost its chassis the life. So are those
// that keep the others waiting when answers differ, because they may hang. At most as many answers count as the rule
// names copies. The bytes of answers that wait are limited for all calls of the process together.

import { callerGone } from '../../core/link/mod.ts';
import { compareReplies, majorityText, type ReplyComparison } from '../../core/idl/mod.ts';
import { clipText, KatamariError } from '../../core/mod.ts';
import type { Call, Reply } from '../../core/rpc/mod.ts';
import { readApplicationException, type Majority, type Method } from '../../core/thrift/mod.ts';
import { SentCopy, type CopyOwner, type CopyTools, type RouterCall } from './call-copy.ts';
import type { Offer } from './offer.ts';

/** How a call to several copies ended. */
export type MajorityResult = 'agreed' | 'disagreed' | 'undecided' | 'too_few';

export interface MajorityOptions {
  readonly tools: CopyTools;
  readonly routed: RouterCall;
  /** The offers of the version that the call gets. */
  readonly offers: readonly Offer[];
  /** An offer of each version that may get a copy, that of the call first; empty unless copies are of versions. */
  readonly versions: readonly Offer[];
  readonly majority: Majority;
  /** Unique text for the copies. */
  readonly group: string;
  /** Bytes of the answers that wait, of all calls of the process. */
  readonly held: { bytes: number };
  /** @param difference the first one, if answers differ */
  readonly onEnd: (result: MajorityResult, difference: string) => void;
}

/** Equal answers: the first of them, and their number. */
interface Vote {
  readonly copy: SentCopy;
  readonly reply: Reply;
  count: number;
}

export class MajorityCall implements CopyOwner {
  readonly #options: MajorityOptions;
  readonly #call: Call;
  readonly #holders = new Set<RouterCall>();
  readonly #copies: SentCopy[] = [];
  readonly #votes: Vote[] = [];
  /** Codes of errors, and undeclared exceptions. */
  readonly #losses: string[] = [];
  #lastError: KatamariError | undefined;
  /** Copies that are up, or versions; those that get the call; and answers that must be alike. */
  readonly #up: number;
  readonly #wanted: number;
  readonly #alike: number;
  #heldBytes = 0;
  #isSettled = false;
  /** Whether copies were sent in place of those that keep others waiting. */
  #hasReplaced = false;
  /** Whether the call may have cost a chassis its life. It would cost the next one too. */
  #isSuspect = false;

  constructor(options: MajorityOptions) {
    const { majority, offers, versions, routed } = options;
    this.#options = options;
    this.#call = routed.next;
    this.#up = majority.ofVersions
      ? versions.length
      : offers.reduce((sum, { isReachable, alive }) => sum + (isReachable ? alive : 0), 0);
    this.#wanted = Math.min(majority.copies, this.#up);
    this.#alike = Math.min(majority.alike, this.#wanted);
  }

  start(): void {
    const { majority, onEnd, routed } = this.#options;
    if (this.#wanted === 0 || (this.#wanted < majority.copies && !majority.orFewer)) {
      onEnd('too_few', '');
      routed.end(this.#tooFewError());
      return;
    }
    this.#call.signal?.addEventListener('abort', this);
    this.#send(this.#wanted);
  }

  answered(copy: SentCopy, reply: Reply): void {
    if (this.#isSettled) return;
    if (reply.isException) {
      this.#lost(`undeclared exception ${clipText(messageOf(reply), TEXT_CHARS)}`);
      return;
    }
    const vote =
      this.#votes.find((one) => compare(one, { copy, reply }).kind === 'equal') ?? this.#newVote(copy, reply);
    if (vote === undefined) return;
    vote.count++;
    if (vote.count >= this.#alike) this.#win(vote);
    else this.#decide(0);
  }

  failed(copy: SentCopy, error: KatamariError): void {
    if (this.#isSettled) return;
    this.#lastError = error;
    if (error.facts.isSuspect === true || error.code === 'refused_as_poison') this.#isSuspect = true;
    // No chassis has it.
    if (error.facts.notRun === true) this.#holders.delete(copy.sent);
    this.#lost(error.code);
  }

  /** EventListenerObject: the caller has gone. */
  handleEvent(): void {
    if (this.#settle()) this.#options.routed.end(callerGone());
  }

  #send(count: number): void {
    const { tools, offers, versions, majority, group } = this.#options;
    for (let n = 0; n < count && !this.#isSettled; n++) {
      const offer = (majority.ofVersions ? versions[this.#copies.length] : offers[0]) as Offer;
      const copy = new SentCopy(this, tools, this.#call, offer, group, this.#holders);
      this.#copies.push(copy);
      tools.send(copy.sent);
    }
  }

  /** The first answer of its kind; undefined if there is no memory for it, which ends the call. */
  #newVote(copy: SentCopy, reply: Reply): Vote | undefined {
    const { held } = this.#options;
    const bytes = reply.body.length;
    if (held.bytes + bytes > HELD_BYTES_MAX) {
      const why = `Cannot compare the answers to ${this.#call.method}: the answers that wait for others would have ${held.bytes + bytes} bytes, limit is ${HELD_BYTES_MAX}; send fewer calls at a time, or ask for less`;
      if (this.#settle()) this.#options.routed.end(new KatamariError('overloaded', why));
      return undefined;
    }
    held.bytes += bytes;
    this.#heldBytes += bytes;
    // It is part of a buffer that holds other messages too.
    const vote = { copy, reply: { ...reply, body: Buffer.from(reply.body) }, count: 0 };
    this.#votes.push(vote);
    return vote;
  }

  #lost(why: string): void {
    this.#losses.push(why);
    this.#decide(1);
  }

  /** Ends the call if no majority is possible any more. @param replaced copies that have just failed */
  #decide(replaced: number): void {
    const pending = this.#copies.filter(({ isPending }) => isPending).length;
    const mayReplace = !this.#isSuspect && this.#options.tools.clock.nowMs() < this.#call.deadlineMs;
    const spares = mayReplace ? Math.min(this.#up, this.#wanted * 2) - this.#copies.length : 0;
    const counted = this.#votes.reduce((sum, { count }) => sum + count, 0);
    const most = Math.max(0, ...this.#votes.map(({ count }) => count));
    if (most + Math.min(this.#wanted - counted, pending + spares) < this.#alike) {
      this.#fail();
      return;
    }
    let more = replaced;
    if (this.#votes.length > 1 && !this.#hasReplaced) {
      this.#hasReplaced = true;
      more = pending;
    }
    this.#send(Math.min(more, spares));
  }

  #win(vote: Vote): void {
    const { routed, onEnd } = this.#options;
    if (!this.#settle()) return;
    const other = this.#votes.find((one) => one !== vote);
    onEnd(other === undefined ? 'agreed' : 'disagreed', other === undefined ? '' : this.#difference(vote, other));
    const { offer, method, next } = vote.copy.sent;
    routed.offer = offer;
    routed.method = method;
    routed.next = next;
    routed.reply(vote.reply);
  }

  #fail(): void {
    const { routed, onEnd } = this.#options;
    if (!this.#settle()) return;
    const [first, second] = this.#votes;
    onEnd('undecided', first === undefined || second === undefined ? '' : this.#difference(first, second));
    const isWithoutAnswer = first === undefined && this.#losses.every((why) => why === this.#lastError?.code);
    routed.end(isWithoutAnswer ? (this.#lastError as KatamariError) : this.#undecidedError());
  }

  #settle(): boolean {
    if (this.#isSettled) return false;
    this.#isSettled = true;
    this.#options.held.bytes -= this.#heldBytes;
    this.#call.signal?.removeEventListener('abort', this);
    for (const copy of this.#copies) copy.cancel();
    return true;
  }

  /** `Score@1.0.0/2 of manager north: hits[1].score is 2, not 1` */
  #difference(vote: Vote, other: Vote): string {
    const found = compare(vote, other);
    const [first] = found.kind === 'different' ? found.differences : [];
    const what =
      first === undefined
        ? `the answers cannot be compared: ${found.kind === 'skipped' ? found.why : 'they are equal'}`
        : `${first.at} is ${first.other || 'missing'}, not ${first.one || 'missing'}`;
    const { offer } = other.copy.sent;
    const name = other.reply.context.resource || `a copy of ${offer?.details.service}@${offer?.details.version}`;
    return `${name} of manager ${offer?.manager}: ${what}`;
  }

  #undecidedError(): KatamariError {
    const [first] = this.#votes;
    const texts = this.#votes.map((vote) => {
      const found = first === vote ? this.#votes[1] && compare(vote, this.#votes[1]) : compare(first as Vote, vote);
      const text = found?.kind === 'different' ? (first === vote ? found.one : found.other) : 'an answer';
      return `${vote.count} x ${clipText(text, TEXT_CHARS)}`;
    });
    const losses = [...new Set(this.#losses)].map(
      (why) => `${this.#losses.filter((one) => one === why).length} x ${why}`,
    );
    const why = `No ${this.#alike} copies of ${this.#name} gave the same answer to ${this.#call.method}: ${[...texts, ...losses].join(', ')}`;
    return new KatamariError('resource_failed', why);
  }

  #tooFewError(): KatamariError {
    const { majority } = this.#options;
    const what = majority.ofVersions ? 'versions' : 'copies';
    const why = `${this.#call.method} of ${this.#name} needs ${majorityText(majority)}, and ${this.#up} ${what} can be reached; start more ${what}, or allow "or fewer"`;
    return new KatamariError('overloaded', why, { notRun: true, retryAfterMs: RETRY_AFTER_MS });
  }

  /** `Score`, or `Score@1.0.0` if all copies are of one version. */
  get #name(): string {
    const { offers, majority } = this.#options;
    const { service = this.#call.service, version = '' } = offers[0]?.details ?? {};
    return majority.ofVersions ? service : `${service}@${version}`;
  }
}

function compare(one: Pick<Vote, 'copy' | 'reply'>, other: Pick<Vote, 'copy' | 'reply'>): ReplyComparison {
  const read = ({ copy, reply: { isException, body } }: Pick<Vote, 'copy' | 'reply'>) => ({
    method: copy.sent.method as Method,
    isException,
    body,
  });
  return compareReplies(read(one), read(other));
}

function messageOf({ body }: Reply): string {
  try {
    return JSON.stringify(readApplicationException(body).message);
  } catch {
    return 'that cannot be read';
  }
}

/** Bytes of answers that wait for others, of all calls of a process. */
const HELD_BYTES_MAX: number = 64 * 1024 * 1024;
const TEXT_CHARS = 60;
const RETRY_AFTER_MS = 500;

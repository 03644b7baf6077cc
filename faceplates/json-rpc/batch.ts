// One batch: begins its calls, and writes their responses in the order of the requests, as they come.
//
// A short array of responses is one text. A long one is streamed: its head is written when the first parts are
// ready, and the rest follows as the calls end. What waits in memory is bounded: at first only as many calls run at a
// time as answers of the largest size fit into memory. Each small answer lets one more run, and a further call begins
// only while its answer probably fits (`#mayBegin`). So a client that does not read stops its own batch. While the
// process is full, calls wait for room until their deadline.

import type { FaceplateLimits, SliceQueue } from '../../core/mod.ts';
import { PartedBody } from '../../core/http/mod.ts';
import {
  printInSlices,
  refusedAnswer,
  responseTo,
  SMALL_BYTES,
  wholeText,
  type AnswerMember,
  type AnswerReader,
  type PrintedAnswer,
} from './answer.ts';

/** A response to one request of the batch; undefined for a notification. */
export type BatchResponse = { readonly id: string; readonly answer: AnswerMember } | undefined;

export type BatchLimits = Pick<FaceplateLimits, 'batchMax' | 'frameBytesMax' | 'connectionBytesMax' | 'callerBytesMax'>;

export interface BatchOptions {
  readonly count: number;
  /** Answers the request of this index. Calls `done` once, perhaps before it returns. */
  readonly begin: (index: number, done: (response: BatchResponse) => void) => void;
  /** Called once, with the whole text ('' without responses) or a body that still grows. */
  readonly end: (body: string | PartedBody) => void;
  readonly reader: AnswerReader & { readonly largestBytes: number };
  readonly slices: SliceQueue;
  readonly limits: BatchLimits;
  /** Calls back when the time of the requests is over. Returns how to cancel that. */
  readonly whenOver: (onOver: () => void) => () => void;
}

export class Batch {
  readonly #options: BatchOptions;
  /** Responses that are ready and not written; '' for a notification. Their bytes are booked. */
  readonly #ready = new Map<number, string | PrintedAnswer>();
  /** Index of the next request to begin, and of the next response to write. */
  #next = 0;
  #written = 0;
  /** Calls that have begun and whose response is not ready. */
  #inFlight = 0;
  /** How many may be in flight. */
  #window: number;
  #isPumping = false;
  #isOver = false;
  #text = '';
  #hasResponse = false;
  #body: PartedBody | undefined;

  /** Cancels the timer that runs while all calls wait for room; undefined while it does not run. */
  #stopWaiting: (() => void) | undefined;
  #isLate = false;

  constructor(options: BatchOptions) {
    this.#options = options;
    const { frameBytesMax, callerBytesMax } = options.limits;
    // An answer is there twice while it is printed: in binary and as text.
    const fit = Math.floor(callerBytesMax / (2 * frameBytesMax));
    this.#window = Math.max(WINDOW_MIN, Math.min(WINDOW_MAX, fit));
  }

  /** Begins as many calls as may run, and writes what is ready. */
  readonly pump = (): void => {
    if (this.#isPumping || this.#isOver) return;
    this.#isPumping = true;
    const { count, begin, reader } = this.#options;
    while (this.#next < count && !reader.signal.aborted && this.#mayBegin()) {
      const index = this.#next++;
      this.#inFlight++;
      // Room for the answer is booked now, so that other batches do not take it.
      const expectedBytes = this.#expectedBytes;
      reader.account.add(expectedBytes);
      begin(index, (response) => {
        reader.account.add(-expectedBytes);
        this.#onResponse(index, response);
      });
    }
    this.#isPumping = false;
    if (reader.signal.aborted) this.#stop();
    else {
      this.#write();
      if (this.#next < count && this.#holdsNothing) this.#waitForRoom();
    }
  };

  /** Whether no event of this batch will let it go on. */
  get #holdsNothing(): boolean {
    return this.#inFlight === 0 && this.#ready.size === 0 && (this.#body?.waitingBytes ?? 0) === 0;
  }

  #mayBegin(): boolean {
    const { reader, limits } = this.#options;
    // A call whose time is over fails at once.
    if (this.#isLate) return true;
    const { account } = reader;
    const expectedBytes = this.#expectedBytes;
    if (this.#inFlight >= this.#window || account.isFull || account.exceeds(expectedBytes)) return false;
    return this.#holdsNothing || account.bytes + expectedBytes <= limits.connectionBytesMax / 2;
  }

  /** An answer is there twice while it is printed: in binary and as text. */
  get #expectedBytes(): number {
    return 2 * this.#options.reader.largestBytes;
  }

  #waitForRoom(): void {
    if (this.#stopWaiting !== undefined) return;
    const { reader, whenOver } = this.#options;
    const goOn = (): void => {
      this.#stopWaiting?.();
      this.#stopWaiting = undefined;
      this.pump();
    };
    this.#stopWaiting = whenOver(() => {
      this.#isLate = true;
      goOn();
    });
    reader.account.whenRoom(goOn);
  }

  #onResponse(index: number, response: BatchResponse): void {
    if (response === undefined) {
      this.#onReady(index, '');
      return;
    }
    const answer = responseTo(response.id, response.answer);
    const { value } = answer;
    if (value === undefined) {
      const text = wholeText(answer);
      if (this.#options.reader.largestBytes <= SMALL_BYTES) this.#window++;
      this.#onReady(index, text);
      return;
    }
    const { reader, slices } = this.#options;
    printInSlices(slices, { ...answer, value }, reader, (printed) => {
      if ('parts' in printed) this.#onReady(index, printed);
      else this.#onReady(index, wholeText(responseTo(response.id, refusedAnswer(printed))));
    });
  }

  #onReady(index: number, response: string | PrintedAnswer): void {
    this.#inFlight--;
    this.#ready.set(index, response);
    if (typeof response === 'string') this.#options.reader.account.add(response.length);
    if (this.#isOver) this.#giveBack();
    else this.pump();
  }

  /** Writes the responses that are ready, up to the first that is not. */
  #write(): void {
    const { count, end, reader } = this.#options;
    for (;;) {
      const response = this.#ready.get(this.#written);
      if (response === undefined) break;
      this.#ready.delete(this.#written++);
      if (typeof response === 'string') {
        reader.account.add(-response.length);
        if (response !== '') this.#text += this.#separator() + response;
      } else {
        this.#text += this.#separator();
        reader.account.add(-response.bytes);
        this.#stream(response.parts);
      }
    }
    if (this.#written === count) {
      this.#isOver = true;
      if (this.#hasResponse) this.#text += ']';
      if (this.#body === undefined) end(this.#text);
      else {
        this.#stream([]);
        this.#body.end();
      }
    } else if (this.#body !== undefined || this.#text.length > STREAMED_FROM) this.#stream([]);
  }

  #separator(): string {
    const separator = this.#hasResponse ? ',' : '[';
    this.#hasResponse = true;
    return separator;
  }

  /** Adds the text so far and these parts to the body. */
  #stream(parts: readonly Buffer[]): void {
    const isNew = this.#body === undefined;
    const body = (this.#body ??= new PartedBody(this.#options.reader.account));
    if (this.#text !== '') body.add(Buffer.from(this.#text));
    this.#text = '';
    for (const part of parts) body.add(part);
    if (!isNew) return;
    // Not at once: the connection may take all of it now, and `pump` is running.
    body.onTaken = () => queueMicrotask(this.pump);
    this.#options.end(body);
  }

  /** The client has gone: nothing more is begun or written. */
  #stop(): void {
    this.#isOver = true;
    this.#stopWaiting?.();
    this.#giveBack();
    if (this.#body === undefined) this.#options.end('');
  }

  #giveBack(): void {
    const { account } = this.#options.reader;
    for (const response of this.#ready.values()) {
      account.add(typeof response === 'string' ? -response.length : -response.bytes);
    }
    this.#ready.clear();
  }
}

/** Calls that run at a time before the size of their answers is known. */
const WINDOW_MIN = 2;
const WINDOW_MAX = 16;
/** A longer array of responses is streamed. */
const STREAMED_FROM = 65_536;

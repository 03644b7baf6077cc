// One connection to a chassis under test, as its manager would hold it, but suspicious: every answer is taken apart, kept in the order of
import {
  type WireReplyContext,
  hasContext,
  readReplyContext,
  FrameReader,
  cancelMessage,
  LINK_CALLS,
} from '../../../core/link/mod.ts';
import {
  readApplicationException,
  frameMessage,
  MESSAGE_TYPE,
  NOTHING,
  readHead,
  type MessageHead,
  type MessageType,
  StructScanner,
  WIRE_TYPE,
} from '../../../core/thrift/mod.ts';
import { describeDuration } from '../../config/mod.ts';

// arrival, and what nobody asked for is noted. Waits for each answer so long and no longer, and says what came instead.
// Malformed traffic goes out by `write`, byte by byte as the check made it.

import type { Socket } from 'node:net';

/** A call to be sent. */
export interface SentCall {
  /** As written in the head: `echo`, `katamari.Chassis:ping`. */
  readonly name: string;
  /** Argument struct with its stop byte; an empty one unless told. */
  readonly args?: Uint8Array;
  /** Field 32767, to be placed first; none unless told. */
  readonly context?: Uint8Array;
  /** The next free one unless told. */
  readonly seqId?: number;
}

export interface TestAnswer {
  readonly seqId: number;
  readonly name: string;
  readonly isException: boolean;
  /** The struct without the context that stood first in it. */
  readonly body: Buffer;
  readonly context: WireReplyContext | undefined;
  /** What is wrong with its context; '' for nothing. */
  readonly contextFault: string;
}

/** No answer; `message` says what came instead, to follow "came". */
export class PeerClosed extends Error {
  /** The connection has ended, so the process may have, too. */
  readonly isClosed: boolean;

  constructor(came: string, isClosed: boolean) {
    super(came);
    this.isClosed = isClosed;
  }
}

interface ReplyWaiter {
  readonly resolve: (answer: TestAnswer) => void;
  readonly reject: (lost: PeerClosed) => void;
  readonly timer: NodeJS.Timeout;
}

export class TestLink {
  readonly #socket: Socket;
  readonly #timeoutMs: number;
  readonly #reader: FrameReader = new FrameReader(ANSWER_BYTES_MAX, (frame) => this.#onFrame(frame));
  readonly #waiting = new Map<number, ReplyWaiter>();
  readonly #sent = new Set<number>();
  #lastSeqId = 0;
  #end: PeerClosed | undefined;
  #isDraining = false;
  /** Sequence ids of the answers, in the order in which they came. */
  readonly arrivals: number[] = [];
  /** Answers that nobody waited for. */
  readonly strays: TestAnswer[] = [];
  /** Resolves when the connection has ended, from whichever side. */
  readonly closed: Promise<void>;

  /** @param socket connected already */
  constructor(socket: Socket, timeoutMs: number) {
    this.#socket = socket;
    this.#timeoutMs = timeoutMs;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => {
      try {
        this.#reader.push(chunk);
      } catch (error) {
        const begins = JSON.stringify(chunk.toString('latin1', 0, SHOWN_BYTES));
        this.#over(`an answer that cannot be read (it came with ${begins}): ${(error as Error).message}`, false);
      }
    });
    socket.on('error', () => this.#over(CLOSED, true));
    socket.on('end', () => this.#over(CLOSED, true));
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.#over(CLOSED, true);
        resolve();
      });
    });
    if (socket.destroyed) queueMicrotask(() => this.#over(CLOSED, true));
  }

  /** Sends a call; its answer. Rejects with Lost. */
  call(sent: SentCall): Promise<TestAnswer> {
    const seqId = sent.seqId ?? this.#nextSeqId();
    const answered = this.#expect(seqId);
    this.write(frameOf(MESSAGE_TYPE.call, { ...sent, seqId }));
    return answered;
  }

  /** Several calls in one write; their answers, in the order of the calls. */
  callAll(calls: readonly SentCall[]): Promise<TestAnswer>[] {
    const numbered = calls.map((sent) => ({ ...sent, seqId: sent.seqId ?? this.#nextSeqId() }));
    const answers = numbered.map(({ seqId }) => this.#expect(seqId));
    // Awaited one after the other: until then nobody may miss that one was lost.
    for (const answer of answers) answer.catch(() => undefined);
    this.write(Buffer.concat(numbered.map((sent) => frameOf(MESSAGE_TYPE.call, sent))));
    return answers;
  }

  /** Sends a message that its sender wants no answer to. */
  tell(sent: SentCall): void {
    const seqId = sent.seqId ?? this.#nextSeqId();
    this.#sent.add(seqId);
    this.write(frameOf(MESSAGE_TYPE.oneway, { ...sent, seqId }));
  }

  /** Sends a call and at once takes it back. */
  takeBack(sent: SentCall): void {
    const seqId = sent.seqId ?? this.#nextSeqId();
    this.#sent.add(seqId);
    this.write(Buffer.concat([frameOf(MESSAGE_TYPE.call, { ...sent, seqId }), cancelMessage(seqId)]));
  }

  /** Sends bytes that hold a call of that number, in as many pieces; its answer. */
  async callInPieces(seqId: number, pieces: readonly Uint8Array[]): Promise<TestAnswer> {
    const answered = this.#expect(seqId);
    answered.catch(() => undefined);
    for (const piece of pieces) {
      this.write(piece);
      await new Promise((resolve) => setTimeout(resolve, PIECE_MS));
    }
    return answered;
  }

  write(bytes: Uint8Array): void {
    if (!this.#socket.destroyed) this.#socket.write(bytes);
  }

  /** Ends the connection now. */
  close(): void {
    this.#over('the connection was closed by katamari conform', false);
  }

  #nextSeqId(): number {
    do this.#lastSeqId++;
    while (this.#sent.has(this.#lastSeqId));
    return this.#lastSeqId;
  }

  #expect(seqId: number): Promise<TestAnswer> {
    this.#sent.add(seqId);
    return new Promise((resolve, reject) => {
      if (this.#end !== undefined) {
        reject(this.#end);
        return;
      }
      const onLate = (): void => {
        this.#waiting.delete(seqId);
        reject(new PeerClosed(`no answer within ${describeDuration(this.#timeoutMs)}`, false));
      };
      this.#waiting.set(seqId, { resolve, reject, timer: setTimeout(onLate, this.#timeoutMs) });
    });
  }

  #onFrame(frame: Buffer): void {
    const head = readHead(frame, 0, frame.length);
    if (head === undefined)
      throw new Error(`a frame of ${frame.length} bytes that ends inside the head of its message`);
    // The word of a chassis that drains; whoever knows no such word passes over it.
    if (head.type === MESSAGE_TYPE.oneway && head.seqId === 0 && head.name === LINK_CALLS.drain) {
      this.#isDraining = true;
      this.#leaveWhenDrained();
      return;
    }
    const answer = readAnswer(frame, head);
    this.arrivals.push(head.seqId);
    const waiter = this.#waiting.get(head.seqId);
    if (waiter !== undefined) {
      this.#waiting.delete(head.seqId);
      clearTimeout(waiter.timer);
      waiter.resolve(answer);
      this.#leaveWhenDrained();
      return;
    }
    this.strays.push(answer);
    // Nothing that is waited for will come under a number of its own making.
    if (!this.#sent.has(head.seqId))
      this.#failAll(
        new PeerClosed(`${describeAnswer(answer)} with sequence id ${head.seqId}, which was never sent`, false),
      );
  }

  /** A chassis that drains waits for its manager to close the connection. */
  #leaveWhenDrained(): void {
    if (this.#isDraining && this.#waiting.size === 0)
      this.#over('the connection was closed after the chassis had drained', true);
  }

  #over(came: string, isClosed: boolean): void {
    if (this.#end !== undefined) return;
    this.#end = new PeerClosed(came, isClosed);
    this.#socket.destroy();
    this.#failAll(this.#end);
  }

  #failAll(lost: PeerClosed): void {
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(lost);
    }
    this.#waiting.clear();
  }
}

/** A framed call. */
export function frameOf(type: MessageType, { name, args, context, seqId }: SentCall): Buffer {
  return frameMessage(type, name, seqId ?? 0, context ?? NOTHING, args ?? EMPTY);
}

/** What an answer is, for people. */
export function describeAnswer({ isException, body }: TestAnswer): string {
  if (!isException) return body.length === 1 ? 'an empty result' : 'a result';
  const { message, type } = readApplicationException(body);
  return `TApplicationException of type ${type}, "${message.length > 200 ? `${message.slice(0, 200)}...` : message}"`;
}

/** Numbers of the fields of a struct that was scanned. */
export function fieldIds(struct: Buffer): number[] {
  const scanner = new StructScanner(Number.POSITIVE_INFINITY, struct.length);
  const ids: number[] = [];
  for (let at = 0; struct[at] !== WIRE_TYPE.stop;) {
    ids.push(struct.readInt16BE(at + 1));
    scanner.reset(struct[at]);
    at = scanner.scan(struct, at + 3, struct.length);
  }
  return ids;
}

function readAnswer(frame: Buffer, { type, name, seqId, bodyStart }: MessageHead): TestAnswer {
  if (type !== MESSAGE_TYPE.reply && type !== MESSAGE_TYPE.exception)
    throw new Error(`message type ${type}, where a reply (2) or an exception (3) belongs`);
  const scanner = new StructScanner(NESTING_MAX, ANSWER_BYTES_MAX);
  if (scanner.scan(frame, bodyStart, frame.length) !== frame.length)
    throw new Error(`the body of its message to ${name} is not one whole struct`);
  const isException = type === MESSAGE_TYPE.exception;
  let [body, context, contextFault]: [Buffer, WireReplyContext | undefined, string] = [
    frame.subarray(bodyStart),
    undefined,
    '',
  ];
  if (hasContext(frame, bodyStart)) {
    try {
      const found = readReplyContext(frame, bodyStart);
      [context, body] = [found.context, frame.subarray(found.end)];
    } catch (error) {
      contextFault = (error as Error).message;
    }
  }
  if (contextFault === '' && fieldIds(body).includes(CONTEXT_FIELD))
    contextFault = 'field 32767 stands behind other fields, where the mesh does not look for it';
  return { seqId, name, isException, body, context, contextFault };
}

const CLOSED = 'the connection was closed';
const EMPTY: Uint8Array = Uint8Array.of(0);
const CONTEXT_FIELD = 32_767;
/** Of an answer that is none. */
const SHOWN_BYTES = 24;
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;
const NESTING_MAX = 64;
/** Between the pieces of a call that comes in pieces: long enough to be read one by one. */
const PIECE_MS = 20;

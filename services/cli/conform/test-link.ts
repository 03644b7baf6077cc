// One connection to the chassis under test, like that of its resource manager, but strict: it validates every reply,
// records the order of arrival and keeps replies that match no pending call. Each call has a timeout; the error says
// what happened instead of a reply. Checks send malformed traffic with `write`, byte by byte.

import { describeDuration } from '../../../core/mod.ts';
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

import type { Socket } from 'node:net';

/** A call to send. */
export interface SentCall {
  /** Name in the message head: `echo`, `katamari.Chassis:ping`. */
  readonly name: string;
  /** Argument struct with its stop byte; empty by default. */
  readonly args?: Uint8Array;
  /** Field 32767, written first; none by default. */
  readonly context?: Uint8Array;
  /** Sequence id; the next free one by default. */
  readonly seqId?: number;
}

export interface TestReply {
  readonly seqId: number;
  readonly name: string;
  readonly isException: boolean;
  /** The struct without its leading ReplyContext. */
  readonly body: Buffer;
  readonly context: WireReplyContext | undefined;
  /** What is wrong with its ReplyContext; '' if nothing. */
  readonly contextError: string;
}

/** A call got no reply; `message` says what happened instead. */
export class PeerClosed extends Error {
  /** Whether the connection closed; the process may have exited, too. */
  readonly isClosed: boolean;

  constructor(came: string, isClosed: boolean) {
    super(came);
    this.isClosed = isClosed;
  }
}

interface ReplyWaiter {
  readonly resolve: (reply: TestReply) => void;
  readonly reject: (closed: PeerClosed) => void;
  readonly timer: NodeJS.Timeout;
}

export class TestLink {
  readonly #socket: Socket;
  readonly #timeoutMs: number;
  readonly #reader: FrameReader = new FrameReader(REPLY_BYTES_MAX, (frame) => this.#onFrame(frame));
  readonly #waiting = new Map<number, ReplyWaiter>();
  readonly #sent = new Set<number>();
  #lastSeqId = 0;
  #end: PeerClosed | undefined;
  #isDraining = false;
  /** Sequence ids of the replies in order of arrival. */
  readonly replyOrder: number[] = [];
  /** Replies that match no pending call. */
  readonly unexpected: TestReply[] = [];
  /** Resolves when either side has closed the connection. */
  readonly closed: Promise<void>;

  /** @param socket a connected socket */
  constructor(socket: Socket, timeoutMs: number) {
    this.#socket = socket;
    this.#timeoutMs = timeoutMs;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => {
      try {
        this.#reader.push(chunk);
      } catch (error) {
        const begins = JSON.stringify(chunk.toString('latin1', 0, SHOWN_BYTES));
        this.#over(`a reply that cannot be read (it begins with ${begins}): ${(error as Error).message}`, false);
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

  /** Sends a call and returns the reply. Rejects with PeerClosed. */
  call(sent: SentCall): Promise<TestReply> {
    const seqId = sent.seqId ?? this.#nextSeqId();
    const replied = this.#expect(seqId);
    this.write(frameOf(MESSAGE_TYPE.call, { ...sent, seqId }));
    return replied;
  }

  /** Sends several calls in one write and returns their replies in the order of the calls. */
  callAll(calls: readonly SentCall[]): Promise<TestReply>[] {
    const numbered = calls.map((sent) => ({ ...sent, seqId: sent.seqId ?? this.#nextSeqId() }));
    const replies = numbered.map(({ seqId }) => this.#expect(seqId));
    // The caller awaits them one by one. Until then a rejection must not count as unhandled.
    for (const reply of replies) reply.catch(() => undefined);
    this.write(Buffer.concat(numbered.map((sent) => frameOf(MESSAGE_TYPE.call, sent))));
    return replies;
  }

  /** Sends a message of type oneway, which gets no reply. */
  sendOneway(sent: SentCall): void {
    const seqId = sent.seqId ?? this.#nextSeqId();
    this.#sent.add(seqId);
    this.write(frameOf(MESSAGE_TYPE.oneway, { ...sent, seqId }));
  }

  /** Sends a call and its cancel message in one write. */
  callAndCancel(sent: SentCall): void {
    const seqId = sent.seqId ?? this.#nextSeqId();
    this.#sent.add(seqId);
    this.write(Buffer.concat([frameOf(MESSAGE_TYPE.call, { ...sent, seqId }), cancelMessage(seqId)]));
  }

  /** Sends a call with this sequence id in several writes and returns the reply. */
  async callInPieces(seqId: number, pieces: readonly Uint8Array[]): Promise<TestReply> {
    const replied = this.#expect(seqId);
    replied.catch(() => undefined);
    for (const piece of pieces) {
      this.write(piece);
      await new Promise((resolve) => setTimeout(resolve, PIECE_MS));
    }
    return replied;
  }

  write(bytes: Uint8Array): void {
    if (!this.#socket.destroyed) this.#socket.write(bytes);
  }

  /** Closes the connection at once. */
  close(): void {
    this.#over('katamari conform closed the connection', false);
  }

  #nextSeqId(): number {
    do this.#lastSeqId++;
    while (this.#sent.has(this.#lastSeqId));
    return this.#lastSeqId;
  }

  #expect(seqId: number): Promise<TestReply> {
    this.#sent.add(seqId);
    return new Promise((resolve, reject) => {
      if (this.#end !== undefined) {
        reject(this.#end);
        return;
      }
      const onLate = (): void => {
        this.#waiting.delete(seqId);
        reject(new PeerClosed(`no reply within ${describeDuration(this.#timeoutMs)}`, false));
      };
      this.#waiting.set(seqId, { resolve, reject, timer: setTimeout(onLate, this.#timeoutMs) });
    });
  }

  #onFrame(frame: Buffer): void {
    const head = readHead(frame, 0, frame.length);
    if (head === undefined)
      throw new Error(`a frame of ${frame.length} bytes that ends inside the head of its message`);
    // A draining chassis that knows this message sends it before it exits.
    if (head.type === MESSAGE_TYPE.oneway && head.seqId === 0 && head.name === LINK_CALLS.drain) {
      this.#isDraining = true;
      this.#closeWhenDrained();
      return;
    }
    const reply = readTestReply(frame, head);
    this.replyOrder.push(head.seqId);
    const waiter = this.#waiting.get(head.seqId);
    if (waiter !== undefined) {
      this.#waiting.delete(head.seqId);
      clearTimeout(waiter.timer);
      waiter.resolve(reply);
      this.#closeWhenDrained();
      return;
    }
    this.unexpected.push(reply);
    // The chassis invents sequence ids, so no pending call would get its reply.
    if (!this.#sent.has(head.seqId))
      this.#failAll(
        new PeerClosed(`${describeTestReply(reply)} with sequence id ${head.seqId}, which was never sent`, false),
      );
  }

  /** A draining chassis waits until the resource manager closes the connection. */
  #closeWhenDrained(): void {
    if (this.#isDraining && this.#waiting.size === 0)
      this.#over('the connection was closed after the chassis drained', true);
  }

  #over(came: string, isClosed: boolean): void {
    if (this.#end !== undefined) return;
    this.#end = new PeerClosed(came, isClosed);
    this.#socket.destroy();
    this.#failAll(this.#end);
  }

  #failAll(closed: PeerClosed): void {
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(closed);
    }
    this.#waiting.clear();
  }
}

/** Returns a framed message. */
export function frameOf(type: MessageType, { name, args, context, seqId }: SentCall): Buffer {
  return frameMessage(type, name, seqId ?? 0, context ?? NOTHING, args ?? EMPTY);
}

/** Describes a reply for an error message. */
export function describeTestReply({ isException, body }: TestReply): string {
  if (!isException) return body.length === 1 ? 'an empty result' : 'a result';
  const { message, type } = readApplicationException(body);
  return `TApplicationException of type ${type}, "${message.length > 200 ? `${message.slice(0, 200)}...` : message}"`;
}

/** Returns the field ids of a struct that was already validated. */
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

function readTestReply(frame: Buffer, { type, name, seqId, bodyStart }: MessageHead): TestReply {
  if (type !== MESSAGE_TYPE.reply && type !== MESSAGE_TYPE.exception)
    throw new Error(`message type ${type}; expected a reply (2) or an exception (3)`);
  const scanner = new StructScanner(NESTING_MAX, REPLY_BYTES_MAX);
  if (scanner.scan(frame, bodyStart, frame.length) !== frame.length)
    throw new Error(`the body of its reply to ${name} is not one complete struct`);
  const isException = type === MESSAGE_TYPE.exception;
  let [body, context, contextError]: [Buffer, WireReplyContext | undefined, string] = [
    frame.subarray(bodyStart),
    undefined,
    '',
  ];
  if (hasContext(frame, bodyStart)) {
    try {
      const found = readReplyContext(frame, bodyStart);
      [context, body] = [found.context, frame.subarray(found.end)];
    } catch (error) {
      contextError = (error as Error).message;
    }
  }
  if (contextError === '' && fieldIds(body).includes(CONTEXT_FIELD))
    contextError = 'field 32767 is behind other fields, where the mesh does not look for it';
  return { seqId, name, isException, body, context, contextError };
}

const CLOSED = 'the connection was closed';
const EMPTY: Uint8Array = Uint8Array.of(0);
const CONTEXT_FIELD = 32_767;
/** Bytes of an unreadable reply in an error message. */
const SHOWN_BYTES = 24;
const REPLY_BYTES_MAX = 64 * 1024 * 1024;
const NESTING_MAX = 64;
/** Pause between the pieces of a call, long enough for separate reads. */
const PIECE_MS = 20;

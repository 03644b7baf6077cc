// What is asked of an encoding: a transport and a protocol together turn a stream of bytes into messages whose
// structs are strict binary, and strict binary into what the peer reads. The faceplate stands on one side of it
// (reads calls, writes answers), the link to a plain Thrift server on the other (writes calls, reads answers);
// neither knows anything else about how its peer writes.

import type { StructType, MessageType, HeadersIn } from '../mod.ts';

/** What a message said of itself before its struct. */
export interface MessageFacts {
  readonly type: MessageType;
  /** As written, with a multiplexed prefix if there was one. */
  readonly name: string;
  /** Signed 32 bit, as the peer wrote it. */
  readonly seqId: number;
}

/** One per connection: it may remember how far it has read an incomplete message. */
export interface Encoding {
  /** The head of the message found last, or of the one that was refused; undefined when not even that could be read. */
  readonly head: MessageFacts | undefined;
  /** The struct of the message found last: strict binary, checked. */
  readonly body: Uint8Array;
  /** What the transport said beside the message found last, by names in lower case; undefined when it said nothing. */
  readonly headers?: HeadersIn | undefined;
  /** Answers may carry headers too. */
  readonly carriesHeaders?: boolean;
  /** Answers may leave in any order, where the peer asks for it: sequence ids tell which call they are to. */
  readonly keepsNoOrder?: boolean;
  /** The peer waits for an answer even to a oneway call, with nothing in it. */
  readonly answersOneway?: boolean;
  /** The peer has said that the message found last is its last one. */
  readonly isLast?: boolean;
  /**
   * How long a message that was found incomplete says it is, in bytes from its beginning; 0 or absent where none says
   * so.
   */
  readonly declaredBytes?: number;
  /** What the peer waits for before it sends the rest of its message; once. */
  takeInterim?(): Uint8Array | undefined;
  /**
   * Takes the message that begins at `at`. When it is incomplete the caller calls again with the same beginning and a
   * later end (perhaps in another buffer).
   * @returns the offset behind the message, or -1 when it does not end before `end`.
   * @throws KatamariError bad_request or too_large; the stream cannot be read on then.
   */
  next(bytes: Buffer, at: number, end: number): number;
  /**
   * Adds a message to what goes out: one piece, or several when the body is long.
   * @param body a strict-binary struct; empty for the answer to a oneway call
   * @param schema what the struct is, for protocols whose writing does not say it all (JSON: text or bytes)
   * @param headers for transports that carry them
   */
  write(
    type: MessageType,
    name: string,
    seqId: number,
    body: Uint8Array,
    out: Uint8Array[],
    schema?: StructType,
    headers?: Readonly<Record<string, string>>,
  ): void;
}

/** What an encoding accepts. */
export interface EncodingLimits {
  /** Bytes of one message, as it comes and as strict binary. */
  readonly frameBytesMax: number;
  readonly nestingMax: number;
}

/** What the struct of a message is, where the mesh knows it. */
export type SchemaOf = (head: MessageFacts) => StructType | undefined;

/**
 * Bodies up to this size are copied behind their head: one write of one buffer. Longer ones are handed to the kernel
 * as they are.
 */
export const COPY_BYTES_MAX = 65_536;

// The interface of an encoding, which combines a transport and a protocol. It turns a byte stream into messages with
// strict-binary structs, and writes strict-binary structs in the format of the peer. The Thrift faceplate uses it to
// read calls and write replies, the link to a plain Thrift server to write calls and read replies. Neither knows
// anything else about its peer's wire format.

import type { KatamariError } from '../../mod.ts';
import type { StructType, MessageType, HeadersIn } from '../mod.ts';

/** The head of a message. */
export interface MessageFacts {
  readonly type: MessageType;
  /** Method name as sent, including the prefix of a multiplexed service. */
  readonly name: string;
  /** Signed 32-bit number that the peer chose. */
  readonly seqId: number;
}

/** The encoding of one connection. It may keep the state of an incomplete message. */
export interface Encoding {
  /** Head of the last message, or of a refused one; undefined if the head could not be read. */
  readonly head: MessageFacts | undefined;
  /** Struct of the last message: strict binary, validated. */
  readonly body: Uint8Array;
  /** Transport headers of the last message, by name in lower case; undefined if there were none. */
  readonly headers?: HeadersIn | undefined;
  /** Whether replies can carry headers. */
  readonly carriesHeaders?: boolean;
  /** Whether replies may be sent in any order if the peer requests it, because sequence ids match them to calls. */
  readonly keepsNoOrder?: boolean;
  /** Whether the peer expects an empty reply even to a oneway call. */
  readonly answersOneway?: boolean;
  /** Whether the peer announced that it sends no message after the last one. */
  readonly isLast?: boolean;
  /**
   * Declared length of an incomplete message, in bytes from its beginning; 0 or absent if it declares none.
   */
  readonly declaredBytes?: number;
  /** Returns the bytes for which the peer waits before it sends the rest of its message. Returns them once. */
  takeInterim?(): Uint8Array | undefined;
  /** The reply of the transport itself to the last message, which is no call; absent for a call. */
  readonly transportReply?: Uint8Array | undefined;
  /** The first byte of every message that it writes; absent if messages do not have the same one. */
  readonly replyStart?: number | undefined;
  /**
   * Returns the reply to a message that was refused before its transport had delivered it, in the form of the
   * transport; undefined if the reply is an exception like any other.
   */
  refusal?(error: KatamariError): Uint8Array | undefined;
  /**
   * Reads the message that begins at `at`. If it is incomplete, the caller calls again with the same beginning and a
   * later end, possibly in another buffer.
   * @returns the offset after the message, or -1 if it is incomplete.
   * @throws KatamariError bad_request or too_large. The stream cannot be read any further.
   */
  next(bytes: Buffer, at: number, end: number): number;
  /**
   * Appends a message to the output: one buffer, or several if the body is long.
   * @param body a strict-binary struct; empty for the reply to a oneway call
   * @param schema type of the struct, for protocols that need it (JSON: text or bytes)
   * @param headers headers, for transports that carry them
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

/** Limits of an encoding. */
export interface EncodingLimits {
  /** Bytes of one message, both as received and as strict binary. */
  readonly frameBytesMax: number;
  readonly nestingMax: number;
}

/** The type of a message's struct, if the mesh knows it. */
export type SchemaOf = (head: MessageFacts) => StructType | undefined;

/**
 * Bodies up to this size are copied after their head, so that one buffer is written. Longer ones are written without
 * a copy.
 */
export const COPY_BYTES_MAX = 65_536;

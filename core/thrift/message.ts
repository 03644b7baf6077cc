// The head of a strict-binary Thrift message: version and type, method name, sequence id. Source: the Thrift binary
// protocol specification. The hot path reads only the head; the argument bytes after it are passed on unchanged.

import { KatamariError } from '../mod.ts';
import { readCachedString, writeCachedString } from './string-cache.ts';

export const MESSAGE_TYPE = { call: 1, reply: 2, exception: 3, oneway: 4 } as const;
export type MessageType = (typeof MESSAGE_TYPE)[keyof typeof MESSAGE_TYPE];

export interface MessageHead {
  readonly type: MessageType;
  /** Method name as sent, including the prefix of a multiplexed service. */
  readonly name: string;
  /** Signed 32-bit number that the client chose. */
  readonly seqId: number;
  /** Offset of the first byte after the head. */
  readonly bodyStart: number;
}

/** Maximum bytes of a method name, including service and version. */
export const NAME_BYTES_MAX = 1024;

/**
 * Reads the head of the message that starts at `start`.
 * @returns undefined if the head is incomplete; only an unframed stream can then wait for more.
 * @throws KatamariError bad_request if this is not a strict-binary message.
 */
export function readHead(bytes: Buffer, start: number, end: number): MessageHead | undefined {
  if (end - start < 4) return undefined;
  const word = bytes.readInt32BE(start);
  if ((word & 0xffff0000) !== STRICT_VERSION_1) {
    throw new KatamariError(
      'bad_request',
      `Not a strict-binary Thrift message: it begins with 0x${(word >>> 0).toString(16).padStart(8, '0')}, expected 0x8001 and the message type`,
    );
  }
  const type = checkType(word & 0xff);
  if (end - start < 8) return undefined;
  const nameBytes = checkNameBytes(bytes.readInt32BE(start + 4));
  const nameEnd = start + 8 + nameBytes;
  if (end < nameEnd + 4) return undefined;
  return {
    type,
    name: readCachedString(bytes, start + 8, nameEnd),
    seqId: bytes.readInt32BE(nameEnd),
    bodyStart: nameEnd + 4,
  };
}

/**
 * Returns one framed message in one buffer: length, head, then the two parts, of which the second may be empty. Both
 * are copied, because a second buffer in writev costs more than copying up to about 100 KB.
 */
export function frameMessage(
  type: MessageType,
  name: string,
  seqId: number,
  first: Uint8Array,
  second: Uint8Array,
): Buffer {
  const nameBytes = Buffer.byteLength(name);
  const frame = Buffer.allocUnsafe(16 + nameBytes + first.length + second.length);
  const bodyAt = putFrameHead(frame, 0, type, name, nameBytes, seqId, first.length + second.length);
  frame.set(first, bodyAt);
  frame.set(second, bodyAt + first.length);
  return frame;
}

/**
 * Writes the length and head of a framed message into a buffer, which must have room for them.
 * @param nameBytes bytes of the name in UTF-8
 * @returns the offset after the head, where the body of `bodyBytes` goes
 */
export function putFrameHead(
  into: Buffer,
  at: number,
  type: MessageType,
  name: string,
  nameBytes: number,
  seqId: number,
  bodyBytes: number,
): number {
  into.writeInt32BE(12 + nameBytes + bodyBytes, at);
  into.writeInt32BE(STRICT_VERSION_1 | type, at + 4);
  into.writeInt32BE(nameBytes, at + 8);
  writeCachedString(into, at + 12, name);
  return into.writeInt32BE(seqId, at + 12 + nameBytes);
}

/**
 * Returns the length and head of a framed message. The body of `bodyBytes` is written separately, so that a long body
 * is not copied.
 */
export function messageHead(type: MessageType, name: string, seqId: number, bodyBytes: number): Buffer {
  const head = frameMessage(type, name, seqId, NOTHING, NOTHING);
  head.writeInt32BE(head.length - 4 + bodyBytes, 0);
  return head;
}

/** Returns one message without a length, for unframed replies. */
export function bareMessage(type: MessageType, name: string, seqId: number, body: Uint8Array): Buffer {
  return frameMessage(type, name, seqId, body, NOTHING).subarray(4);
}

/**
 * Reads the head of a message in the old, unversioned form of the binary protocol: name, type, sequence id.
 * @returns undefined if the head is incomplete.
 * @throws KatamariError bad_request if this is not such a message.
 */
export function readOldHead(bytes: Buffer, start: number, end: number): MessageHead | undefined {
  if (end - start < 4) return undefined;
  const nameBytes = checkNameBytes(bytes.readInt32BE(start));
  const nameEnd = start + 4 + nameBytes;
  if (end < nameEnd + 5) return undefined;
  return {
    type: checkType(bytes[nameEnd] as number),
    name: bytes.toString('utf8', start + 4, nameEnd),
    seqId: bytes.readInt32BE(nameEnd + 1),
    bodyStart: nameEnd + 5,
  };
}

/** Encodes the head of a message in the old form. */
export function oldHead(type: MessageType, name: string, seqId: number): Buffer {
  const nameBytes = Buffer.byteLength(name);
  const head = Buffer.allocUnsafe(9 + nameBytes);
  head.writeInt32BE(nameBytes, 0);
  head.write(name, 4, 'utf8');
  head[4 + nameBytes] = type;
  head.writeInt32BE(seqId, 5 + nameBytes);
  return head;
}

/** Returns a valid message type. @throws KatamariError bad_request */
export function checkType(type: number): MessageType {
  if (type >= 1 && type <= 4) return type as MessageType;
  throw new KatamariError('bad_request', `Message type is ${type}, expected 1 (call) to 4 (oneway)`);
}

/** Returns a valid length of a method name. @throws KatamariError bad_request */
export function checkNameBytes(nameBytes: number): number {
  if (nameBytes >= 0 && nameBytes <= NAME_BYTES_MAX) return nameBytes;
  throw new KatamariError('bad_request', `Method name is declared ${nameBytes} bytes long, limit is ${NAME_BYTES_MAX}`);
}

/** Splits the name of a message: `method`, `Service:method` or `Service@version:method`. Absent parts are ''. */
export function parseTarget(name: string): { service: string; version: string; method: string } {
  const colon = name.lastIndexOf(':');
  if (colon === -1) return { service: '', version: '', method: name };
  const before = name.slice(0, colon);
  const at = before.indexOf('@');
  return {
    service: at === -1 ? before : before.slice(0, at),
    version: at === -1 ? '' : before.slice(at + 1),
    method: name.slice(colon + 1),
  };
}

export const NOTHING: Uint8Array = new Uint8Array(0);

const STRICT_VERSION_1 = 0x80010000 | 0;

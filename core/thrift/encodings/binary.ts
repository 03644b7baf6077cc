// The binary protocol without frames: messages follow each other without lengths, so only scanning the struct finds
// the end of a message. The scan resumes where it stopped, so a peer that sends one byte at a time costs no more than
// one that sends everything at once. The strict and the old form differ only in the head; the struct is passed on
// unchanged.

import {
  bareMessage,
  messageHead,
  NOTHING,
  oldHead,
  readHead,
  readOldHead,
  type MessageType,
  StructScanner,
} from '../mod.ts';
import { COPY_BYTES_MAX, type Encoding, type EncodingLimits, type MessageFacts } from './encoding.ts';

export class BinaryEncoding implements Encoding {
  head: MessageFacts | undefined;
  body: Uint8Array = NOTHING;
  readonly replyStart: number;
  readonly #isOld: boolean;
  readonly #scanner: StructScanner;
  /** Bytes of the head of the current message; 0 if it was not read yet. */
  #headBytes = 0;

  /** @param form `old`: without a version, as sent by clients that disable strict writing */
  constructor(limits: EncodingLimits, form: 'strict' | 'old' = 'strict') {
    this.#isOld = form === 'old';
    this.replyStart = this.#isOld ? 0x00 : 0x80;
    this.#scanner = new StructScanner(limits.nestingMax, limits.frameBytesMax);
  }

  next(bytes: Buffer, at: number, end: number): number {
    if (this.#headBytes === 0) {
      this.head = undefined;
      const head = this.#isOld ? readOldHead(bytes, at, end) : readHead(bytes, at, end);
      if (head === undefined) return -1;
      this.head = head;
      this.#headBytes = head.bodyStart - at;
      this.#scanner.reset();
    }
    const start = at + this.#headBytes;
    const structEnd = this.#scanner.scan(bytes, start, end);
    if (structEnd === -1) return -1;
    this.#headBytes = 0;
    this.body = bytes.subarray(start, structEnd);
    return structEnd;
  }

  write(type: MessageType, name: string, seqId: number, body: Uint8Array, out: Uint8Array[]): void {
    if (this.#isOld) {
      out.push(oldHead(type, name, seqId), body);
    } else if (body.length <= COPY_BYTES_MAX) {
      out.push(bareMessage(type, name, seqId, body));
    } else {
      out.push(messageHead(type, name, seqId, body.length).subarray(4), body);
    }
  }
}

// The binary protocol one message behind the other, no lengths: where a message ends is known only by scanning its
// struct. The scan goes on where it stopped when more bytes come, so a peer that sends one byte at a time costs no
// more than one that sends all at once. The strict and the old form differ in the head alone; the struct behind it is
// passed on as it came.

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
  readonly #isOld: boolean;
  readonly #scanner: StructScanner;
  /** Bytes of the head of the message that is being scanned; 0 when its head is not read yet. */
  #headBytes = 0;

  /** @param form `old`: without a version, as clients write whose strict writing is switched off */
  constructor(limits: EncodingLimits, form: 'strict' | 'old' = 'strict') {
    this.#isOld = form === 'old';
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

// Strict binary in frames (a 4-byte length before each message): the format that the mesh itself uses, and the
// cheapest one. The head is read as soon as it has arrived, the rest when the frame is complete. The struct is passed
// on unchanged.

import { KatamariError } from '../../mod.ts';
import { frameMessage, messageHead, NOTHING, readHead, type MessageType, StructScanner } from '../mod.ts';
import { COPY_BYTES_MAX, type Encoding, type EncodingLimits, type MessageFacts } from './encoding.ts';
import { checkFrameLength } from './framed.ts';

export class FramedBinary implements Encoding {
  /** The length of a frame below 16 MiB begins with it. */
  readonly replyStart: number = 0;
  head: MessageFacts | undefined;
  body: Uint8Array = NOTHING;
  declaredBytes = 0;
  readonly #frameBytesMax: number;
  readonly #scanner: StructScanner;

  constructor(limits: EncodingLimits) {
    this.#frameBytesMax = limits.frameBytesMax;
    this.#scanner = new StructScanner(limits.nestingMax, limits.frameBytesMax);
  }

  next(bytes: Buffer, at: number, end: number): number {
    this.head = undefined;
    this.declaredBytes = 0;
    if (end - at < 4) return -1;
    const length = bytes.readInt32BE(at);
    const start = at + 4;
    const frameEnd = start + length;
    // If a frame is too large, its head is read if it has arrived, so that the error carries the client's sequence
    // id.
    const head = readHead(bytes, start, length >= 0 && frameEnd < end ? frameEnd : end);
    this.head = head;
    checkFrameLength(length, this.#frameBytesMax);
    this.declaredBytes = frameEnd - at;
    if (frameEnd > end) return -1;
    if (head === undefined) {
      throw new KatamariError('bad_request', `A frame of ${length} bytes ends inside the head of its message`);
    }
    this.#scanner.reset();
    const structEnd = this.#scanner.scan(bytes, head.bodyStart, frameEnd);
    if (structEnd === -1) throw new KatamariError('bad_request', 'The frame ends before its struct does');
    if (structEnd < frameEnd) {
      throw new KatamariError(
        'bad_request',
        `The frame has ${frameEnd - structEnd} bytes after its struct, expected none`,
      );
    }
    this.body = bytes.subarray(head.bodyStart, frameEnd);
    return frameEnd;
  }

  write(type: MessageType, name: string, seqId: number, body: Uint8Array, out: Uint8Array[]): void {
    if (body.length <= COPY_BYTES_MAX) {
      out.push(frameMessage(type, name, seqId, body, NOTHING));
      return;
    }
    out.push(messageHead(type, name, seqId, body.length), body);
  }
}

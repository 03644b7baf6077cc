// Thrift's JSON protocol without frames. FramedEncoding adds frames. A message is read when it is complete.

import { KatamariError } from '../../mod.ts';
import { type StructType, NOTHING, type MessageType } from '../mod.ts';
import type { Encoding, EncodingLimits, MessageFacts, SchemaOf } from './encoding.ts';
import { isSpace, JsonEnd, JsonReader } from './json-reader.ts';
import { jsonOfStruct } from './json-writer.ts';

export class JsonEncoding implements Encoding {
  readonly replyStart: number = 0x5b; // [
  head: MessageFacts | undefined;
  body: Uint8Array = NOTHING;
  readonly #limits: EncodingLimits;
  readonly #schemaOf: SchemaOf;
  readonly #end = new JsonEnd();

  constructor(limits: EncodingLimits, schemaOf: SchemaOf = () => undefined) {
    this.#limits = limits;
    this.#schemaOf = schemaOf;
  }

  next(bytes: Buffer, at: number, end: number): number {
    this.head = undefined;
    let messageEnd = this.#end.find(bytes, at, end);
    if (messageEnd === -1) {
      if (end - at <= this.#limits.frameBytesMax) return -1;
      throw new KatamariError(
        'too_large',
        `The message has more than ${end - at - 1} bytes, limit is ${this.#limits.frameBytesMax}; send it in smaller pieces`,
      );
    }
    this.#end.reset();
    const reader = new JsonReader(bytes, at, messageEnd, this.#limits);
    this.head = reader.head();
    this.body = reader.body(this.head, this.#schemaOf);
    // Some clients send a line break after a message. It must not be taken for the start of the next message.
    while (messageEnd < end && isSpace(bytes[messageEnd] as number)) messageEnd++;
    return messageEnd;
  }

  write(
    type: MessageType,
    name: string,
    seqId: number,
    body: Uint8Array,
    out: Uint8Array[],
    schema?: StructType,
  ): void {
    out.push(Buffer.from(`[1,${JSON.stringify(name)},${type},${seqId},${jsonOfStruct(body, schema)}]`));
  }
}

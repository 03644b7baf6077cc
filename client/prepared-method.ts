// Prepared methods: the part of a message that is the same for every call of a method, encoded once.

import { KatamariError } from '../core/mod.ts';
import { type Method, frameMessage, MESSAGE_TYPE, NAME_BYTES_MAX, NOTHING } from '../core/thrift/mod.ts';

/** Encodes the message head of a method. @throws KatamariError bad_request when the name is too long */
export function prepareMethod(service: string, method: Method, i64: 'bigint' | 'number'): PreparedMethod {
  const name = `${service}:${method.name}`;
  if (Buffer.byteLength(name) > NAME_BYTES_MAX) {
    throw new KatamariError(
      'bad_request',
      `The name ${name.slice(0, 40)}… has ${Buffer.byteLength(name)} bytes, the limit is ${NAME_BYTES_MAX}`,
    );
  }
  const type = method.oneway ? MESSAGE_TYPE.oneway : MESSAGE_TYPE.call;
  // Frame an empty message, then cut off the length in front and the sequence id at the end.
  const head = frameMessage(type, name, 0, NOTHING, NOTHING).subarray(4, -4);
  return { method, title: `${service}.${method.name}`, head, i64 };
}

/** A method and its encoded message head. */
export interface PreparedMethod {
  readonly method: Method;
  /** For messages: `Calculator.add`. */
  readonly title: string;
  /** Version, type, length and name of the message, up to its sequence id. */
  readonly head: Buffer;
  readonly i64: 'bigint' | 'number';
}

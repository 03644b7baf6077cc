// What every call of a method begins with, made once: the bytes of the message up to its sequence id.

import { KatamariError } from '../core/mod.ts';
import { type Method, frameMessage, MESSAGE_TYPE, NAME_BYTES_MAX, NOTHING } from '../core/thrift/mod.ts';

/** @throws KatamariError bad_request when the name is too long for a message */
export function prepareMethod(service: string, method: Method, i64: 'bigint' | 'number'): PreparedMethod {
  const name = `${service}:${method.name}`;
  if (Buffer.byteLength(name) > NAME_BYTES_MAX) {
    throw new KatamariError(
      'bad_request',
      `The name ${name.slice(0, 40)}… is too long, the limit is ${NAME_BYTES_MAX}`,
    );
  }
  const type = method.oneway ? MESSAGE_TYPE.oneway : MESSAGE_TYPE.call;
  // A whole message with an empty body: a length in front, a sequence id behind.
  const head = frameMessage(type, name, 0, NOTHING, NOTHING).subarray(4, -4);
  return { method, title: `${service}.${method.name}`, head, i64 };
}

/** A method as calls need it at hand; made once. */
export interface PreparedMethod {
  readonly method: Method;
  /** For messages: `Calculator.add`. */
  readonly title: string;
  /** Version, type, length and name of the message, up to its sequence id. */
  readonly head: Buffer;
  readonly i64: 'bigint' | 'number';
}

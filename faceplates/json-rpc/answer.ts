// The text of a response. Small answers are texts. A large one is printed in slices (core/slice-queue.ts) to parts of
// bytes, so that neither its size nor its number of values holds the event loop.

import { tooMuchToSend } from '../../core/link/mod.ts';
import type { JsonText } from '../../core/idl/mod.ts';
import { asKatamariError, type ByteAccount, type KatamariError, type SliceQueue } from '../../core/mod.ts';
import { rpcErrorOf } from './rpc-error.ts';

/** The `result` or `error` member of a response: a text, or a large value between two texts. */
export interface AnswerMember {
  readonly before: string;
  /** A large value that is not printed yet; undefined if `before` is all. */
  readonly value: JsonText | undefined;
  readonly after: string;
}

/** A large answer in bytes. They are booked in the account of the connection. */
export interface PrintedAnswer {
  readonly parts: readonly Buffer[];
  readonly bytes: number;
}

export function textAnswer(text: string): AnswerMember {
  return { before: text, value: undefined, after: '' };
}

export function refusedAnswer(error: KatamariError): AnswerMember {
  return textAnswer(`"error":${JSON.stringify(rpcErrorOf(error))}`);
}

/** Returns the response to the request of this id, given as JSON text. */
export function responseTo(id: string, { before, value, after }: AnswerMember): AnswerMember {
  return { before: `{"jsonrpc":"2.0","id":${id},${before}`, value, after: `${after}}` };
}

/** Returns the text of a response without a large value. */
export function wholeText({ before, after }: AnswerMember): string {
  return before + after;
}

/** The connection for which an answer is printed. */
export interface AnswerReader {
  readonly signal: AbortSignal;
  readonly account: ByteAccount;
}

/**
 * Prints a large answer. `end` gets it later, or the error in its place. The value and what is printed of it are
 * booked; the value until it is printed, the parts until their receiver gives them back.
 */
export function printInSlices(
  slices: SliceQueue,
  { before, value, after }: AnswerMember & { readonly value: JsonText },
  { signal, account }: AnswerReader,
  end: (printed: PrintedAnswer | KatamariError) => void,
): void {
  const valueBytes = value.bytes;
  const parts: Buffer[] = [];
  let bytes = 0;
  const add = (text: string): void => {
    const part = Buffer.from(text);
    parts.push(part);
    bytes += part.length;
    account.add(part.length);
  };
  const fail = (error: KatamariError): true => {
    account.add(-valueBytes - bytes);
    end(error);
    return true;
  };
  account.add(valueBytes);
  add(before);
  slices.add(account, () => {
    try {
      if (signal.aborted) return fail(asKatamariError(signal.reason));
      add(value.next(SLICE_CHARS));
      if (account.exceeds(SLICE_CHARS)) return fail(tooMuchToSend(bytes, account));
      if (!value.isDone) return false;
      add(after);
    } catch (thrown) {
      return fail(asKatamariError(thrown));
    }
    account.add(-valueBytes);
    end({ parts, bytes });
    return true;
  });
}

/** Values of at most this many bytes are printed at once. */
export const SMALL_BYTES = 32_768;
/** Characters that are printed at a time: about a millisecond of work. */
const SLICE_CHARS = 65_536;

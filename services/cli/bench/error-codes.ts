// Derives the error code of the mesh (core/errors.ts) from the reply of the Thrift port. A Thrift client gets only
// a coarse type and a message, so this file matches the words of the message. It is the only code that depends on
// the text of errors: a change of such a text must be repeated here. A message that matches nothing is an exception
// of the chassis that its interface does not declare. test/services/cli/bench/bench.test.ts compares this with real
// replies.

import type { ErrorCode } from '../../../core/mod.ts';
import { APPLICATION_EXCEPTION } from '../../../core/thrift/mod.ts';

/** How a call of the bench may fail: as the mesh says, or as only its caller sees it. */
export type FailureCode =
  | ErrorCode
  /** The chassis answered with an exception that its interface does not declare. */
  | 'undeclared'
  /** The connection broke while the call was under way. */
  | 'connection_lost'
  /** No connection was open when the call was due. */
  | 'no_connection'
  /** Nothing came within the time that the mesh has for it. */
  | 'no_answer'
  /** Something came that is no answer to it. */
  | 'broken_answer'
  /** It was due, and until the end too many others were under way. */
  | 'not_sent';

export function failureCodeOf(type: number, message: string): FailureCode {
  if (type === APPLICATION_EXCEPTION.unknownMethod) return 'no_pool';
  const found = SAID.find(([, pattern]) => pattern.test(message));
  if (found !== undefined) return found[0];
  return type === APPLICATION_EXCEPTION.protocolError ? 'bad_request' : 'undeclared';
}

/** In this order: a manager that failed hands on the words of what failed in it. */
const SAID: readonly (readonly [ErrorCode, RegExp])[] = [
  ['resource_failed', / failed while it worked on |^Manager .* cannot be reached$/],
  [
    'overloaded',
    /^Cannot (queue|wait) for |^Cannot take another connection|^Cannot take .* are under way on its link| and the call was not to wait$|can be reached at the moment$/,
  ],
  ['timeout', /^Waited |^The deadline had passed | did not answer \S+ in time/],
  ['draining', /shutting down|\bdrain(s|ing)\b|does not run .* any more/],
  ['denied', / wants TLS/],
  ['too_large', /limit is \d+; send it in smaller pieces|, the limit, when it is decompressed/],
  ['internal', /^Defect in the mesh/],
];

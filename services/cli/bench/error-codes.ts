// Derives the error code of the mesh (core/errors.ts) from the reply of the Thrift port. A Thrift client gets only a
// coarse type and a message, so this file matches the text of the message. It is the only code that depends on the
// text of errors: after a change of such a text, change the pattern here, too. A message that matches no pattern is
// an exception of the chassis that its interface does not declare. test/services/cli/bench/bench.test.ts compares the
// patterns with real replies.

import type { ErrorCode } from '../../../core/mod.ts';
import { APPLICATION_EXCEPTION } from '../../../core/thrift/mod.ts';

/** Why a call of the bench failed: an error code of the mesh, or a failure that only the bench sees. */
export type FailureCode =
  | ErrorCode
  /** The chassis answered with an exception that its interface does not declare. */
  | 'undeclared'
  /** The connection broke while the call was in flight. */
  | 'connection_lost'
  /** No connection was open when the call was due. */
  | 'no_connection'
  /** No reply arrived within the timeout of the mesh. */
  | 'no_answer'
  /** The reply could not be parsed or matches no call. */
  | 'broken_answer'
  /** The call was due, but too many others were in flight until the end. */
  | 'not_sent';

export function failureCodeOf(type: number, message: string): FailureCode {
  if (type === APPLICATION_EXCEPTION.unknownMethod) return 'no_pool';
  const found = PATTERNS.find(([, pattern]) => pattern.test(message));
  if (found !== undefined) return found[0];
  return type === APPLICATION_EXCEPTION.protocolError ? 'bad_request' : 'undeclared';
}

/** The order matters: a message of a failed manager contains the text of the inner error. */
const PATTERNS: readonly (readonly [ErrorCode, RegExp])[] = [
  ['resource_failed', / failed while it worked on |^Manager .* cannot be reached$/],
  [
    'overloaded',
    /^Cannot (queue|wait) for |^Cannot take another connection|^Cannot take .* are in flight on its link| and the call asked not to wait$|^No manager of .* is reachable; /,
  ],
  ['refused_as_poison', /^Refused \S+ of .* has cost /],
  ['incomplete', /^\d+ of \d+ shards of \S+ are in the answer/],
  ['timeout', /^Waited |^The deadline had passed | did not answer \S+ in time/],
  ['draining', /shutting down|\bdrain(s|ing)\b|does not run .* any more/],
  ['denied', / requires TLS/],
  [
    'too_large',
    /limit is \d+; (send it in smaller pieces|return less|ask for less)|, the limit, when it is decompressed| beyond the limits: /,
  ],
  ['internal', /^Defect in the mesh/],
];

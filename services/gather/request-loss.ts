// What a request that has brought nothing means for its shards: why they are missing, and whether they may be asked for
// again.

import { clipText, type KatamariError } from '../../core/mod.ts';
import { APPLICATION_EXCEPTION, readApplicationException } from '../../core/thrift/mod.ts';
import { type Lack, LACK } from './coverage.ts';
import { WHY_CHARS_MAX } from './limits.ts';

export interface RequestLoss {
  readonly lack: Lack;
  readonly why: string;
  readonly mayRetry: boolean;
  /** Whether it certainly did not run, so that another try needs no budget. */
  readonly isFree: boolean;
  /** Whether another copy of the same manager may answer. */
  readonly isOfCopy: boolean;
}

/** A reply that is of no use. */
export function lossOfReply(why: string, mayRetry: boolean): RequestLoss {
  return { lack: LACK.failed, why: clipText(why, WHY_CHARS_MAX), mayRetry, isFree: false, isOfCopy: false };
}

/** A TApplicationException, which a content server may have written wrongly. */
export function lossOfException(body: Uint8Array): RequestLoss {
  try {
    const { message, type } = readApplicationException(body);
    // The files of this replica may be damaged.
    return lossOfReply(message, type === APPLICATION_EXCEPTION.internalError);
  } catch {
    return lossOfReply('it sent an exception that cannot be decoded', false);
  }
}

/**
 * @param tries tries of the shards, this one included
 * @param isReachable whether the manager can still be reached
 */
export function lossOfError({ code, message, facts }: KatamariError, tries: number, isReachable: boolean): RequestLoss {
  if (code === 'timeout') return { ...lossOfReply(message, false), lack: LACK.timedOut };
  // A query that costs a copy its life may cost the next one its life too, so it gets one more try only.
  const isSuspect = facts.isSuspect === true && tries > 1;
  return {
    lack: code === 'overloaded' ? LACK.overloaded : LACK.failed,
    why: clipText(message, WHY_CHARS_MAX),
    mayRetry: code !== 'internal' && !isSuspect,
    isFree: facts.notRun === true,
    isOfCopy: code === 'resource_failed' && isReachable,
  };
}

/** Whether every replica would answer the same. */
export function isCallersFault({ code }: KatamariError): boolean {
  return CALLERS_FAULT.has(code);
}

const CALLERS_FAULT: ReadonlySet<string> = new Set([
  'bad_request',
  'too_large',
  'denied',
  'refused_as_poison',
  'cancelled',
]);

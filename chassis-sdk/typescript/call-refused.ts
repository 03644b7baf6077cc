// What handlers throw to refuse a call.

import { KatamariError } from '../../core/mod.ts';

/**
 * A handler refuses a call, and the caller gets the code: `bad_request` for a call that will never work, `timeout` for
 * one that cannot be finished in its time. Any other KatamariError, such as that of a call that the handler has made,
 * counts as a fault of the handler.
 */
export class CallRefused extends KatamariError {
  /** @param why what is wrong and what to do; the caller reads it */
  constructor(code: 'bad_request' | 'timeout', why: string) {
    super(code, why, code === 'timeout' ? { stage: 'service' } : {});
  }
}

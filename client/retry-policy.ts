// Whether a call is sent once more, and when. What certainly did not run is, within its deadline and a budget; what
// may have run is only when its method is idempotent, and not for ever: it may be what kills its chassis.

import { ERROR_TABLE, type KatamariError, type RetryBudget } from '../core/mod.ts';
import type { ClientCall } from './pending-call.ts';

/** The pause before the next try in ms; undefined for none. Takes from the budget. */
export function pauseBeforeRetry(
  call: ClientCall,
  error: KatamariError,
  nowMs: number,
  budget: RetryBudget,
  random: () => number,
): number | undefined {
  const { retry } = ERROR_TABLE[error.code];
  const isCertain = retry === 'yes' || (retry === 'if idempotent' && error.facts.notRun === true);
  const method = call.plan?.method;
  const isSafe = isCertain || (retry === 'if idempotent' && method?.isIdempotent === true && !method.oneway);
  // A call that ran out of time has none for another try.
  if (!isSafe || error.code === 'timeout') return undefined;
  if (call.tries >= (isCertain ? CERTAIN_TRIES_MAX : TRIES_MAX)) return undefined;
  // Who leaves sends its callers elsewhere: that is no load, and costs nothing.
  const isMove = error.code === 'draining';
  const grownMs = Math.min(PAUSE_MAX_MS, PAUSE_FIRST_MS * 2 ** (call.tries - 1)) * (1 - random() / 2);
  const askedMs = (error.facts.retryAfterMs ?? 0) * (1 + random() / 5);
  const pauseMs = isMove && call.tries === 1 ? 0 : Math.max(grownMs, askedMs);
  if (nowMs + pauseMs >= call.deadlineMs) return undefined;
  return isMove || budget.take() ? pauseMs : undefined;
}

const TRIES_MAX = 3;
const CERTAIN_TRIES_MAX = 50;
const PAUSE_FIRST_MS = 20;
const PAUSE_MAX_MS = 1_000;

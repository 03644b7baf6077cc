// Decides whether and when a call is retried. A call that certainly did not run is retried within its deadline and
// the retry budget. A call that may have run is retried only if its method is idempotent, up to three tries in all, and
// never if it may have crashed the chassis.

import { ERROR_TABLE, type KatamariError, type RetryBudget } from '../core/mod.ts';
import type { ClientCall } from './pending-call.ts';

/**
 * Returns the pause before the next try in ms, and takes one retry from the budget. Returns undefined if the call is
 * not retried.
 */
export function pauseBeforeRetry(
  call: ClientCall,
  error: KatamariError,
  nowMs: number,
  budget: RetryBudget,
  random: () => number,
): number | undefined {
  const { retry } = ERROR_TABLE[error.code];
  const isCertain = retry === 'yes' || (retry === 'if idempotent' && error.facts.notRun === true);
  const method = call.prepared?.method;
  const isSafe = isCertain || (retry === 'if idempotent' && method?.isIdempotent === true && !method.oneway);
  // A call that timed out has no time left for a retry. One that cost a copy its life would cost the next one too.
  if (!isSafe || error.code === 'timeout' || error.facts.isSuspect === true) return undefined;
  if (call.tries >= (isCertain ? CERTAIN_TRIES_MAX : TRIES_MAX)) return undefined;
  // A draining peer refuses calls so that they move to another one. That adds no load, so it is not charged.
  const isMove = error.code === 'draining';
  const backoffMs = Math.min(PAUSE_MAX_MS, PAUSE_FIRST_MS * 2 ** (call.tries - 1)) * (1 - random() / 2);
  const retryAfterMs = (error.facts.retryAfterMs ?? 0) * (1 + random() / 5);
  const pauseMs = isMove && call.tries === 1 ? 0 : Math.max(backoffMs, retryAfterMs);
  if (nowMs + pauseMs >= call.deadlineMs) return undefined;
  return isMove || budget.take() ? pauseMs : undefined;
}

const TRIES_MAX = 3;
const CERTAIN_TRIES_MAX = 50;
const PAUSE_FIRST_MS = 20;
const PAUSE_MAX_MS = 1_000;

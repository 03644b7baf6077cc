// Keeps terms increasing, even if Consul starts over without its data or someone deletes the leader key. Managers
// refuse orders with a term that is not above the last one. The term is the LockIndex of the key, so it is raised by
// releasing and acquiring the lock in transactions, which no other session can interleave.

import type { ConsulClient } from '../consul/mod.ts';
import { ASSIGNMENT, readRecords, type Keys } from '../mesh/mod.ts';

/** Raises per transaction: each needs two operations, and Consul allows 64. */
const RAISES_MAX = 32;
/** A term this far above the lock index is corrupt data, not history. */
const TERM_LEAP_MAX = 100_000;

/** Returns the highest term of the orders in Consul; 0 without orders. @throws ConsulError */
export async function highestTermOrdered(
  client: ConsulClient,
  { assignments }: Keys,
  lockIndex: number,
  signal: AbortSignal,
): Promise<number> {
  const { entries } = await client.list(assignments, { signal });
  const orders = readRecords(ASSIGNMENT, assignments, new Map(entries.map((entry) => [entry.key, entry])));
  return Math.max(
    0,
    ...[...orders.values()].map(({ term }) => term).filter((term) => term < lockIndex + TERM_LEAP_MAX),
  );
}

/**
 * Raises the term of a lock that the session holds by `by`. Stops early if the session loses the lock.
 *
 * @throws ConsulError
 */
export async function raiseTerm(
  client: ConsulClient,
  lock: { readonly key: string; readonly value: string; readonly session: string },
  by: number,
  signal: AbortSignal,
): Promise<void> {
  const reacquire = (['unlock', 'lock'] as const).map((verb) => ({ verb, ...lock }));
  for (let remaining = by; remaining > 0; remaining -= RAISES_MAX) {
    const steps = Array.from({ length: Math.min(remaining, RAISES_MAX) }, () => reacquire).flat();
    const outcome = await client.transact(steps, signal);
    if (!outcome.isDone) return;
  }
}

// Keeps terms increasing, even if Consul starts over without its data or the leader key is deleted. Managers refuse
// orders with a lower term than the highest one that they have seen. The term is the LockIndex of the key. Releasing
// and acquiring the lock raises it; both happen in one transaction, so no other session can take the lock in between.

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

// Terms only grow, also when Consul counts anew because it came back without its data or somebody deleted the
// leader's key: managers refuse orders of a term that is not above what they saw. A term is how often the key was
// locked, so it is raised by locking it again and again, in transactions, in which nobody else can have it in
// between.

import type { ConsulClient } from '../consul/mod.ts';
import { ASSIGNMENT, readRecords, type Keys } from '../mesh/mod.ts';

/** Times a lock is taken anew in one transaction: two steps each, and Consul takes 64. */
const RAISES_MAX = 32;
/** A term so far ahead of the lock is a damaged document, not history. */
const TERM_LEAP_MAX = 100_000;

/** The highest term of the orders that stand in Consul; 0 when none does. @throws ConsulError */
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
 * Raises the term of a lock that the session holds. Ends early when it does not hold it any more.
 * @throws ConsulError
 */
export async function raiseTerm(
  client: ConsulClient,
  lock: { readonly key: string; readonly value: string; readonly session: string },
  by: number,
  signal: AbortSignal,
): Promise<void> {
  const again = (['unlock', 'lock'] as const).map((verb) => ({ verb, ...lock }));
  for (let left = by; left > 0; left -= RAISES_MAX) {
    const steps = Array.from({ length: Math.min(left, RAISES_MAX) }, () => again).flat();
    const outcome = await client.transact(steps, signal);
    if (!outcome.isDone) return;
  }
}

// The fence of the leader: a write that Consul applies only while the lock of the leader is as it was when the term
// began. A leader that was frozen or cut off can therefore not write over the orders of the next one.

import type { ConsulClient, TransactionStep } from '../consul/mod.ts';

/** The lock that a process holds as the leader of a term. */
export interface LeaderLock {
  readonly key: string;
  readonly session: string;
  /** ModifyIndex of the key; any change to the key changes it. */
  readonly index: number;
}

/**
 * - done: written, at this Consul index.
 * - conflict: a value changed since it was read; read again.
 * - stale: this process does not lead in that term; nothing was written.
 */
export type WriteOutcome =
  | { readonly kind: 'done'; readonly index: number }
  | { readonly kind: 'conflict'; readonly why: string }
  | { readonly kind: 'stale' };

/**
 * Applies all steps in one transaction while the lock is held, or none.
 * @throws ConsulError if Consul does not answer; the write may or may not have happened
 */
export async function writeFenced(
  client: ConsulClient,
  { key, session, index }: LeaderLock,
  steps: readonly TransactionStep[],
  signal?: AbortSignal,
): Promise<WriteOutcome> {
  const fence: readonly TransactionStep[] = [
    { verb: 'check-session', key, session },
    { verb: 'check-index', key, index },
  ];
  const outcome = await client.transact([...fence, ...steps], signal);
  if (outcome.isDone) return { kind: 'done', index: outcome.index };
  if (outcome.refused.some(({ at }) => at < fence.length)) return { kind: 'stale' };
  return { kind: 'conflict', why: outcome.refused[0]?.why ?? 'refused' };
}

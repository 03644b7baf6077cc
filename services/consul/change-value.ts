// Read, change, write of one value in Consul. The write is a check-and-set against what was read, so no change of
// another client is lost: the value is read again, and the caller decides then.

import type { ConsulClient } from './client.ts';
import type { ConsulEntry } from './store.ts';

/** The result of a change that writes nothing. */
export const UNCHANGED: unique symbol = Symbol('unchanged');

/**
 * Returns the value to write, undefined to delete the key, or UNCHANGED. It gets the entry that Consul has, undefined
 * for none, and runs again after each write of another client. The value that Consul already has is not written.
 */
export type ValueChange = (entry: ConsulEntry | undefined) => string | undefined | typeof UNCHANGED;

/**
 * Changes the value of a key. Returns false when other clients were faster ATTEMPTS_MAX times in a row; nothing is
 * written then.
 * @throws what `change` throws; ConsulError
 */
export async function changeValue(client: ConsulClient, key: string, change: ValueChange): Promise<boolean> {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const entry = await client.get(key);
    const value = change(entry);
    const isSame = value === entry?.value && (entry?.problem ?? '') === '';
    if (value === UNCHANGED || isSame) return true;
    const cas = entry?.modifyIndex ?? 0;
    const isDone = await (value === undefined ? client.delete(key, { cas }) : client.put(key, value, { cas }));
    if (isDone) return true;
  }
  return false;
}

/**
 * Returns a change that sets one value, or undefined to delete the key. It throws `refusal()` when another client
 * writes a different value meanwhile. A value that is only signed again is not different.
 * @param valueFor returns the value; called once, with the entry that Consul has at first
 */
export function setUnlessChanged(
  valueFor: (entry: ConsulEntry | undefined) => string | undefined,
  refusal: () => Error,
): ValueChange {
  let first: { readonly before: string | undefined; readonly value: string | undefined } | undefined;
  return (entry) => {
    first ??= { before: entry?.value, value: valueFor(entry) };
    if (entry?.value !== first.before && entry?.value !== first.value) throw refusal();
    return first.value;
  };
}

const ATTEMPTS_MAX = 10;

// Copies of calls that a mirror of a route sends to another version. They carry a header that no client can set, so
// that a pool takes them only into free places, and a handler can tell them from calls that somebody waits for.

import type { Call } from './call.ts';

const HEADER = 'katamari-mirror';

/** The headers of the copy of a call. */
export function mirrorHeaders({ headers }: Pick<Call, 'headers'>): Readonly<Record<string, string>> {
  return { ...headers, [HEADER]: '1' };
}

export function isMirrorCopy({ doNotQueue, headers }: Pick<Call, 'doNotQueue' | 'headers'>): boolean {
  return doNotQueue && headers[HEADER] !== undefined;
}

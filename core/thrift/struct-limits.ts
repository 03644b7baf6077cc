// How deep and how large a struct may be, in one set of words for every reader of the wire. Called for each container
// and string of the hot path: nothing is made here unless it is an error.

import { KatamariError } from '../mod.ts';

/**
 * A declared count of things of at least `each` bytes, if it can be true at all.
 * @throws KatamariError bad_request or too_large
 */
export function declaredSize(count: number, each: number, bytesMax: number): number {
  if (count < 0) throw new KatamariError('bad_request', `A size of ${count} is declared, expected 0 or more`);
  if (count * each > bytesMax) throw tooLarge(count * each, bytesMax);
  return count;
}

export function tooDeep(depthMax: number): KatamariError {
  return new KatamariError('bad_request', `Structs and containers are nested deeper than ${depthMax}, the limit`);
}

/** A struct may be larger here than it was on its way: compact and JSON become strict binary. */
export function tooLarge(found: number, bytesMax: number): KatamariError {
  return new KatamariError(
    'too_large',
    `The message declares, holds or becomes ${found} bytes, limit is ${bytesMax}; send it in smaller pieces`,
  );
}

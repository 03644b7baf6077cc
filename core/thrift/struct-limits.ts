// Checks for the depth and size of structs, with the same error messages for every wire reader. They run for each
// container and string on the hot path, so they allocate only for errors.

import { KatamariError } from '../mod.ts';

/**
 * Checks a declared count of items of at least `each` bytes against the limit of bytes.
 * @throws KatamariError bad_request or too_large
 */
export function declaredSize(count: number, each: number, bytesMax: number): number {
  if (count < 0) throw new KatamariError('bad_request', `A size of ${count} is declared, expected 0 or more`);
  if (count * each > bytesMax) throw tooLarge(count * each, bytesMax);
  return count;
}

export function tooDeep(depthMax: number): KatamariError {
  const why = `Structs and containers are nested deeper than ${depthMax}, the limit`;
  return new KatamariError('bad_request', why, { isTooDeep: true });
}

/** A message can grow when it is read, because compact and JSON are converted to strict binary. */
export function tooLarge(found: number, bytesMax: number): KatamariError {
  return new KatamariError(
    'too_large',
    `The message has or declares ${found} bytes in strict binary, limit is ${bytesMax}; send it in smaller pieces`,
  );
}

// Whether tests of indices run at full size. They run shortened in every run: KATAMARI_INDEX_TESTS=whole has the
// numbers of calls, cuts and versions that the design promises, which takes up to some minutes a file.

export const IS_WHOLE: boolean = process.env['KATAMARI_INDEX_TESTS'] === 'whole';

/** Returns the first number in a whole run, else the second. */
export function sized(whole: number, short: number): number {
  return IS_WHOLE ? whole : short;
}

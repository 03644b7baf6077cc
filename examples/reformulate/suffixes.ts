// Code that both stemmers share: vowels, the regions of a word, and the longest suffix in a table. Words are in
// lower case. During stemming, a consonant y (first letter, or after a vowel) is written Y.

/**
 * A suffix and its replacement. A function decides by the part before the suffix and returns undefined to keep it.
 */
export type SuffixRule = readonly [suffix: string, replacement: string | ((before: string) => string | undefined)];

export function isVowel(letter: string | undefined): boolean {
  return letter !== undefined && letter !== '' && 'aeiouy'.includes(letter);
}

export function hasVowel(part: string): boolean {
  return /[aeiouy]/.test(part);
}

/** Writes each consonant y as Y. */
export function markConsonantY(word: string): string {
  if (!word.includes('y')) return word;
  let marked = '';
  for (const letter of word) {
    marked += letter === 'y' && (marked === '' || isVowel(marked.at(-1))) ? 'Y' : letter;
  }
  return marked;
}

/**
 * Returns the start of the region after the first non-vowel that follows a vowel, from `from` on; the length of the
 * word if there is none.
 */
export function regionAfter(word: string, from: number): number {
  let at = from;
  while (at < word.length && !isVowel(word[at])) at += 1;
  while (at < word.length && isVowel(word[at])) at += 1;
  return Math.min(at + 1, word.length);
}

/** Porter's *o: consonant, vowel, consonant at the end, except w, x, Y. */
export function endsConsonantVowelConsonant(part: string): boolean {
  const last = part.at(-1);
  return (
    part.length >= 3 && !isVowel(part.at(-3)) && isVowel(part.at(-2)) && !isVowel(last) && !'wxY'.includes(last ?? '')
  );
}

/**
 * Applies the rule with the longest matching suffix, if that suffix is in the region from `regionStart` on. Shorter
 * suffixes are then not tried. Tables list the longest suffix first.
 */
export function applyLongest(word: string, rules: readonly SuffixRule[], regionStart: number): string {
  for (const [suffix, replacement] of rules) {
    if (!word.endsWith(suffix)) continue;
    const before = word.slice(0, -suffix.length);
    if (before.length < regionStart) return word;
    const ending = typeof replacement === 'string' ? replacement : replacement(before);
    return ending === undefined ? word : before + ending;
  }
  return word;
}

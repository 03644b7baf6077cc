// What the two stemmers share: which letters are vowels, the regions of a word, and the longest suffix of a table. A
// word is lower case; a y that stands for a consonant (first letter, or after a vowel) is written Y while it is being
// stemmed.

/**
 * A suffix and what takes its place; a function decides by the part before the suffix, and answers undefined to leave
 * it.
 */
export type SuffixRule = readonly [suffix: string, replacement: string | ((before: string) => string | undefined)];

export function isVowel(letter: string | undefined): boolean {
  return letter !== undefined && letter !== '' && 'aeiouy'.includes(letter);
}

export function hasVowel(part: string): boolean {
  return /[aeiouy]/.test(part);
}

/** The word with each consonant y as Y. */
export function markConsonantY(word: string): string {
  if (!word.includes('y')) return word;
  let marked = '';
  for (const letter of word) {
    marked += letter === 'y' && (marked === '' || isVowel(marked.at(-1))) ? 'Y' : letter;
  }
  return marked;
}

/**
 * Where the region begins that follows the first non-vowel after a vowel, looking from `from` on; the length when
 * there is none.
 */
export function regionAfter(word: string, from: number): number {
  let at = from;
  while (at < word.length && !isVowel(word[at])) at += 1;
  while (at < word.length && isVowel(word[at])) at += 1;
  return Math.min(at + 1, word.length);
}

/** Porter's *o: consonant, vowel, consonant other than w, x, Y at the end. */
export function endsConsonantVowelConsonant(part: string): boolean {
  const last = part.at(-1);
  return (
    part.length >= 3 && !isVowel(part.at(-3)) && isVowel(part.at(-2)) && !isVowel(last) && !'wxY'.includes(last ?? '')
  );
}

/**
 * Applies the rule with the longest suffix that the word has, provided that the suffix lies in the region from
 * `regionStart` on; a shorter one is not tried then. Tables are written longest suffix first.
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

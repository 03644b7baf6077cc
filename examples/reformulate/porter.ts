// The stemmer of M. F. Porter, "An algorithm for suffix stripping", Program 14 (1980), which version 1 uses. It has
// five steps. Each removes or replaces the longest matching suffix in its table if enough of the word remains before
// it. The measure m of the paper counts vowel-consonant sequences: "m > 0" means that the suffix follows the first
// sequence, "m > 1" that it follows the second.
import { applyLongest, endsConsonantVowelConsonant, hasVowel, markConsonantY, regionAfter } from './suffixes.ts';
import type { SuffixRule } from './suffixes.ts';

/** Returns the stem of a lower-case English word. Words of one or two letters stay unchanged. */
export function porterStem(word: string): string {
  if (word.length < 3) return word;
  let stem = markConsonantY(word);
  // The regions of the whole word remain valid, because later steps remove letters only at its end.
  const first = regionAfter(stem, 0);
  const second = regionAfter(stem, first);
  stem = applyLongest(stem, plurals, 0);
  stem = withoutParticiple(stem, first);
  stem = stem.replace(/^(.*[aeiouy].*)[yY]$/, '$1i');
  stem = applyLongest(stem, doubleSuffixes, first);
  stem = applyLongest(stem, middleSuffixes, first);
  stem = applyLongest(stem, lastSuffixes, second);
  stem = withoutFinalE(stem, first, second);
  if (stem.endsWith('ll') && stem.length - 1 >= second) stem = stem.slice(0, -1);
  return stem.toLowerCase();
}

const plurals: readonly SuffixRule[] = [
  ['sses', 'ss'],
  ['ies', 'i'],
  ['ss', 'ss'],
  ['s', ''],
];

const doubleSuffixes: readonly SuffixRule[] = [
  ['ational', 'ate'],
  ['ization', 'ize'],
  ['iveness', 'ive'],
  ['fulness', 'ful'],
  ['ousness', 'ous'],
  ['tional', 'tion'],
  ['biliti', 'ble'],
  ['entli', 'ent'],
  ['ousli', 'ous'],
  ['ation', 'ate'],
  ['alism', 'al'],
  ['aliti', 'al'],
  ['iviti', 'ive'],
  ['enci', 'ence'],
  ['anci', 'ance'],
  ['izer', 'ize'],
  ['abli', 'able'],
  ['alli', 'al'],
  ['ator', 'ate'],
  ['eli', 'e'],
];

const middleSuffixes: readonly SuffixRule[] = [
  ['icate', 'ic'],
  ['ative', ''],
  ['alize', 'al'],
  ['iciti', 'ic'],
  ['ical', 'ic'],
  ['ness', ''],
  ['ful', ''],
];

const lastSuffixes: readonly SuffixRule[] = [
  ['ement', ''],
  ['ance', ''],
  ['ence', ''],
  ['able', ''],
  ['ible', ''],
  ['ment', ''],
  ['ant', ''],
  ['ent', ''],
  ['ion', (before) => (/[st]$/.test(before) ? '' : undefined)],
  ['ism', ''],
  ['ate', ''],
  ['iti', ''],
  ['ous', ''],
  ['ive', ''],
  ['ize', ''],
  ['al', ''],
  ['er', ''],
  ['ic', ''],
  ['ou', ''],
];

/** Step 1b: removes -eed, -ed, -ing and repairs the rest (hopp -> hop, fil -> file). */
function withoutParticiple(word: string, first: number): string {
  if (word.endsWith('eed')) return word.length - 3 >= first ? word.slice(0, -1) : word;
  const suffix = ['ed', 'ing'].find((ending) => word.endsWith(ending));
  const stem = suffix === undefined ? '' : word.slice(0, -suffix.length);
  if (!hasVowel(stem)) return word;
  if (/(at|bl|iz)$/.test(stem)) return `${stem}e`;
  if (/(bb|dd|ff|gg|mm|nn|pp|rr|tt)$/.test(stem)) return stem.slice(0, -1);
  return stem.length === first && endsConsonantVowelConsonant(stem) ? `${stem}e` : stem;
}

/** Step 5a. */
function withoutFinalE(word: string, first: number, second: number): string {
  if (!word.endsWith('e')) return word;
  const stem = word.slice(0, -1);
  return stem.length >= second || (stem.length >= first && !endsConsonantVowelConsonant(stem)) ? stem : word;
}

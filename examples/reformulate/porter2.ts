// Porter's English stemmer ("Porter2", 2001), which version 2 uses. It improves the steps of 1980: it handles
// apostrophes and -ly, turns fewer y into i, and lists exceptions.
import {
  applyLongest,
  endsConsonantVowelConsonant,
  hasVowel,
  isVowel,
  markConsonantY,
  regionAfter,
} from './suffixes.ts';
import type { SuffixRule } from './suffixes.ts';

/** Returns the stem of a lower-case English word. Words of one or two letters stay unchanged. */
export function porter2Stem(word: string): string {
  if (word.length < 3) return word;
  const exception = exceptions.get(word);
  if (exception !== undefined) return exception;
  let stem = markConsonantY(word.replace(/^'/, ''));
  const first = firstRegion(stem);
  const second = regionAfter(stem, first);
  stem = stem.replace(/('s'|'s|')$/, '');
  stem = withoutPlural(stem);
  if (finishedAfterPlural.has(stem)) return stem;
  stem = withoutParticiple(stem, first);
  stem = stem.replace(/^(.+[^aeiouy])[yY]$/, '$1i');
  stem = applyLongest(stem, doubleSuffixes, first);
  stem = applyLongest(stem, middleSuffixes, first);
  if (stem.endsWith('ative') && stem.length - 5 >= second) stem = stem.slice(0, -5);
  stem = applyLongest(stem, lastSuffixes, second);
  stem = withoutFinalLetter(stem, first, second);
  return stem.toLowerCase();
}

/** Exceptions and their stems. */
const exceptions: ReadonlyMap<string, string> = new Map([
  ['skis', 'ski'],
  ['skies', 'sky'],
  ['dying', 'die'],
  ['lying', 'lie'],
  ['tying', 'tie'],
  ['idly', 'idl'],
  ['gently', 'gentl'],
  ['ugly', 'ugli'],
  ['early', 'earli'],
  ['only', 'onli'],
  ['singly', 'singl'],
  ...['sky', 'news', 'howe', 'atlas', 'cosmos', 'bias', 'andes'].map((word) => [word, word] as const),
]);

/** Words that look like participles but are not. */
const finishedAfterPlural: ReadonlySet<string> = new Set([
  'inning',
  'outing',
  'canning',
  'herring',
  'earring',
  'proceed',
  'exceed',
  'succeed',
]);

const doubleSuffixes: readonly SuffixRule[] = [
  ['ational', 'ate'],
  ['ization', 'ize'],
  ['fulness', 'ful'],
  ['ousness', 'ous'],
  ['iveness', 'ive'],
  ['tional', 'tion'],
  ['biliti', 'ble'],
  ['lessli', 'less'],
  ['entli', 'ent'],
  ['ation', 'ate'],
  ['alism', 'al'],
  ['aliti', 'al'],
  ['ousli', 'ous'],
  ['iviti', 'ive'],
  ['fulli', 'ful'],
  ['enci', 'ence'],
  ['anci', 'ance'],
  ['abli', 'able'],
  ['izer', 'ize'],
  ['ator', 'ate'],
  ['alli', 'al'],
  ['bli', 'ble'],
  ['ogi', (before) => (before.endsWith('l') ? 'og' : undefined)],
  ['li', (before) => (/[cdeghkmnrt]$/.test(before) ? '' : undefined)],
];

const middleSuffixes: readonly SuffixRule[] = [
  ['ational', 'ate'],
  ['tional', 'tion'],
  ['alize', 'al'],
  ['icate', 'ic'],
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
  ['ism', ''],
  ['ate', ''],
  ['iti', ''],
  ['ous', ''],
  ['ive', ''],
  ['ize', ''],
  ['ion', (before) => (/[st]$/.test(before) ? '' : undefined)],
  ['al', ''],
  ['er', ''],
  ['ic', ''],
];

/**
 * Prefixes with a fixed region, so that general and generous, communism and community, arsenic and arsenal stay
 * distinct.
 */
function firstRegion(word: string): number {
  const beginning = /^(gener|commun|arsen)/.exec(word);
  return beginning ? beginning[0].length : regionAfter(word, 0);
}

/** Step 1a. */
function withoutPlural(word: string): string {
  if (word.endsWith('sses')) return word.slice(0, -2);
  if (/ie[ds]$/.test(word)) return word.slice(0, word.length > 4 ? -2 : -1);
  if (/(us|ss)$/.test(word) || !word.endsWith('s')) return word;
  return hasVowel(word.slice(0, -2)) ? word.slice(0, -1) : word;
}

/** Step 1b. */
function withoutParticiple(word: string, first: number): string {
  const agreed = /eed(ly)?$/.exec(word);
  if (agreed) return agreed.index >= first ? `${word.slice(0, agreed.index)}ee` : word;
  const suffix = ['ingly', 'edly', 'ing', 'ed'].find((ending) => word.endsWith(ending));
  const stem = suffix === undefined ? '' : word.slice(0, -suffix.length);
  if (!hasVowel(stem)) return word;
  if (/(at|bl|iz)$/.test(stem)) return `${stem}e`;
  if (/(bb|dd|ff|gg|mm|nn|pp|rr|tt)$/.test(stem)) return stem.slice(0, -1);
  return stem.length <= first && endsShort(stem) ? `${stem}e` : stem;
}

/** Whether a word ends in a short syllable: as in 1980, or a whole word of a vowel and a consonant. */
function endsShort(part: string): boolean {
  if (part.length === 2) return isVowel(part[0]) && !isVowel(part[1]);
  return endsConsonantVowelConsonant(part);
}

/** Step 5: removes a final e, and the second l of a final ll. */
function withoutFinalLetter(word: string, first: number, second: number): string {
  const stem = word.slice(0, -1);
  if (word.endsWith('e')) {
    return stem.length >= second || (stem.length >= first && !endsShort(stem)) ? stem : word;
  }
  return word.endsWith('ll') && stem.length >= second ? stem : word;
}

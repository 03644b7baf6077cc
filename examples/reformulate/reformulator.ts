// The five methods of `reformulate.thrift` without the chassis. They use a stemmer, a speller and a thesaurus; the
// two versions of the service differ only in these. They throw only QueryRefused, for input beyond the limits.
import { countCodePoints, tokenize, TokenKind } from './tokens.ts';
import { normalize } from './words.ts';
import type { Speller, Suggestion } from './spelling.ts';
import type { Thesaurus } from './synonyms.ts';
import type { Token } from './tokens.ts';

/** The components of a version. They get words in normal form. */
export interface Parts {
  readonly stem: (word: string) => string;
  readonly suggest: Speller;
  readonly synonyms: Thesaurus;
}

export interface Analysis {
  readonly tokens: readonly StemmedToken[];
  readonly suggestions: ReadonlyMap<string, readonly Suggestion[]>;
  readonly synonyms: ReadonlyMap<string, readonly string[]>;
  readonly corrected?: string;
}

interface StemmedToken extends Token {
  readonly stem: string;
}

/** The methods of the service, with named arguments. */
export interface Reformulator {
  readonly analyze: (args: { readonly query: string }) => Analysis;
  readonly tokenize: (args: { readonly query: string }) => StemmedToken[];
  readonly stem: (args: { readonly word: string }) => string;
  readonly suggest: (args: { readonly word: string; readonly limit: number }) => Suggestion[];
  readonly synonyms: (args: { readonly word: string; readonly limit: number }) => string[];
}

/** Limits, as in `reformulate.thrift`. */
const limits = { queryLengthMax: 1000, tokensMax: 64, wordLengthMax: 64, limitMax: 50 } as const;

/** The input exceeds the limits; the message says what is accepted. */
export class QueryRefused extends Error {
  override readonly name = 'QueryRefused';
}

export function createReformulator({ stem, suggest, synonyms }: Parts): Reformulator {
  return {
    analyze({ query }) {
      const tokens = tokensOf(query, stem);
      const suggestions = new Map<string, Suggestion[]>();
      const others = new Map<string, string[]>();
      for (const { normal, kind } of tokens) {
        if (
          kind !== TokenKind.word ||
          normal.length > limits.wordLengthMax ||
          suggestions.has(normal) ||
          others.has(normal)
        )
          continue;
        const meant = suggest(normal, 5);
        if (meant.length > 0) suggestions.set(normal, meant);
        const same = functionWords.has(normal) ? [] : synonyms(normal, 10);
        if (same.length > 0) others.set(normal, same);
      }
      const corrected = correct(query, tokens, suggestions);
      return { tokens, suggestions, synonyms: others, ...(corrected === undefined ? {} : { corrected }) };
    },
    tokenize: ({ query }) => tokensOf(query, stem),
    stem: ({ word }) => stem(oneWord(word)),
    suggest: ({ word, limit }) => suggest(oneWord(word), checkedLimit(limit)),
    synonyms: ({ word, limit }) => synonyms(oneWord(word), checkedLimit(limit)),
  };
}

function tokensOf(query: string, stem: (word: string) => string): StemmedToken[] {
  const length = countCodePoints(query);
  if (length > limits.queryLengthMax) {
    throw new QueryRefused(`The query has ${length} characters, the limit is ${limits.queryLengthMax}: shorten it`);
  }
  const tokens = tokenize(query);
  if (tokens.length > limits.tokensMax) {
    throw new QueryRefused(
      `The query has ${tokens.length} words and numbers, the limit is ${limits.tokensMax}: shorten it`,
    );
  }
  return tokens.map((token) => ({
    ...token,
    stem: token.kind === TokenKind.word ? stem(token.normal) : token.normal,
  }));
}

function oneWord(word: string): string {
  if (word.length > limits.wordLengthMax) {
    throw new QueryRefused(`The word has ${word.length} letters, the limit is ${limits.wordLengthMax}: shorten it`);
  }
  return normalize(word.trim());
}

function checkedLimit(limit: number): number {
  if (limit >= 1 && limit <= limits.limitMax) return limit;
  throw new QueryRefused(`limit is ${limit}, it must be 1 to ${limits.limitMax}`);
}

/** Replaces each misspelled word by its best suggestion. Text between tokens stays. */
function correct(
  query: string,
  tokens: readonly StemmedToken[],
  suggestions: ReadonlyMap<string, readonly Suggestion[]>,
): string | undefined {
  if (suggestions.size === 0) return undefined;
  const codePoints = Array.from(query);
  let corrected = '';
  let at = 0;
  for (const { normal, text, offset, length } of tokens) {
    const meant = suggestions.get(normal)?.[0]?.word;
    corrected += codePoints.slice(at, offset).join('') + (meant === undefined ? text : capitalizedAs(text, meant));
    at = offset + length;
  }
  return corrected + codePoints.slice(at).join('');
}

function capitalizedAs(text: string, word: string): string {
  const first = text.charAt(0);
  return first === first.toLowerCase() ? word : word.charAt(0).toUpperCase() + word.slice(1);
}

/** Function words, for which synonyms are useless. */
const functionWords: ReadonlySet<string> = new Set(
  (
    'a about after all am an and any are as at be been before but by can could did do does for from had has have he her his how i if in ' +
    'into is it its me my no not of off on or our out over she should so than that the their them then there these they this those to ' +
    'under up us was we were what when where which who why will with would you your'
  ).split(' '),
);

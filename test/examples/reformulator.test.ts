// Tokens, synonyms and full analysis of a query, in both versions of the sample.
import { porterStem } from '../../examples/reformulate/porter.ts';
import { porter2Stem } from '../../examples/reformulate/porter2.ts';
import { createReformulator, QueryRefused } from '../../examples/reformulate/reformulator.ts';
import { oneEditSpeller, twoEditSpeller } from '../../examples/reformulate/spelling.ts';
import { plainThesaurus, stemmingThesaurus } from '../../examples/reformulate/synonyms.ts';
import { tokenize, TokenKind } from '../../examples/reformulate/tokens.ts';
import { lazily, readWordList } from '../../examples/reformulate/words.ts';
import { describe, expect, test } from 'vitest';
const words = lazily(readWordList);
const versions = {
  one: createReformulator({ stem: porterStem, suggest: oneEditSpeller(words), synonyms: plainThesaurus() }),
  two: createReformulator({
    stem: porter2Stem,
    suggest: twoEditSpeller(words),
    synonyms: stemmingThesaurus(words, porter2Stem),
  }),
};

describe('tokenize()', () => {
  test('extracts words and numbers in order and skips the rest', () => {
    const found = tokenize('  "Don\u2019t panic": 1,000.5 mp3-players, 3D!');
    expect(found.map(({ normal }) => normal)).toEqual(["don't", 'panic', '1,000.5', 'mp3', 'players', '3d']);
    expect(found.map(({ kind }) => kind)).toEqual([
      TokenKind.word,
      TokenKind.word,
      TokenKind.number,
      TokenKind.word,
      TokenKind.word,
      TokenKind.word,
    ]);
  });

  test('gives offsets and lengths in code points, whatever precedes them', () => {
    const query = '👩‍🚀 naïve 𝒳𝒴 Cafe\u0301 東京 42';
    const codePoints = Array.from(query);
    const found = tokenize(query);
    expect(found.map(({ text }) => text)).toEqual(['naïve', '𝒳𝒴', 'Cafe\u0301', '東京', '42']);
    for (const { text, offset, length } of found) expect(codePoints.slice(offset, offset + length).join('')).toBe(text);
    expect(found.map(({ normal }) => normal)).toEqual(['naive', 'xy', 'cafe', '東京', '42']);
  });

  test('returns nothing for an empty query', () => {
    expect(tokenize('')).toEqual([]);
    expect(tokenize(' ?!... \u0000\n')).toEqual([]);
  });
});

describe('analyze', () => {
  test('stems the tokens, corrects misspelled ones and keeps the text between the words', () => {
    for (const { analyze } of Object.values(versions)) {
      const { tokens, suggestions, corrected } = analyze({ query: 'Chaep, runing shoes (size 42)!' });
      expect(tokens.map(({ stem }) => stem)).toEqual(['chaep', 'rune', 'shoe', 'size', '42']);
      expect([...suggestions.keys()]).toEqual(['chaep', 'runing']);
      expect(corrected).toBe('Cheap, running shoes (size 42)!');
    }
  });

  test('returns no correction when nothing is misspelled', () => {
    for (const { analyze } of Object.values(versions)) {
      const { suggestions, corrected } = analyze({ query: 'cheap running shoes' });
      expect(suggestions.size).toBe(0);
      expect(corrected).toBeUndefined();
    }
  });

  test('answers an empty query with empty lists', () => {
    expect(versions.two.analyze({ query: '' })).toEqual({ tokens: [], suggestions: new Map(), synonyms: new Map() });
  });

  test('has no synonyms for function words', () => {
    expect([...versions.two.analyze({ query: 'search for the car in it' }).synonyms.keys()]).toEqual(['search', 'car']);
  });

  test('is better in version 2: corrects words two edits away, finds synonyms by stem', () => {
    const query = 'houses inconvient';
    expect(versions.one.analyze({ query }).corrected).toBeUndefined();
    expect(versions.one.analyze({ query }).synonyms.has('houses')).toBe(false);
    expect(versions.two.analyze({ query }).corrected).toBe('houses inconvenient');
    expect(versions.two.analyze({ query }).synonyms.has('houses')).toBe(true);
  });

  test('accepts a query of the maximum size, even if every word is misspelled and some are named like properties', () => {
    const query = [
      ...Array.from({ length: 61 }, (_, i) => `xq${'abcdefghij'[i % 10]}z${'klmnopq'[i % 7]}`),
      '__proto__',
      'constructor',
      'toString',
    ].join(' ');
    for (const { analyze } of Object.values(versions)) expect(analyze({ query }).tokens).toHaveLength(64);
  });
});

describe('limits', () => {
  test('refuse long queries, many tokens, long words and invalid limits, and state the accepted values', () => {
    for (const { analyze, tokenize, stem, suggest, synonyms } of Object.values(versions)) {
      expect(() => analyze({ query: 'x'.repeat(1001) })).toThrow(
        'The query has 1001 characters, the limit is 1000: shorten it',
      );
      expect(() => tokenize({ query: 'a '.repeat(65) })).toThrow(
        'The query has 65 words and numbers, the limit is 64: shorten it',
      );
      expect(() => stem({ word: 'x'.repeat(65) })).toThrow('The word has 65 letters, the limit is 64: shorten it');
      expect(() => suggest({ word: 'teh', limit: 0 })).toThrow('limit is 0, it must be 1 to 50');
      expect(() => synonyms({ word: 'car', limit: 51 })).toThrow(QueryRefused);
      expect(tokenize({ query: 'a '.repeat(64) })).toHaveLength(64);
      expect(analyze({ query: '😀'.repeat(1000) }).tokens).toEqual([]);
    }
  });
});

describe('synonyms', () => {
  test('of version 1 are those of the word itself', () => {
    expect(versions.one.synonyms({ word: 'Car ', limit: 3 })).toEqual(['auto', 'automobile', 'machine']);
    expect(versions.one.synonyms({ word: 'cars', limit: 3 })).toEqual([]);
  });

  test('of version 2 also come from words of the same stem, never the word itself or its own forms', () => {
    expect(versions.two.synonyms({ word: 'cars', limit: 50 })).toContain('automobile');
    const searching = versions.two.synonyms({ word: 'searching', limit: 50 });
    expect(searching).toContain('hunt');
    for (const word of searching) expect(porter2Stem(word)).not.toBe('search');
  });

  test('do not include properties of JavaScript objects', () => {
    for (const { synonyms } of Object.values(versions)) {
      for (const word of ['__proto__', 'toString', 'hasOwnProperty', ''])
        expect(synonyms({ word, limit: 5 })).toEqual([]);
    }
  });
});

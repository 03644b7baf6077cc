// Both spellers on the real word list, and their edit distance compared with its definition.
import { assert, constantFrom, integer, property, string } from 'fast-check';
import { editDistance, oneEditSpeller, twoEditSpeller } from '../../examples/reformulate/spelling.ts';
import { lazily, readWordList } from '../../examples/reformulate/words.ts';
import { describe, expect, test } from 'vitest';
const words = lazily(readWordList);
const one = oneEditSpeller(words);
const two = twoEditSpeller(words);

describe('readWordList()', () => {
  test('knows common and rare English words, possessives and contractions, and no others', () => {
    expect(words().words.length).toBeGreaterThan(100_000);
    expect(words().classOf('the')).toBe(10);
    expect(words().classOf('zymurgy')).toBeGreaterThan(50);
    for (const word of ['colour', 'color', 'cafe', "dog's", "dogs'", "don't", "i'm"]) {
      expect(words().classOf(word), word).toBeDefined();
    }
    for (const word of ['teh', 'recieve', 'q', '', "'", 'constructor_', '__proto__']) {
      expect(words().classOf(word), word).toBeUndefined();
    }
  });
});

describe('a speller', () => {
  test('suggests nothing for a correctly spelled word', () => {
    for (const word of ['receive', "don't", "women's"]) {
      expect(one(word, 5)).toEqual([]);
      expect(two(word, 5)).toEqual([]);
    }
  });

  test('puts the intended word first, for common mistakes one edit away', () => {
    const meant = {
      recieve: 'receive',
      seperate: 'separate',
      beleive: 'believe',
      goverment: 'government',
      untill: 'until',
    };
    for (const [typed, word] of Object.entries(meant)) {
      expect(one(typed, 5)[0]?.word).toBe(word);
      expect(two(typed, 5)[0]?.word).toBe(word);
    }
  });

  test('lists the best suggestion first and at most the requested number', () => {
    for (const speller of [one, two]) {
      const found = speller('sheos', 3);
      expect(found).toHaveLength(3);
      expect(found.map(({ score }) => score)).toEqual(found.map(({ score }) => score).toSorted((a, b) => b - a));
    }
  });
});

describe('twoEditSpeller()', () => {
  test('finds words two edits away, which oneEditSpeller does not', () => {
    for (const [typed, word] of Object.entries({
      tommorow: 'tomorrow',
      neccessary: 'necessary',
      inconvient: 'inconvenient',
    })) {
      expect(two(typed, 5)[0]).toMatchObject({ word, distance: word === 'necessary' ? 1 : 2 });
    }
    expect(one('tommorow', 5)).toEqual([]);
  });

  test('prefers the common word for likely slips: teh is the', () => {
    expect(two('teh', 1)[0]).toMatchObject({ word: 'the', distance: 1 });
    expect(two('hte', 1)[0]).toMatchObject({ word: 'the', distance: 1 });
  });

  test('misses no word within two edits, compared with measuring every word of the list', () => {
    for (const typed of ['xest', 'recieve', 'acommodaet', 'zz', "woudn't", 'münch']) {
      const all = words().words.filter((word) => editDistance(typed, word, 2) <= 2);
      expect(
        two(typed, 10_000)
          .map(({ word }) => word)
          .toSorted(),
      ).toEqual(all.toSorted());
    }
  });
});

describe('editDistance()', () => {
  test('equals its definition on random words, up to the given maximum', () => {
    const word = string({ unit: constantFrom('a', 'b', 'c', 'd'), maxLength: 8 });
    assert(
      property(word, word, integer({ min: 0, max: 4 }), (a, b, most) => {
        expect(editDistance(a, b, most)).toBe(Math.min(distanceByDefinition(a, b), most + 1));
      }),
      { numRuns: 2000 },
    );
  });
});

/** Optimal string alignment as in textbooks, without shortcuts. */
function distanceByDefinition(a: string, b: string): number {
  if (a === '' || b === '') return a.length + b.length;
  const known = new Map<number, number>();
  const distance = (i: number, j: number): number => {
    if (i === 0 || j === 0) return i + j;
    const key = i * 100 + j;
    const seen = known.get(key);
    if (seen !== undefined) return seen;
    let least = Math.min(
      distance(i - 1, j) + 1,
      distance(i, j - 1) + 1,
      distance(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1),
    );
    if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
      least = Math.min(least, distance(i - 2, j - 2) + 1);
    known.set(key, least);
    return least;
  };
  return distance(a.length, b.length);
}

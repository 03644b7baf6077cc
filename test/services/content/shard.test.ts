// Names of shards, and places as text.
import { assert, nat, property, uniqueArray } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { whyNoShardName } from '../../../services/content/shard-name.ts';
import { formatPlaces, parsePlaces } from '../../../services/mesh/mod.ts';

describe('Places', () => {
  test.each([
    [[], ''],
    [[0], '0'],
    [[0, 1, 2, 31, 64, 65], '0-2,31,64-65'],
    [[3, 1, 2], '1-3'],
  ])('%j are written as "%s"', (places, text) => {
    expect(formatPlaces(places)).toBe(text);
    expect(parsePlaces(text)).toEqual([...places].sort((a, b) => a - b));
  });

  test('of any set are read as they were written', () => {
    assert(
      property(uniqueArray(nat(3_999), { maxLength: 300 }), (places) => {
        expect(parsePlaces(formatPlaces(places))).toEqual([...places].sort((a, b) => a - b));
      }),
    );
  });

  test.each(['x', '1-', '-1', '3-1', '5,4', '1,1', '4000', '0-4000', '1 ', '0x1', '1,,2'])(
    '"%s" is refused',
    (text) => {
      expect(() => parsePlaces(text)).toThrow('expected places in order below 4000');
    },
  );
});

describe('The name of a shard', () => {
  test.each(['part-00017', 'a', '_x.y-z', 'x'.repeat(128)])('may be %s', (name) => {
    expect(whyNoShardName(name)).toBe(undefined);
  });

  test.each(['', '.', '..', '.x', '-x', 'a/b', 'a b', 'a#b', 'a*', 'ä', 'a\n', 'x'.repeat(129)])(
    'may not be %j',
    (name) => {
      expect(whyNoShardName(name)).toMatch(/letters|characters/);
    },
  );
});

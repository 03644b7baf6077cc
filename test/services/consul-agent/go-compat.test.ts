import { describe, expect, test } from 'vitest';
import {
  decodeStruct,
  formatDuration,
  parseDuration,
  parseJson,
  parseUint,
} from '../../../services/consul-agent/go-compat.ts';
import { KeyTable } from '../../../services/consul-agent/key-table.ts';

describe('parseDuration()', () => {
  test('reads half a million digits without a unit in one pass', () =>
    expect(parseDuration('1'.repeat(500_000))).toBe(undefined));
  for (const [text, nanoseconds] of [
    ['0', 0],
    ['10s', 10e9],
    ['1.5s', 1.5e9],
    ['1h2m3s', 3_723e9],
    ['100ms', 100e6],
    ['5us', 5_000],
    ['5µs', 5_000],
    ['7ns', 7],
    ['-1s', -1e9],
    ['.5m', 30e9],
  ] as const) {
    test(`reads ${text}`, () => expect(parseDuration(text)).toBe(nanoseconds));
  }
  for (const text of ['', '10', 's', '1d', '1s ', '1 s', 'zz', '1s2', '--1s']) {
    test(`does not read ${JSON.stringify(text)}`, () => expect(parseDuration(text)).toBe(undefined));
  }
});

describe('formatDuration()', () => {
  for (const text of ['0s', '7ns', '5µs', '100ms', '1.5s', '10s', '1m0s', '2m3s', '24h0m0s', '1h2m3.5s']) {
    test(`writes ${text} as it was read`, () => expect(formatDuration(parseDuration(text)!)).toBe(text));
  }
});

describe('decodeStruct()', () => {
  test('accepts names in any case, null as absent, and durations as text or nanoseconds', () => {
    const decoded = decodeStruct(
      { name: 'x', TTL: '10s', INTERVAL: 5, tags: null, more: 1 },
      { Name: 'string', Ttl: 'duration', Interval: 'duration', Tags: 'strings' },
      'p',
      'ignore',
    );
    expect([decoded.string('Name'), decoded.number('Ttl'), decoded.number('Interval'), decoded.has('Tags')]).toEqual([
      'x',
      10e9,
      5,
      false,
    ]);
  });

  test('says which field has the wrong type', () => {
    expect(() => decodeStruct({ Tags: ['a', 1] }, { Tags: 'strings' }, 'p', 'ignore')).toThrow(
      'p: json: cannot unmarshal array into Go struct field .Tags of type []string',
    );
    expect(() => decodeStruct({ Port: -1.5 }, { Port: 'int' }, 'p', 'ignore')).toThrow('of type int');
    expect(() => decodeStruct([], {}, 'p', 'ignore')).toThrow('cannot unmarshal array');
  });
});

test('parseUint() accepts numbers that fit 64 bits', () => {
  expect(parseUint('18446744073709551615')).toBe(2 ** 64);
  expect(() => parseUint('18446744073709551616')).toThrow('value out of range');
  expect(() => parseUint('1.0')).toThrow('invalid syntax');
});

test('parseJson() refuses excessive nesting', () => {
  expect(() => parseJson(Buffer.from('['.repeat(100) + ']'.repeat(100)), 'p')).toThrow('exceeded max depth');
});

test('KeyTable.under() lists keys in order from a prefix, whatever was set and deleted before', () => {
  const table = new KeyTable<string>();
  const model = new Map<string, string>();
  let seed = 7;
  const next = (below: number): number => (seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31) % below;
  for (let step = 0; step < 5_000; step++) {
    const key = Array.from({ length: 1 + next(3) }, () => 'ab/'[next(3)]).join('');
    if (next(3) === 0) {
      expect(table.delete(key)).toBe(model.delete(key));
    } else {
      table.set(key, `${key}=${step}`);
      model.set(key, `${key}=${step}`);
    }
    const prefix = key.slice(0, next(3));
    const wanted = [...model].filter(([name]) => name.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1));
    expect(table.under(prefix)).toEqual(wanted.map(([, value]) => value));
  }
  expect(table.size).toBe(model.size);
});

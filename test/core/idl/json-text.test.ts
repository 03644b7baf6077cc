// What the printer of results refuses, and how it cuts long values. Its text for all kinds of values is compared with
// that of decoded values in round-trips.test.ts.
import { describe, expect, test } from 'vitest';
import { encodeStruct, parseIdl, resultText } from '../../../core/idl/mod.ts';
import type { Method } from '../../../core/thrift/mod.ts';

const IDL = `
  enum Mood { CALM = 1 }
  struct Point { 1: required i32 x, 2: double y = -0.0, 3: optional list<Point> next }
  union Either { 1: i32 left, 2: string right }
  exception Wrong { 1: i32 code, 2: string exception, 3: string message, 4: binary more }
  service S {
    Point point()
    void nothing() throws (1: Wrong wrong)
    string text()
    binary bytes()
    list<i32> numbers()
    set<i32> distinct()
    map<i32, string> labels()
    map<double, double> pairs()
    Either either()
    Mood mood()
    double real()
  }`;
const { services } = parseIdl({ main: 's.thrift', files: { 's.thrift': IDL } });
const method = (name: string): Method => services.get('S')?.methods.get(name) as Method;

/** The text of a result value, printed in parts of about `charsMax` characters. */
function printed(name: string, success: unknown, charsMax = Number.POSITIVE_INFINITY): string[] {
  const { text } = resultText(method(name), encodeStruct(method(name).result, { success }));
  const parts: string[] = [];
  while (!text.isDone) parts.push(text.next(charsMax));
  return parts;
}

function refusal(name: string, bytes: Buffer): string {
  try {
    return resultText(method(name), bytes).text.all();
  } catch (error) {
    return `${(error as { code: string }).code} ${(error as Error).message}`;
  }
}

describe('the text of a result', () => {
  test('keeps the sign of zero, and has defaults, names of enums and special doubles', () => {
    expect(printed('real', -0)).toEqual(['-0']);
    expect(printed('real', 0)).toEqual(['0']);
    expect(printed('real', 1e21)).toEqual(['1e+21']);
    expect(printed('real', Number.NEGATIVE_INFINITY)).toEqual(['"-Infinity"']);
    expect(printed('mood', 1)).toEqual(['"CALM"']);
    expect(printed('mood', 7)).toEqual(['7']);
    expect(refusal('point', Buffer.from('0c0000080001000000050000', 'hex'))).toBe('{"x":5,"y":-0}');
    expect(refusal('nothing', Buffer.of(0))).toBe('null');
  });

  test('of a declared exception begins with its name, which replaces a field of that name', () => {
    const { result } = method('nothing');
    const wrong = { code: 7, exception: 'mine', message: 'no', more: Buffer.alloc(100_000) };
    const found = resultText(method('nothing'), encodeStruct(result, { wrong }));
    expect([found.exception, found.message]).toEqual(['Wrong', 'Wrong: no']);
    expect(JSON.parse(found.text.all())).toEqual({ ...wrong, exception: 'Wrong', more: wrong.more.toString('base64') });
    expect(resultText(method('nothing'), encodeStruct(result, { wrong: {} })).text.all()).toBe('{"exception":"Wrong"}');
  });

  test('comes in parts, long texts and binaries too, cut between characters', () => {
    for (const text of [
      'x'.repeat(300_000),
      'é'.repeat(200_001),
      '\u{1f600}"\\\n'.repeat(40_000),
      `a${'€'.repeat(99_999)}`,
    ]) {
      const parts = printed('text', text, 1_000);
      expect(parts.length).toBeGreaterThan(4);
      expect(parts.join('')).toBe(JSON.stringify(text));
    }
    const bytes = Buffer.from(Array.from({ length: 200_000 }, (_, i) => i % 251));
    expect(printed('bytes', bytes, 1_000).join('')).toBe(`"${bytes.toString('base64')}"`);
    const numbers = Array.from({ length: 50_000 }, (_, i) => i);
    const parts = printed('numbers', numbers, 10_000);
    expect(Math.max(...parts.map(({ length }) => length))).toBeLessThan(10_100);
    expect(parts.join('')).toBe(JSON.stringify(numbers));
  });

  test('is refused with the path when the bytes do not match the type', () => {
    const why = (name: string, hex: string): string => refusal(name, Buffer.from(hex, 'hex'));
    const head = (name: string): string => `resource_failed The reply of ${name} does not match its own interface: `;
    expect(why('point', '00')).toBe(`${head('point')}result: expected Point or an exception, got neither`);
    expect(why('point', '0c00000000')).toContain(
      'result.success.x: expected i32, got nothing, and the field is required',
    );
    expect(why('point', '0c00000b0001000000000000')).toContain('result.success.x: expected i32, got string');
    expect(why('point', '080000000000010000')).toContain('result.success: expected Point, got i32');
    expect(why('point', '0c000008000100000001080001000000020000')).toContain(
      'result.success.x: the field is there twice',
    );
    expect(why('point', '0c00000f00030c000000010b000100000000000000')).toContain(
      'result.success.next[0].x: expected i32',
    );
    expect(why('text', '0b000000000001ff00')).toContain('result.success: expected text in UTF-8');
    expect(why('text', '0b00000000000161')).toContain('the bytes end in the middle');
    expect(why('text', '0b0000000000016100ff')).toContain('1 bytes follow after the end');
    expect(why('text', '0b000000000001610b0000000000016100')).toContain('expected one result, got several');
    expect(why('distinct', '0e00000800000002000000010000000100')).toContain(
      'result.success[1]: the element is in the set twice',
    );
    expect(why('labels', '0d0000080b000000020000000100000000000000010000000000')).toContain(
      'result.success["1"]: the key is in the map twice',
    );
    expect(why('either', '0c0000080001000000010b0002000000000000')).toContain(
      'expected exactly one field of union Either (left, right), got 2',
    );
    const long = Buffer.concat([
      Buffer.from('0b0000', 'hex'),
      Buffer.from('00020000', 'hex'),
      Buffer.alloc(0x20000, 0xff),
      Buffer.of(0),
    ]);
    expect(refusal('text', long)).toContain('result.success: expected text in UTF-8');
  });
});

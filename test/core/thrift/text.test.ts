// Bytes as text and back: nothing is lost, whatever the bytes are.

import { isUtf8 } from 'node:buffer';
import { describe, expect, test } from 'vitest';
import { readCallContext, writeCallContext } from '../../../core/link/context.ts';
import { createCall } from '../../../core/rpc/mod.ts';
import {
  bytesOfText,
  hasEscapes,
  strictText,
  textOfBytes,
  textOfLatin1,
  trimSpaces,
} from '../../../core/thrift/mod.ts';
import { Random } from '../../kit/tools/random.ts';

const SEED = Number(process.env['KATAMARI_SEED'] ?? Date.now() % 1e9);

/** Bytes that are often nearly UTF-8. */
function oddBytes(random: Random): Buffer {
  const parts = ['a', 'ü', '乳', '🧀', '\u{10ffff}', '\0', '\ufffd', '\u0800', '\ud7ff', '\ue000'];
  const odd = [
    '80',
    'bf',
    'c0af',
    'c3',
    'e0a0',
    'e080af',
    'eda080',
    'edb080',
    'edbfbf',
    'f09f',
    'f0808080',
    'f4908080',
    'f8',
    'ff',
    'fe',
  ];
  return Buffer.concat(
    Array.from({ length: random.below(8) }, () =>
      random.below(2) === 0 ? Buffer.from(random.pick(parts)) : Buffer.from(random.pick(odd), 'hex'),
    ),
  );
}

describe('textOfBytes()', () => {
  test('is the inverse of bytesOfText(), and is the plain text for UTF-8', () => {
    console.log(`KATAMARI_SEED=${SEED}`);
    const random = new Random(SEED);
    for (let round = 0; round < 20_000; round++) {
      const bytes = oddBytes(random);
      const text = textOfBytes(bytes);
      expect(bytesOfText(text).equals(bytes), bytes.toString('hex')).toBe(true);
      expect(hasEscapes(text)).toBe(!isUtf8(bytes));
      if (isUtf8(bytes)) expect(text).toBe(bytes.toString());
      expect(strictText(bytes, 0, bytes.length)).toBe(isUtf8(bytes) ? text : undefined);
      expect(textOfLatin1(bytes.toString('latin1'))).toBe(text);
    }
  });

  test("has the escapes of Python's surrogateescape", () => {
    expect(textOfBytes(Buffer.from('61ff62eda080c3bc80', 'hex'))).toBe('a\udcffb\udced\udca0\udc80ü\udc80');
    expect(textOfBytes(Buffer.from('xaüx'), 1, 4)).toBe('aü');
  });
});

test('trimSpaces() removes spaces and tabs around a text, and no other white space', () => {
  expect(trimSpaces(' \t a\u00a0b \u00a0\t ')).toBe('a\u00a0b \u00a0');
  expect([trimSpaces(''), trimSpaces(' \t')]).toEqual(['', '']);
});

test('A call context carries every header to the byte, and leaves the caller what it was', () => {
  const random = new Random(SEED);
  const odd = Array.from({ length: 50 }, (_, n) => [
    `${n}${textOfBytes(oddBytes(random))}`,
    textOfBytes(oddBytes(random)),
  ]);
  const headers = Object.fromEntries([...odd, ['long', textOfBytes(Buffer.alloc(70_000, 0xfe))], ['__proto__', 'x']]);
  const call = createCall({ service: 'S', method: 'm', args: Buffer.of(0), deadlineMs: 0, caller: 'jürgen', headers });
  const { context, end } = readCallContext(writeCallContext(call, 1), 0);
  expect(Object.entries(context.headers)).toEqual(Object.entries(headers));
  expect([context.caller, end]).toEqual(['jürgen', writeCallContext(call, 1).length]);
});

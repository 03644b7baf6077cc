// Hostile lines for the sample faceplate of lines: calls as text with JSON arguments.

import type { Random } from '../kit/tools/random.ts';
import { endingOf, mutated, pieceBytesOf } from './mutate.ts';
import type { GoodCall, Input } from './target.ts';

export function lineInput(random: Random, calls: readonly GoodCall[]): Input {
  const count = random.chance(0.7) ? 1 : random.between(2, 30);
  const lines = Array.from({ length: count }, () => random.pick(LINES)(random, random.pick(calls)));
  const ends = random.pick(['\n', '\n', '\n', '\r\n', '', '\r', '\n\n\n']);
  const { what, bytes } = mutated(random, Buffer.from(lines.map((line) => line + ends).join('')));
  return {
    what: `${count} lines, ${what}: ${lines[0]?.slice(0, 80)}`,
    bytes,
    pieceBytes: pieceBytesOf(random, bytes.length),
    ending: endingOf(random),
  };
}

const LINES: readonly ((random: Random, call: GoodCall) => string)[] = [
  (_random, { service, method, params }) => `${service}.${method} ${JSON.stringify(params)}`,
  (_random, { service, method, params }) => `${service}.${method} ${JSON.stringify(params)}`,
  (_random, { service, method, params }) =>
    `${service}@1.0.0.${method} ${JSON.stringify(Object.values(params as object))}`,
  (_random, { method, params }) => `${method} ${JSON.stringify(params)}`,
  (random, { service, method }) =>
    `${service}.${method} ${random.pick(['', '{', '[1', '"', 'null', '1', '{}', '[[]]', '{"__proto__":{"a":1}}', '{"text":1e999}', '{"text":"\\ud800"}', 'NaN'])}`,
  (random, { service, method }) => {
    const levels = random.pick([10, 64, 65, 1_000, 20_000]);
    return `${service}.${method} ${'['.repeat(levels)}${random.chance(0.5) ? ']'.repeat(levels) : ''}`;
  },
  (random, { service, method }) =>
    `${service}.${method} {"text":"${'x'.repeat(random.pick([1_000, 70_000, random.chance(0.05) ? 5_000_000 : 1_000]))}"}`,
  (random) =>
    random.pick([
      '',
      ' ',
      '.',
      '@',
      'a.b.c',
      '__proto__.constructor',
      'Work.',
      '.say {}',
      'Work@.say',
      'Work@^9.say {}',
      '\0',
      'GET / HTTP/1.1',
      'Katamari.status {"token":"x"}',
      'katamari.Manager.status {}',
    ]),
];

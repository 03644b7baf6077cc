// Properties of the encodings for every interface and value: reading returns what was written, in any pieces, and
// messages of the `thrift` package are understood. A failure prints its seed.

import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { anyArgs, anyIdl, comparable } from '../../../kit/interfaces/any-interface.ts';
import { decodeStruct, encodeStruct, parseIdl } from '../../../../core/idl/mod.ts';
import { DEFAULT_LIMITS } from '../../../../core/mod.ts';
import { JsonEncoding } from '../../../../core/thrift/encodings/json.ts';
import { encodingOf } from '../../../../core/thrift/encodings/mod.ts';
import type { Method, Type } from '../../../../core/thrift/mod.ts';
import { MANNERS, nameOfManner } from '../../../kit/wire/wire-formats.ts';
import { stockCall } from '../../../kit/wire/stock-writer.ts';

const RUNS = 100;
const CALL = 1;

const anyCall = anyIdl.chain((text) => {
  const method = parseIdl({ main: 'any.thrift', files: { 'any.thrift': text } })
    .services.get('Any')
    ?.methods.get('m');
  if (method === undefined) throw new Error('no method m');
  return fc.record({
    text: fc.constant(text),
    method: fc.constant(method),
    args: anyArgs(method),
    seqId: fc.integer(),
    cut: fc.nat({ max: 99 }),
  });
});

describe('any interface and value', () => {
  for (const manner of MANNERS) {
    test(`survive ${nameOfManner(manner)}, also in two pieces`, () => {
      fc.assert(
        fc.property(anyCall, ({ method, args, seqId, cut }) => {
          const body = encodeStruct(method.args, args);
          const out: Uint8Array[] = [];
          encodingOf(manner, DEFAULT_LIMITS).write(CALL, 'm', seqId, body, out, method.args);
          const bytes = Buffer.concat(out);
          const reader = encodingOf(manner, DEFAULT_LIMITS, () => method.args);
          expect(reader.next(bytes, 0, Math.floor((bytes.length * cut) / 100))).toBe(-1);
          expect(reader.next(bytes, 0, bytes.length)).toBe(bytes.length);
          expect(reader.head).toMatchObject({ type: CALL, name: 'm', seqId });
          expect(comparable(decodeStruct(method.args, reader.body))).toBe(comparable(args));
          // An empty map has no types in the compact protocol; everything else is the same to the byte.
          if (manner.protocol !== 'compact') expect(Buffer.from(reader.body).equals(body)).toBe(true);
        }),
        { numRuns: RUNS },
      );
    });
  }

  test('are read as the package writes them in the compact protocol, and written in the same way', () => {
    fc.assert(
      fc.property(anyCall, ({ method, args, seqId }) => {
        const stock = stockCall('TCompactProtocol', 'm', Math.abs(seqId), method.args, args);
        const encoding = encodingOf({ transport: 'buffered', protocol: 'compact' }, DEFAULT_LIMITS);
        expect(encoding.next(stock, 0, stock.length)).toBe(stock.length);
        expect(comparable(decodeStruct(method.args, encoding.body))).toBe(comparable(args));
        const out: Uint8Array[] = [];
        encoding.write(CALL, 'm', Math.abs(seqId), encodeStruct(method.args, args), out);
        expect(Buffer.concat(out).toString('hex')).toBe(stock.toString('hex'));
      }),
      { numRuns: RUNS },
    );
  });

  test('are read as the package writes them in the JSON protocol', () => {
    fc.assert(
      fc.property(
        // The package formats map keys in its own way; values that it cannot express are skipped.
        anyCall.filter(({ method }) => hasPlainKeys(method)),
        ({ method, args, seqId }) => {
          const stock = stockCall('TJSONProtocol', 'm', seqId, method.args, args);
          const encoding = encodingOf({ transport: 'buffered', protocol: 'json' }, DEFAULT_LIMITS, () => method.args);
          expect(encoding.next(stock, 0, stock.length)).toBe(stock.length);
          expect(comparable(decodeStruct(method.args, encoding.body))).toBe(comparable(args));
        },
      ),
      { numRuns: RUNS },
    );
  });
});

describe('JsonEncoding', () => {
  const method = parseIdl({ main: 'd.thrift', files: { 'd.thrift': 'service D { void m(1: double v) }' } })
    .services.get('D')
    ?.methods.get('m') as Method;
  const read = (text: string): unknown => {
    const bytes = Buffer.from(`[1,"m",1,0,{"1":{"dbl":${text}}}]`);
    const encoding = new JsonEncoding(DEFAULT_LIMITS, () => method.args);
    encoding.next(bytes, 0, bytes.length);
    return decodeStruct(method.args, encoding.body)['v'];
  };

  test('reads NaN and infinities in quotes, and bare as the libraries of Python and Node write them', () => {
    expect(['"NaN"', 'NaN', 'nan'].map(read)).toEqual([NaN, NaN, NaN]);
    expect(['"Infinity"', 'Infinity', 'inf'].map(read)).toEqual([Infinity, Infinity, Infinity]);
    expect(['"-Infinity"', '-Infinity', '-inf'].map(read)).toEqual([-Infinity, -Infinity, -Infinity]);
  });

  test('refuses other words in place of a double', () => {
    for (const word of ['nano', '-nan', 'info', 'true', '--inf', 'Inf']) {
      expect(() => read(word), word).toThrow('expected a double');
    }
  });
});

function hasPlainKeys(method: Method): boolean {
  const seen = new Set<unknown>();
  const isPlain = (type: Type): boolean => {
    if (type.kind === 'map') return KEYS.has(type.key.kind) && isPlain(type.value);
    if (type.kind === 'list' || type.kind === 'set') return isPlain(type.element);
    if (type.kind !== 'struct' || seen.has(type.struct)) return true;
    seen.add(type.struct);
    return type.struct.fields.every((field) => isPlain(field.type));
  };
  return method.args.fields.every(({ type }) => isPlain(type));
}

const KEYS: ReadonlySet<string> = new Set(['string', 'i8', 'i16', 'i32', 'enum']);

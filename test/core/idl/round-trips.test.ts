// Properties of every interface and value: encoding and decoding are inverse, in binary and in JSON, and the bytes
// equal those of the stock Thrift library.

import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeParams, encodeResult } from '../../../core/idl/json.ts';
import { decodeResult, decodeStruct, encodeParams, encodeStruct, parseIdl, resultText } from '../../../core/idl/mod.ts';
import type { Method } from '../../../core/thrift/mod.ts';
import { anyArgs, anyIdl, anyValue, comparable } from '../../kit/interfaces/any-interface.ts';
import { stockStruct } from '../../kit/wire/stock-writer.ts';

const METHOD_RUNS = 150;

function methodOf(text: string): Method {
  const service = parseIdl({ main: 'any.thrift', files: { 'any.thrift': text } }).services.get('Any');
  const method = service?.methods.get('m');
  if (method === undefined) throw new Error('no method m');
  return method;
}

/** For JSON.stringify and JSON.parse: keep the sign of zero, as the printed text does. */
const keepZero = (_key: string, value: unknown): unknown => (Object.is(value, -0) ? '-0 of a double' : value);
const zero = (_key: string, value: unknown): unknown => (value === '-0 of a double' ? -0 : value);

/** A method with values for its arguments and its result. */
const anyCall = anyIdl.chain((text) => {
  const method = methodOf(text);
  return fc.record({
    text: fc.constant(text),
    method: fc.constant(method),
    args: anyArgs(method),
    returned: anyValue(method.returns, 3),
  });
});

describe('encoding and decoding of any interface', () => {
  test('encodeStruct() and decodeStruct() are inverse', () => {
    fc.assert(
      fc.property(anyCall, ({ method, args }) => {
        const bytes = encodeStruct(method.args, args);
        const decoded = decodeStruct(method.args, bytes);
        expect(comparable(decoded)).toBe(comparable(args));
        expect(encodeStruct(method.args, decoded).equals(bytes)).toBe(true);
      }),
      { numRuns: METHOD_RUNS },
    );
  });

  test('the bytes equal those of the stock library', () => {
    fc.assert(
      fc.property(anyCall, ({ method, args }) => {
        expect(encodeStruct(method.args, args).toString('hex')).toBe(
          stockStruct('TBinaryProtocol', method.args, args).toString('hex'),
        );
      }),
      { numRuns: METHOD_RUNS },
    );
  });

  test('params survive a round trip through JSON text', () => {
    fc.assert(
      fc.property(anyCall, ({ method, args }) => {
        const bytes = encodeStruct(method.args, args);
        const json: unknown = JSON.parse(JSON.stringify(decodeParams(method, bytes)));
        const again = encodeParams(method, json);
        expect(comparable(decodeStruct(method.args, again))).toBe(comparable(args));
        expect(
          encodeParams(
            method,
            method.args.fields.map((field) => (json as never)[field.name]),
          ).equals(again),
        ).toBe(true);
      }),
      { numRuns: METHOD_RUNS },
    );
  });

  test('a result is printed as the JSON text of its value, whole and in parts of any length', () => {
    fc.assert(
      fc.property(
        anyCall,
        fc.string({ unit: 'grapheme' }),
        fc.integer({ min: 1, max: 9 }),
        ({ method, returned }, why, charsMax) => {
          const bytes = encodeStruct(method.result, { success: returned });
          const result = decodeResult(method, bytes);
          const text = resultText(method, bytes).text.all();
          expect(JSON.parse(text)).toEqual(
            JSON.parse(JSON.stringify(result.ok ? result.value : result, keepZero), zero),
          );
          const inParts = resultText(method, bytes).text;
          let joined = '';
          while (!inParts.isDone) joined += inParts.next(charsMax);
          expect(joined).toBe(text);
          const thrown = resultText(method, encodeStruct(method.result, { x: { why } }));
          expect([thrown.exception, thrown.message]).toEqual(['X', why === '' ? 'X' : `X: ${why}`]);
          expect(thrown.text.all()).toBe(JSON.stringify({ exception: 'X', why }));
        },
      ),
      { numRuns: METHOD_RUNS },
    );
  });

  test('results and declared exceptions survive a round trip through JSON text', () => {
    fc.assert(
      fc.property(anyCall, fc.string({ unit: 'grapheme' }), ({ method, returned }, why) => {
        const bytes = encodeStruct(method.result, { success: returned });
        const result = decodeResult(method, bytes);
        const again = encodeResult(method, JSON.parse(JSON.stringify(result)) as typeof result);
        expect(comparable(decodeStruct(method.result, again))).toBe(comparable({ success: returned }));
        const thrown = decodeResult(method, encodeStruct(method.result, { x: { why } }));
        expect(thrown).toEqual({ ok: false, exception: 'X', fields: { why } });
      }),
      { numRuns: METHOD_RUNS },
    );
  });

  test('an interface and its canonical text have the same identity', () => {
    fc.assert(
      fc.property(anyIdl, (text) => {
        const a = parseIdl({ main: 'any.thrift', files: { 'any.thrift': text } }).services.get('Any');
        const b = parseIdl({ main: 'c.thrift', files: { 'c.thrift': a?.canonical ?? '' } }).services.get('Any');
        expect(b?.canonical).toBe(a?.canonical);
        expect(b?.id).toBe(a?.id);
      }),
      { numRuns: METHOD_RUNS },
    );
  });

  test('a change of any byte is decoded or refused with bad_request or too_large, and nothing else', () => {
    fc.assert(
      fc.property(
        anyCall,
        fc.nat(),
        fc.integer({ min: 0, max: 255 }),
        fc.boolean(),
        ({ method, args }, where, byte, isCut) => {
          const bytes = encodeStruct(method.args, args);
          const at = where % bytes.length;
          bytes[at] = byte;
          const bad = isCut ? bytes.subarray(0, at) : bytes;
          for (const decode of [() => decodeStruct(method.args, bad), () => decodeParams(method, bad)]) {
            try {
              decode();
            } catch (error) {
              expect((error as { code?: string }).code).toMatch(/^(?:bad_request|too_large)$/);
            }
          }
        },
      ),
      { numRuns: METHOD_RUNS * 4 },
    );
  });

  test('an object that cannot be converted to text is refused like any other', () => {
    for (const type of [
      'bool',
      'i8',
      'i16',
      'i32',
      'i64',
      'double',
      'string',
      'binary',
      'list<i32>',
      'map<i32, i32>',
    ]) {
      const method = methodOf(`service Any { i32 m(1: ${type} a) }`);
      for (const value of [{ toString: false }, [{ toString: false }], { valueOf: 1, toString: 2 }]) {
        expect(() => encodeParams(method, [value]), type).toThrowError(
          expect.objectContaining({ code: 'bad_request' }),
        );
      }
    }
  });

  test('any JSON is encoded or refused with -32602, and nothing else', () => {
    fc.assert(
      fc.property(anyIdl, fc.jsonValue(), fc.jsonValue(), (text, a, b) => {
        const method = methodOf(text);
        for (const params of [a, [a, b], { a1: a, a2: b, a3: a }, { a1: { plain1: a }, a2: [b], a3: [[a, b]] }]) {
          try {
            decodeParams(method, encodeParams(method, params));
          } catch (error) {
            expect((error as { facts?: { jsonRpcCode?: number } }).facts?.jsonRpcCode, String(error)).toBe(-32602);
          }
        }
      }),
      { numRuns: METHOD_RUNS },
    );
  });
});

// JSON Schemas of types describe the values that encodeParams() accepts, as an independent validator confirms.

import { Ajv } from 'ajv';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeParams } from '../../../core/idl/json.ts';
import {
  encodeParams,
  encodeStruct,
  type Idl,
  paramsOf,
  parseIdl,
  readIdlFile,
  schemaOf,
} from '../../../core/idl/mod.ts';
import type { Method } from '../../../core/thrift/mod.ts';
import { anyArgs, anyIdl } from '../../kit/interfaces/any-interface.ts';

const everything = parseIdl(readIdlFile(new URL('../../fixtures/idl/everything.thrift', import.meta.url)));

function method(idl: Idl, service: string, name: string): Method {
  const found = idl.services.get(service)?.methods.get(name);
  if (found === undefined) throw new Error(`no method ${name}`);
  return found;
}

/** Whether the schemas of a method's parameters accept these params by name. */
function validator(subject: Method): (params: unknown) => boolean {
  const components: Record<string, object> = {};
  const params = paramsOf(subject, components);
  const schema = {
    type: 'object',
    properties: Object.fromEntries(params.map((param) => [param.name, param.schema])),
    required: params.filter((param) => param.required).map((param) => param.name),
    additionalProperties: false,
    components: { schemas: components },
  };
  const ajv = new Ajv({ strict: false, validateFormats: false, ownProperties: true });
  const validate = ajv.compile(schema);
  return (value) => validate(value);
}

function accepts(subject: Method, params: unknown): boolean {
  try {
    encodeParams(subject, params);
    return true;
  } catch {
    return false;
  }
}

describe('schemaOf()', () => {
  test('puts structs and enums into the components, including recursive ones', () => {
    const components: Record<string, object> = {};
    const tree = everything.structs.get('Tree');
    if (tree === undefined) throw new Error('no Tree');
    expect(schemaOf({ kind: 'struct', struct: tree }, components)).toEqual({ $ref: '#/components/schemas/Tree' });
    expect(components['Tree']).toEqual({
      title: 'Tree',
      description: 'A tree: a recursive type.',
      type: 'object',
      properties: {
        value: { type: 'integer', minimum: -2147483648, maximum: 2147483647 },
        children: { anyOf: [{ type: 'array', items: { $ref: '#/components/schemas/Tree' } }, { type: 'null' }] },
        parent: { anyOf: [{ $ref: '#/components/schemas/Tree' }, { type: 'null' }] },
      },
      additionalProperties: false,
    });
  });

  test('gives types of one name from two interfaces distinct names', () => {
    const components: Record<string, object> = {};
    const other = parseIdl({ main: 'o.thrift', files: { 'o.thrift': 'struct Tree { 1: bool leaf }' } });
    for (const idl of [everything, other, everything]) {
      const struct = idl.structs.get('Tree');
      if (struct !== undefined) schemaOf({ kind: 'struct', struct }, components);
    }
    expect(Object.keys(components)).toEqual(['Tree', 'Tree_2']);
  });

  test('lists the required params and the defaults of the others', () => {
    expect(paramsOf(method(everything, 'Everything', 'add'), {})).toEqual([
      { name: 'a', required: true, schema: { type: 'integer', minimum: -2147483648, maximum: 2147483647 } },
      {
        name: 'b',
        required: false,
        schema: { type: 'integer', minimum: -2147483648, maximum: 2147483647, default: -128 },
      },
    ]);
  });

  test('accepts and refuses the same values as encodeParams()', () => {
    const examples: readonly (readonly [string, unknown])[] = [
      ['numbers', { flag: true, tiny: 1, small: 2, normal: 3, big: '4', real: 'NaN' }],
      ['numbers', { flag: 1 }],
      ['numbers', { tiny: 128 }],
      ['numbers', { normal: 1.5 }],
      ['numbers', { big: 2 ** 53 }],
      ['numbers', { big: '007' }],
      ['numbers', { real: 'nan' }],
      ['numbers', { unknown: 1 }],
      ['texts', { text: 'x', bytes: 'AA==', colour: 'RED' }],
      ['texts', { bytes: 'AB==' }],
      ['texts', { bytes: 'A' }],
      ['texts', { bytes: 'AAA=' }],
      ['texts', { colour: 5 }],
      ['texts', { colour: 6.5 }],
      ['texts', { colour: 'PINK' }],
      ['texts', { colour: null }],
      ['texts', { text: null }],
      ['choice', {}],
      ['choice', { number: 1 }],
      ['choice', { number: 1, text: 'x' }],
      ['choice', { number: null, text: 'x' }],
      ['choice', { tree: { value: 1, children: [{ value: 2 }] } }],
      ['choice', { tree: { value: 1, children: [{ value: '2' }] } }],
      ['containers', { numbers: [1], names: ['a', 'b'], byNumber: { 1: 'x' }, byReal: [[1, 'x']] }],
      ['containers', { names: ['a', 'a'] }],
      ['containers', { byNumber: { '01': 'x' } }],
      ['containers', { byFlag: { true: 1 } }],
      ['containers', { byFlag: { TRUE: 1 } }],
      ['containers', { byColour: { RED: 1 } }],
      ['containers', { byColour: { PINK: 1 } }],
      ['containers', { byReal: [[1]] }],
      ['containers', { byReal: { 1: 'x' } }],
    ];
    const names: Record<string, string> = { choice: 'choose' };
    for (const [name, value] of examples) {
      const subject = method(everything, 'Everything', names[name] ?? name);
      const params = { [name]: value };
      expect(`${validator(subject)(params)} for ${JSON.stringify(params)}`).toBe(
        `${accepts(subject, params)} for ${JSON.stringify(params)}`,
      );
    }
  });

  test('accepts the JSON of any value of any interface', () => {
    // The validator omits properties named __proto__, and fails on objects with their own toString.
    const anyCall = anyIdl.chain((random) => {
      const text = random.replaceAll(/__proto__|constructor|toString|hasOwnProperty/g, 'my_$&');
      const subject = method(parseIdl({ main: 'any.thrift', files: { 'any.thrift': text } }), 'Any', 'm');
      return fc.record({ subject: fc.constant(subject), args: anyArgs(subject) });
    });
    fc.assert(
      fc.property(anyCall, ({ subject, args }) => {
        const json: unknown = JSON.parse(JSON.stringify(decodeParams(subject, encodeStruct(subject.args, args))));
        expect(validator(subject)(json)).toBe(true);
      }),
      { numRuns: 40 },
    );
  });
});

// The arithmetic of the calculator, and its IDL compared with the interface of the Apache Thrift tutorial.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { NoResult, Operation, evaluate } from '../../examples/arithmetic.ts';
import { toolPath } from '../kit/tools/tools.ts';
describe('evaluate()', () => {
  test('adds, subtracts, multiplies, and divides towards zero', () => {
    expect(evaluate(Operation.add, 2, 40)).toBe(42);
    expect(evaluate(Operation.subtract, 15, 10)).toBe(5);
    expect(evaluate(Operation.multiply, -6, 7)).toBe(-42);
    expect(evaluate(Operation.divide, -7, 2)).toBe(-3);
    expect(Object.is(evaluate(Operation.divide, -1, 2), 0)).toBe(true);
  });

  test('returns the last number that fits an i32, and refuses the first that does not', () => {
    expect(evaluate(Operation.add, 2_147_483_646, 1)).toBe(2_147_483_647);
    expect(evaluate(Operation.subtract, -2_147_483_647, 1)).toBe(-2_147_483_648);
    expect(() => evaluate(Operation.add, 2_147_483_647, 1)).toThrow(
      '2147483647 + 1 = 2147483648 does not fit an i32: results are -2147483648 to 2147483647',
    );
    expect(() => evaluate(Operation.multiply, -2_147_483_648, -2_147_483_648)).toThrow(NoResult);
    expect(() => evaluate(Operation.divide, -2_147_483_648, -1)).toThrow(NoResult);
  });

  test('says why a division by zero and an unknown operation have no answer', () => {
    expect(() => evaluate(Operation.divide, 1, 0)).toThrow('Cannot divide 1 by 0');
    expect(() => evaluate(9, 1, 1)).toThrow(/^Unknown operation 9: it is 1 \(ADD\)/);
    expect(() => evaluate(0, 1, 1)).toThrow(NoResult);
  });
});

describe('calculator.thrift', () => {
  test('has the interface of the Thrift tutorial, as the Thrift compiler reads it', () => {
    const { shared, calculator } = compiled();
    expect(shared).toEqual({
      constants: [],
      enums: [],
      structs: [{ name: 'SharedStruct', isException: false, fields: ['1: i32 key', '2: string value'] }],
      services: [{ name: 'SharedService', extends: '', functions: ['SharedStruct getStruct(1: i32 key)'] }],
    });
    expect(calculator).toEqual({
      constants: [
        { name: 'INT32CONSTANT', value: 9853 },
        { name: 'MAPCONSTANT', value: { hello: 'world', goodnight: 'moon' } },
      ],
      enums: [{ name: 'Operation', members: 'ADD=1 SUBTRACT=2 MULTIPLY=3 DIVIDE=4' }],
      structs: [
        {
          name: 'Work',
          isException: false,
          fields: ['1: i32 num1 = 0', '2: i32 num2', '3: i32 op', '4: optional string comment'],
        },
        { name: 'InvalidOperation', isException: true, fields: ['1: i32 whatOp', '2: string why'] },
      ],
      services: [
        {
          name: 'Calculator',
          extends: 'shared.SharedService',
          functions: [
            'void ping()',
            'i32 add(1: i32 num1, 2: i32 num2)',
            'i32 calculate(1: i32 logid, 2: Work w) throws (1: InvalidOperation ouch)',
            'oneway void zip()',
          ],
        },
      ],
    });
  });
});

interface CompiledField {
  readonly key: number;
  readonly name: string;
  readonly typeId: string;
  readonly type?: { readonly class?: string };
  readonly required: string;
  readonly default?: unknown;
}

interface CompiledFunction {
  readonly name: string;
  readonly returnTypeId: string;
  readonly returnType?: { readonly class?: string };
  readonly oneway: boolean;
  readonly arguments: readonly CompiledField[];
  readonly exceptions: readonly CompiledField[];
}

interface CompiledIdl {
  readonly constants: readonly { readonly name: string; readonly value: unknown }[];
  readonly enums: readonly {
    readonly name: string;
    readonly members: readonly { readonly name: string; readonly value: number }[];
  }[];
  readonly structs: readonly {
    readonly name: string;
    readonly isException: boolean;
    readonly fields: readonly CompiledField[];
  }[];
  readonly services: readonly {
    readonly name: string;
    readonly extends?: string;
    readonly functions: readonly CompiledFunction[];
  }[];
}

/** Both files through the Thrift compiler, reduced to the wire format, as IDL-like text. */
function compiled(): Record<'shared' | 'calculator', unknown> {
  const idl = fileURLToPath(new URL('../../examples/calculator.thrift', import.meta.url));
  const directory = mkdtempSync(path.join(tmpdir(), 'katamari-calculator-'));
  try {
    execFileSync(toolPath('thrift'), ['-nowarn', '-r', '--gen', 'json', '-out', directory, idl]);
    const read = (name: string): unknown =>
      reduced(JSON.parse(readFileSync(path.join(directory, `${name}.json`), 'utf8')) as CompiledIdl);
    return { shared: read('shared'), calculator: read('calculator') };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function reduced({ constants, enums, structs, services }: CompiledIdl): unknown {
  return {
    constants: constants.map(({ name, value }) => ({ name, value })),
    enums: enums.map(({ name, members }) => ({
      name,
      members: members.map((member) => `${member.name}=${member.value}`).join(' '),
    })),
    structs: structs.map(({ name, isException, fields }) => ({ name, isException, fields: fields.map(fieldText) })),
    services: services.map((service) => ({
      name: service.name,
      extends: service.extends ?? '',
      functions: service.functions.map(functionText),
    })),
  };
}

function functionText(found: CompiledFunction): string {
  const returns = found.returnType?.class ?? found.returnTypeId;
  const thrown = found.exceptions.map(fieldText).join(', ');
  return `${found.oneway ? 'oneway ' : ''}${returns} ${found.name}(${found.arguments.map(fieldText).join(', ')})${
    thrown === '' ? '' : ` throws (${thrown})`
  }`;
}

function fieldText(field: CompiledField): string {
  const optional = field.required === 'optional' ? 'optional ' : '';
  const byDefault = field.default === undefined ? '' : ` = ${JSON.stringify(field.default)}`;
  return `${field.key}: ${optional}${field.type?.class ?? field.typeId} ${field.name}${byDefault}`;
}

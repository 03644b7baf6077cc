// Types that `katamari types` writes for the samples, compiled against the real library: chassis() accepts the
// handler types, and callers get typed services.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseIdl, readIdlFile, writeTypes } from '../../core/idl/mod.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { REPOSITORY } from '../kit/tools/repository.ts';

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-types-'));
  const compilerOptions = {
    strict: true,
    noEmit: true,
    target: 'es2022',
    lib: ['es2023', 'esnext.disposable'],
    module: 'nodenext',
    allowImportingTsExtensions: true,
    skipLibCheck: true,
    types: ['node'],
    typeRoots: [path.join(REPOSITORY, 'node_modules', '@types')],
    paths: {
      katamari: [path.join(REPOSITORY, 'chassis-sdk', 'typescript', 'mod.ts')],
      'katamari/client': [path.join(REPOSITORY, 'client', 'mod.ts')],
    },
  };
  writeFileSync(path.join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.ts'] }));
  writeFileSync(path.join(folder, 'package.json'), '{"type": "module"}');
  for (const name of ['calculator', 'reformulate', 'troublemaker']) {
    const idl = parseIdl(readIdlFile(new URL(`../../examples/${name}.thrift`, import.meta.url)));
    writeFileSync(path.join(folder, `${name}-types.ts`), writeTypes(idl, `${name}.thrift`));
  }
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Output of the compiler; '' if it reports nothing. */
function compile(chassis: string): string {
  writeFileSync(path.join(folder, 'chassis.ts'), chassis);
  const tsc = path.join(REPOSITORY, 'node_modules', 'typescript', 'bin', 'tsc');
  try {
    return execFileSync('node', [tsc, '-p', folder], { cwd: folder, encoding: 'utf8', stdio: 'pipe' });
  } catch (error) {
    return (error as { stdout: string }).stdout;
  }
}

const CHASSIS = `
import { chassis, ThriftException } from 'katamari';
import { Operation, type CalculatorHandlers } from './calculator-types.ts';
import type { ReformulateHandlers } from './reformulate-types.ts';
import type { TroublemakerHandlers } from './troublemaker-types.ts';

export type All = [ReformulateHandlers, TroublemakerHandlers];
const handlers: CalculatorHandlers = {
  ping() {},
  add: ({ num1, num2 }) => num1 + num2,
  async calculate({ w }, ctx) {
    if (w.op !== Operation.ADD) throw new ThriftException('InvalidOperation', { whatOp: w.op, why: 'only sums' });
    return (await ctx.call('Calculator', 'add', { num1: w.num1, num2: w.num2 })) as number;
  },
  zip() {},
  getStruct: ({ key }) => ({ key, value: '' }),
};
await chassis({ idl: new URL('./calculator.thrift', import.meta.url), service: 'Calculator', version: '1.0.0', handlers });
`;

const CALLER = `
import { connect } from 'katamari/client';
import { Operation, type Calculator } from './calculator-types.ts';

await using mesh = connect({ addresses: '127.0.0.1:9090' });
const calculator = mesh.service<Calculator>('Calculator');
const sum: number = await calculator.add({ num1: 1, num2: 2 }, { timeoutMs: 500 });
const w = { num1: sum, num2: 0, op: Operation.ADD };
export const all: [number, void, void] = [await calculator.calculate({ logid: 1, w }), await calculator.ping(), await calculator.zip({})];
export const untyped: unknown = await mesh.service('Calculator').add?.({ num1: 1 });
`;

describe('Types written for the samples', () => {
  test('compile, and chassis() accepts handlers of these types', () => {
    expect(compile(CHASSIS)).toBe('');
  });

  test('compile, and callers get the return types of the methods', () => {
    expect(compile(CALLER)).toBe('');
  });

  test('equal the generated file beside the client example', () => {
    const bare = (text: string): string => text.replaceAll(/[\s,]/g, '');
    const kept = readFileSync(path.join(REPOSITORY, 'examples', 'clients', 'calculator-types.ts'), 'utf8');
    expect(bare(kept)).toBe(bare(readFileSync(path.join(folder, 'calculator-types.ts'), 'utf8')));
  });

  test('make the compiler refuse arguments that the method does not have', () => {
    expect(compile(CALLER.replace('num2: 2 }', "num2: '2' }"))).toContain(
      "Type 'string' is not assignable to type 'number'",
    );
  });

  test('make the compiler refuse a handler with another return type', () => {
    expect(compile(CHASSIS.replace("value: ''", 'value: 7'))).toContain(
      "Type 'number' is not assignable to type 'string'",
    );
  });
});

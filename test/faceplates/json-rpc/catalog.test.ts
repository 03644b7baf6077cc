// What the faceplate publishes about the mesh: OpenRPC, IDL files and a first call.

import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { Ajv } from 'ajv';
import type { AnySchema } from 'ajv';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openRpcValidator } from '../../kit/wire/open-rpc.ts';
import { parseIdl, readIdlFile } from '../../../core/idl/mod.ts';
import { FIXTURE_IDL, startFixture, type JsonRpcFixture } from './fixture.ts';

const CALCULATOR_IDL = new URL('../../../examples/calculator.thrift', import.meta.url).pathname;
const calculator = {
  ping: () => {},
  add: ({ num1, num2 }: { num1: number; num2: number }) => num1 + num2,
  calculate: () => 0,
  zip: () => {},
  getStruct: () => ({ key: 1, value: '' }),
};

interface OpenRpc {
  readonly openrpc: string;
  readonly methods: readonly {
    readonly name: string;
    readonly params: readonly { readonly name: string; readonly required: boolean; readonly schema: AnySchema }[];
    readonly paramStructure: string;
    readonly result: { readonly schema: AnySchema };
    readonly errors?: readonly { readonly code: number; readonly message: string }[];
  }[];
  readonly components: { readonly schemas: Readonly<Record<string, AnySchema>> };
}

let fixture: JsonRpcFixture;
beforeAll(async () => {
  fixture = await startFixture({
    pools: (handlers) => [
      { idl: CALCULATOR_IDL, service: 'Calculator', version: '1.0.0', handlers: calculator as never },
      { idl: FIXTURE_IDL, service: 'Fixture', version: '1.0.0', handlers },
      { idl: FIXTURE_IDL, service: 'Fixture', version: '1.0.0', tags: ['other'], handlers },
      { idl: FIXTURE_IDL, service: 'Fixture', version: '2.0.0', handlers },
    ],
  });
});
afterAll(() => fixture.end());

const discovered = async (path = '/rpc'): Promise<OpenRpc> =>
  (await fixture.post('{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}', {}, path)).json.result as OpenRpc;

describe('rpc.discover', () => {
  test('returns a document that the OpenRPC meta-schema accepts', async () => {
    const validate = openRpcValidator();
    const document = await discovered();
    expect([validate(document), validate.errors]).toEqual([true, null]);
    expect(validate({ ...document, methods: [{ name: 5 }] })).toBe(false);
    expect(validate({ ...document, unheard: 1 })).toBe(false);
  });

  test('lists each method once: plain for the newest version, with the version for older ones', async () => {
    const names = (await discovered()).methods.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toContain('Calculator.add');
    expect(names).toContain('Calculator.getStruct');
    expect(names).not.toContain('Calculator@1.0.0.add');
    for (const name of ['Fixture.echo', 'Fixture@1.0.0.echo', 'Fixture@2.0.0.echo']) expect(names).toContain(name);
  });

  test('under the path of a service describes that service', async () => {
    const names = (await discovered('/rpc/Calculator')).methods.map(({ name }) => name);
    expect(names.every((name) => name.startsWith('Calculator.'))).toBe(true);
    expect(names.length).toBe(5);
    const nobody = await fixture.post('{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}', {}, '/rpc/Nobody');
    expect([nobody.status, nobody.json.error?.code]).toEqual([200, -32001]);
  });

  test('has schemas that accept and refuse the same values as the mesh', async () => {
    const { methods, components } = await discovered();
    const echo = methods.find(({ name }) => name === 'Fixture.echo');
    const ajv = new Ajv({ strict: false });
    ajv.addSchema({ $id: 'mesh', components });
    const resolved = JSON.parse(JSON.stringify(echo?.params[0]?.schema).replaceAll('"#/', '"mesh#/')) as AnySchema;
    const accepts = ajv.compile(resolved);
    for (const things of [
      {
        yes: true,
        tiny: -1,
        large: '9223372036854775807',
        real: 'NaN',
        words: ['a', 'b'],
        labels: { 1: 'x' },
        paired: [[[1], 2]],
      },
      { mood: 'CALM', inner: { inner: { text: 'deep' } }, either: { left: 1 } },
    ]) {
      expect([accepts(things), accepts.errors]).toEqual([true, null]);
      const answer = await fixture.call('Fixture.echo', { things });
      expect(answer.status).toBe(200);
      expect(accepts(answer.json.result)).toBe(true);
    }
    for (const things of [
      { tiny: 128 },
      { mood: 'SAD' },
      { words: ['a', 'a'] },
      { either: { left: 1, right: 'x' } },
      { unknown: 1 },
    ]) {
      expect(accepts(things)).toBe(false);
      expect((await fixture.call('Fixture.echo', { things })).json.error?.code).toBe(-32602);
    }
  });

  test('lists required params first, and offers calls by position only where the IDL has this order', async () => {
    const { methods } = await discovered();
    const mixed = methods.find(({ name }) => name === 'Fixture.mixed');
    expect(mixed?.params.map(({ name, required }) => [name, required])).toEqual([
      ['second', true],
      ['fourth', true],
      ['first', false],
      ['third', false],
    ]);
    expect(mixed?.paramStructure).toBe('by-name');
    expect(methods.find(({ name }) => name === 'Fixture.addLong')?.paramStructure).toBe('either');
    for (const { name, params } of methods) {
      const firstOptional = params.findIndex(({ required }) => !required);
      const after = firstOptional < 0 ? [] : params.slice(firstOptional);
      expect([name, after.some(({ required }) => required)]).toEqual([name, false]);
    }
    // By position, the order of the IDL holds.
    expect((await fixture.call('Fixture.mixed', [7, 'b', null, true])).json.result).toBe('7 b true');
    expect((await fixture.call('Fixture.mixed', { second: 'b', fourth: false })).json.result).toBe('1 b false');
  });

  test('has one error per code, with all exceptions of the method', async () => {
    const { methods } = await discovered();
    const mixed = methods.find(({ name }) => name === 'Fixture.mixed');
    expect(mixed?.errors?.map(({ code, message }) => [code, message])).toEqual([[-32050, 'Refused or Other']]);
    for (const { errors = [] } of methods) expect(new Set(errors.map(({ code }) => code)).size).toBe(errors.length);
  });

  test('lists declared exceptions', async () => {
    const refuse = (await discovered()).methods.find(({ name }) => name === 'Fixture.refuse');
    expect(refuse?.errors).toEqual([
      { code: -32050, message: 'Refused', data: { $ref: '#/components/schemas/Refused_2' } },
    ]);
  });
});

describe('GET /openrpc.json', () => {
  test('is the same document, with an ETag that avoids sending it again', async () => {
    const first = await fetch(`${fixture.url}/openrpc.json`);
    expect(first.status).toBe(200);
    expect(await first.json()).toEqual(await discovered());
    const etag = first.headers.get('etag') as string;
    const again = await fetch(`${fixture.url}/openrpc.json`, { headers: { 'if-none-match': etag } });
    expect([again.status, await again.text()]).toEqual([304, '']);
    expect((await fetch(`${fixture.url}/openrpc.json`, { headers: { 'if-none-match': '"other"' } })).status).toBe(200);
    expect((await fetch(`${fixture.url}/openrpc.json`, { method: 'HEAD' })).headers.get('etag')).toBe(etag);
  });

  test('changes with the pools', async () => {
    const changing = await startFixture({ pools: () => [] });
    const methods = async (): Promise<number> =>
      ((await (await fetch(`${changing.url}/openrpc.json`)).json()) as OpenRpc).methods.length;
    expect(await methods()).toBe(0);
    changing.mesh.setPools([{ idl: CALCULATOR_IDL, service: 'Calculator', handlers: calculator as never }]);
    expect(await methods()).toBe(5);
    await changing.end();
  });
});

describe('GET /idl', () => {
  test("returns the author's text when it is one file", async () => {
    const answer = await fetch(`${fixture.url}/idl/Fixture.thrift`);
    expect(answer.headers.get('content-type')).toMatch(/^text\/plain/);
    expect(answer.headers.get('katamari-version')).toBe('2.0.0');
    expect(await answer.text()).toBe(readFileSync(FIXTURE_IDL, 'utf8'));
    const etag = answer.headers.get('etag') as string;
    const again = await fetch(`${fixture.url}/idl/Fixture.thrift`, { headers: { 'if-none-match': `W/${etag}, "x"` } });
    expect(again.status).toBe(304);
    expect((await fetch(`${fixture.url}/idl/Fixture@1.0.0.thrift`)).headers.get('katamari-version')).toBe('1.0.0');
  });

  test('returns one self-contained text with the same meaning when there are several files', async () => {
    const text = await (await fetch(`${fixture.url}/idl/Calculator.thrift`)).text();
    const read = parseIdl({ main: 'Calculator.thrift', files: { 'Calculator.thrift': text } }).services.get(
      'Calculator',
    );
    const meant = parseIdl(readIdlFile(CALCULATOR_IDL)).services.get('Calculator');
    expect([...(read?.methods.keys() ?? [])].sort()).toEqual([...(meant?.methods.keys() ?? [])].sort());
    expect(text).not.toMatch(/^include/m);
  });

  test('lists what exists when an unknown name is requested', async () => {
    const service = await fetch(`${fixture.url}/idl/Nobody.thrift`);
    expect([service.status, await service.text()]).toEqual([404, expect.stringContaining('Calculator, Fixture')]);
    const version = await fetch(`${fixture.url}/idl/Fixture@7.thrift`);
    expect([version.status, await version.text()]).toEqual([
      404,
      expect.stringContaining('versions here are 1.0.0, 2.0.0'),
    ]);
    expect((await fetch(`${fixture.url}/idl/..%2F..%2Fetc%2Fpasswd`)).status).toBe(404);
  });
});

describe('GET /', () => {
  test('shows a curl line that works as it is', async () => {
    const text = await (await fetch(fixture.url)).text();
    const line = text.split('\n').find((candidate) => candidate.includes("-d '")) as string;
    const { stdout } = await promisify(execFile)('sh', ['-c', line]);
    expect(JSON.parse(stdout)).toEqual({ jsonrpc: '2.0', id: 1, result: 2 });
  });

  test('says so while there is no service', async () => {
    const empty = await startFixture({ pools: () => [] });
    expect(await (await fetch(empty.url)).text()).toContain('no service is running yet');
    const answer = await empty.call('Fixture.ping');
    expect([answer.status, answer.json.error?.code]).toEqual([200, -32601]);
    await empty.end();
  });
});

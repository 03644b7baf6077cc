// An interface that changes while old and new callers and chassis are running. The two versions of Parcels
// (test/fixtures/evolution) run side by side, in TypeScript and in Python, and stock clients with the code of the
// other version call them.

import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestMesh, type DeploymentText, type TestMesh } from '../kit/mesh/mesh.ts';
import { scriptCommand } from '../../core/mod.ts';
import { generate, python, thriftPackage, type Generated } from '../kit/wire/thrift-client.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';

const FIXTURES = path.join(REPOSITORY, 'test', 'fixtures', 'evolution');
const STATES = { older: '1.0.0', newer: '2.0.0' } as const;
type State = keyof typeof STATES;

/** Error codes of TApplicationException. */
const MISSING_RESULT = 5;

/** The outcome in a stock client. */
type Outcome =
  | { readonly result: unknown }
  | { readonly declared: string; readonly fields: unknown }
  | { readonly refused: number; readonly message: string };

/** One call: a method, its first argument (the fields of a struct, or a value), and further arguments. */
type Asked = readonly [method: string, struct: string | null, first: unknown, ...more: unknown[]];

let code: Readonly<Record<State, Generated>>;
beforeAll(async () => {
  const [older, newer] = await Promise.all([generate(idl('older')), generate(idl('newer'))]);
  code = { older, newer };
});
afterAll(() => {
  code.older.remove();
  code.newer.remove();
});

function idl(state: State): string {
  return path.join(FIXTURES, state, 'parcels.thrift');
}

function portOf(mesh: TestMesh): string {
  return mesh.mesh.addresses.thrift.split(':').at(-1) ?? '';
}

const CLIENTS = {
  async Node(mesh: TestMesh, state: State, service: string, [method, struct, first, ...more]: Asked): Promise<Outcome> {
    const { TFramedTransport: transport, TBinaryProtocol: protocol, Multiplexer, createConnection } = thriftPackage;
    const connection = createConnection('127.0.0.1', Number(portOf(mesh)), { transport, protocol });
    // An error that matters fails the call as well.
    connection.on('error', () => {});
    await new Promise<void>((resolve) => connection.on('connect', resolve));
    const types = code[state].load('parcels_types') as Readonly<Record<string, new (fields: unknown) => object>>;
    const client = new Multiplexer().createClient(service, code[state].load('Parcels'), connection);
    const Struct = types[struct ?? ''];
    try {
      const call = (client as Readonly<Record<string, (...args: unknown[]) => Promise<unknown>>>)[method];
      return { result: plain(await call?.call(client, Struct === undefined ? first : new Struct(first), ...more)) };
    } catch (error) {
      // For a reply without a result this library throws a string.
      if (typeof error === 'string') return { refused: MISSING_RESULT, message: error };
      if (!(error instanceof thriftPackage.Thrift.TApplicationException)) {
        const { name, message: _none, ...fields } = error as Error;
        return { declared: name, fields: plain(fields) };
      }
      return { refused: error.type, message: error.message };
    } finally {
      connection.end();
    }
  },
  Python: (mesh: TestMesh, state: State, service: string, asked: Asked) => pythonCall(mesh, state, service, asked),
} as const;

async function pythonCall(
  mesh: TestMesh,
  state: State,
  service: string,
  [method, struct, first, ...more]: Asked,
  protocol = 'binary',
): Promise<Outcome> {
  const program = `import runpy, sys; sys.path.insert(0, ${JSON.stringify(FIXTURES)}); runpy.run_path(${JSON.stringify(path.join(FIXTURES, 'client.py'))})`;
  const call = JSON.stringify([method, struct, first, more]);
  return JSON.parse(await python(code[state], program, portOf(mesh), service, protocol, call)) as Outcome;
}

/** The fields that are set in a generated struct. */
function plain(value: unknown): unknown {
  return value === undefined ? null : JSON.parse(JSON.stringify(value), (_key, part: unknown) => part ?? undefined);
}

/** What `seen` returns for the received parcel. */
function fieldsSeen(seen: Outcome): unknown {
  if (!('result' in seen)) throw new Error(`the call failed: ${JSON.stringify(seen)}`);
  return JSON.parse(seen.result as string);
}

const LANGUAGES: Readonly<Record<string, (state: State) => DeploymentText>> = {
  TypeScript: (state) => ({
    service: 'Parcels',
    version: STATES[state],
    command: scriptCommand(path.join(FIXTURES, 'chassis.ts')),
    env: { PARCELS: state },
  }),
  Python: (state) => ({
    service: 'Parcels',
    version: STATES[state],
    command: ['/usr/bin/python3', path.join(FIXTURES, 'chassis.py')],
    env: { PARCELS: state, PYTHONPATH: pythonPath(state) },
  }),
};

function pythonPath(state: State): string {
  return [path.join(REPOSITORY, 'chassis-sdk', 'python'), path.join(code[state].directory, 'gen-py')].join(':');
}

for (const [language, deployment] of Object.entries(LANGUAGES)) {
  describe(`Two versions of an interface, chassis in ${language}`, () => {
    let mesh: TestMesh;
    beforeAll(async () => {
      mesh = await startTestMesh([deployment('older'), deployment('newer')]);
      await mesh.mesh.whenReady;
    });
    afterAll(() => mesh.end());

    test('are two pools, and a call without a version goes to one that has its method', async () => {
      expect(mesh.pool('Parcels@1.0.0').interfaceId).not.toBe(mesh.pool('Parcels@2.0.0').interfaceId);
      for (let n = 0; n < 4; n++) {
        expect(await mesh.call('Parcels.forget', { id: 'x' })).toMatchObject({ result: 'forgot x' });
        expect(await mesh.call('Parcels.track', { id: 'x' })).toMatchObject({ result: ['x', 'here'] });
      }
    });

    for (const [name, call] of Object.entries(CLIENTS)) {
      describe(`and a stock ${name} client`, () => {
        const toNewer = (...asked: Asked): Promise<Outcome> => call(mesh, 'older', 'Parcels@2.0.0', asked);
        const toOlder = (...asked: Asked): Promise<Outcome> => call(mesh, 'newer', 'Parcels@1.0.0', asked);
        const parcel = { id: 'p', grams: 5 };

        test('fields unknown to the chassis are ignored, and fields missing to it have their defaults', async () => {
          const old = await toNewer('seen', 'Parcel', { ...parcel, note: 'gone', layers: 9 });
          expect(fieldsSeen(old)).toEqual({ ...parcel, size: 1, fragile: true });
          const newer = await toOlder('seen', 'Parcel', { id: 'p', stops: ['A'], fragile: false });
          expect(fieldsSeen(newer)).toEqual({ id: 'p', grams: 100, size: 1, layers: 3 });
        });

        test('another type is refused with its position, or read as absent', async () => {
          const label = await toNewer('seen', 'Parcel', { ...parcel, label: 7 });
          const codes = await toOlder('seen', 'Parcel', { ...parcel, codes: ['one'] });
          if (language === 'Python') {
            expect(fieldsSeen(label)).not.toHaveProperty('label');
            // Its generated code reads elements before it checks their type.
            expect(codes).toMatchObject({ refused: 7, message: expect.stringMatching(/Parcels.seen .* wrong ttype/) });
          } else {
            expect(label).toEqual({ refused: 7, message: 'parcel.label: expected string, got i32' });
            expect(codes).toEqual({ refused: 7, message: 'parcel.codes: expected elements of type i32, got string' });
          }
        });

        test('results contain the fields that the client knows; an unknown enum value is its number', async () => {
          const older = await toNewer('turn', 'Parcel', parcel);
          expect(older).toEqual({ result: { ...parcel, size: 3, layers: 3 } });
          const newer = await toOlder('turn', 'Parcel', { ...parcel, size: 3 });
          expect(newer).toEqual({ result: { ...parcel, size: 3, fragile: true } });
        });

        test('an added parameter has its default, or is ignored', async () => {
          expect(await toNewer('price', 'Parcel', parcel)).toEqual({ result: '5 express' });
          expect(await toOlder('price', 'Parcel', parcel, false)).toEqual({ result: '5' });
        });

        test('exceptions that both know are thrown; one that the client does not know is a reply without a result', async () => {
          const lost = { declared: 'Lost', fields: { id: 'lost' } };
          expect(await toNewer('price', 'Parcel', { id: 'lost' })).toMatchObject(lost);
          expect(await toOlder('price', 'Parcel', { id: 'lost' }, true)).toMatchObject(lost);
          const late = await toNewer('price', 'Parcel', { id: 'late' });
          expect(late).toMatchObject({
            refused: MISSING_RESULT,
            message: expect.stringMatching(/price failed: unknown result/),
          });
        });

        test('an added required field is reported by name when it is missing, and ignored by a side that does not know it', async () => {
          expect(await toNewer('sign', 'Form', { sender: 's' })).toMatchObject({
            refused: 7,
            message: expect.stringMatching(/code/),
          });
          expect(await toOlder('sign', 'Form', { sender: 's', code: 'c' })).toEqual({ result: null });
        });

        test('a method that one version lacks is unknown there, and the error names the version that has it', async () => {
          expect(await toNewer('forget', null, 'x')).toEqual({
            refused: 1,
            message: 'Parcels@2.0.0 has no method "forget"; it is in 1.0.0',
          });
          expect(await toOlder('track', null, 'x')).toEqual({
            refused: 1,
            message: 'Parcels@1.0.0 has no method "track"; it is in 2.0.0',
          });
        });
      });
    }

    test('JSON-RPC uses the interface of the version that it calls', async () => {
      const ask = (version: string, parcel: object) => mesh.call(`Parcels@${version}.turn`, { parcel });
      expect((await ask('2.0.0', { id: 'p', size: 'HUGE' })).result).toEqual({
        id: 'p',
        grams: 100,
        size: 'HUGE',
        stops: ['A', 'B'],
        inside: { box: { id: 'p', grams: 100, size: 'HUGE', fragile: true } },
        fragile: true,
      });
      expect((await ask('1.0.0', { id: 'p', note: 'n' })).result).toEqual({
        id: 'p',
        grams: 100,
        size: 'SMALL',
        note: 'turned',
        layers: 3,
      });
      for (const [version, parcel, message] of [
        ['1.0.0', { id: 'p', size: 'HUGE' }, 'params.parcel.size: expected Size, got "HUGE"; known: SMALL, LARGE'],
        ['1.0.0', { id: 'p', stops: [] }, 'params.parcel: Parcel has no field "stops"'],
        ['2.0.0', { id: 'p', note: 'n' }, 'params.parcel: Parcel has no field "note"'],
      ] as const) {
        const { error } = await ask(version, parcel);
        expect(error?.code).toBe(-32602);
        expect(error?.message).toContain(message);
      }
      const gone = await mesh.call('Parcels@2.0.0.forget', { id: 'x' });
      expect(gone.error).toMatchObject({
        code: -32001,
        message: 'Parcels@2.0.0 has no method "forget"; it is in 1.0.0',
      });
      const { error } = await mesh.call('Parcels@2.0.0.sign', { form: { sender: 's' } });
      expect(error).toMatchObject({ code: -32602, message: expect.stringContaining('params.form.code') });
    });
  });
}

describe('Fields unknown to the mesh itself', () => {
  test('reach the chassis and return unchanged, in every protocol', async () => {
    // Deployed with the previous IDL, while server and client use the current one.
    const mesh = await startTestMesh([
      {
        service: 'Parcels',
        version: '1.0.0',
        kit: 'none',
        idl: idl('older'),
        listen: 'tcp',
        command: ['/usr/bin/python3', path.join(FIXTURES, 'plain.py'), '{port}'],
        env: { PYTHONPATH: pythonPath('newer') },
      },
    ]);
    try {
      await mesh.mesh.whenReady;
      const parcel = { id: 'p', grams: 5, size: 3, stops: ['☃'], inside: { a: { id: 'q', grams: 1 } }, fragile: false };
      const inside = { id: 'q', grams: 1, size: 1, fragile: true };
      for (const protocol of ['binary', 'compact', 'json']) {
        const asked = ['seen', 'Parcel', { ...parcel, inside: {} }] as const;
        const seen = await pythonCall(mesh, 'newer', 'Parcels', asked, protocol);
        expect(fieldsSeen(seen)).toEqual({ ...parcel, inside: {} });
        const turned = await pythonCall(mesh, 'newer', 'Parcels', ['turn', 'Parcel', inside], protocol);
        expect(turned).toEqual({ result: { ...inside, size: 3, stops: ['A', 'B'], inside: { box: inside } } });
      }
    } finally {
      await mesh.end();
    }
  });
});

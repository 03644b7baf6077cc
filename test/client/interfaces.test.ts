// Interfaces that the client requests from the mesh: how often, and what happens without a reply.

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ManualClock } from '../kit/tools/manual-clock.ts';
import { refusalOf } from '../kit/tools/rejection.ts';
import { connect, type Mesh } from '../../client/mod.ts';
import { decodeStruct, parseIdl } from '../../core/idl/mod.ts';
import { meshInterface } from '../../core/rpc/mod.ts';
import type { Interface, Method } from '../../core/thrift/mod.ts';
import { scriptedMesh, type ScriptedMesh } from '../kit/mesh/scripted-mesh.ts';

const SUMS = 'service Sums { i32 next(1: i32 n) }';
const DESCRIBE = meshInterface().methods.get('describe') as Method;
const known = parseIdl({ main: 'sums.thrift', files: { 'sums.thrift': SUMS } }).services.get('Sums') as Interface;
const both: Interface = { ...known, methods: new Map([...known.methods, ['describe', DESCRIBE]]) };

let clock: ManualClock;
let server: ScriptedMesh;
let mesh: Mesh;
let sums: { next: (args: object, options?: { version?: string }) => Promise<unknown>; more: () => Promise<unknown> };
/** Requested interfaces, as `Service@version`. */
let asked: string[];
let text: string | undefined;

beforeEach(async () => {
  [clock, asked, text] = [new ManualClock(), [], SUMS];
  server = await scriptedMesh(both, (call) => {
    if (call.name !== 'katamari.Mesh:describe') {
      call.answer(7);
      return;
    }
    const { serviceName, version } = decodeStruct(DESCRIBE.args, call.args) as { serviceName: string; version: string };
    asked.push(`${serviceName}@${version}`);
    if (text === undefined) call.refuse({ 'katamari-error': 'no_pool', 'katamari-not-run': '1' }, 'gone');
    else call.answer({ serviceName, version: '1.0.0', idlMain: 'a.thrift', idlFiles: { 'a.thrift': text } });
  });
  mesh = connect({ addresses: server.address }, { clock });
  sums = mesh.service<typeof sums>('Sums');
});
afterEach(async () => {
  mesh.close();
  await server.close();
});

describe('An interface', () => {
  test('is requested once by simultaneous calls, and cached for a minute', async () => {
    await Promise.all([sums.next({ n: 1 }), sums.next({ n: 2 }), sums.next({ n: 3 })]);
    clock.advance(59_000);
    await sums.next({ n: 4 });
    expect(asked).toEqual(['Sums@']);
    clock.advance(2_000);
    await sums.next({ n: 5 });
    expect(asked).toEqual(['Sums@', 'Sums@']);
  });

  test('is requested by version', async () => {
    await sums.next({ n: 1 }, { version: '^1' });
    await sums.next({ n: 1 }, { version: '^1' });
    await sums.next({ n: 1 });
    expect(asked).toEqual(['Sums@^1', 'Sums@']);
  });

  test('is updated after a minute when it has changed', async () => {
    expect((await refusalOf(sums.more())).message).toBe('Sums has no method "more"; it has next');
    text = 'service Sums { i32 next(1: i32 n)  void more() }';
    clock.advance(61_000);
    expect((await refusalOf(sums.next({ m: 1 }))).message).toContain('has no field "m"');
    expect(asked).toEqual(['Sums@', 'Sums@']);
  });

  test('is still used after a minute when the mesh does not answer', async () => {
    await sums.next({ n: 1 });
    text = undefined;
    clock.advance(61_000);
    expect(await sums.next({ n: 2 })).toBe(7);
    expect(asked.length).toBe(2);
  });

  test('that the mesh does not have fails the calls, and the next call requests it again', async () => {
    text = undefined;
    const errors = await Promise.all([refusalOf(sums.next({ n: 1 })), refusalOf(sums.next({ n: 1 }))]);
    expect(errors.map(({ code, message }) => [code, message])).toEqual([
      ['no_pool', 'gone'],
      ['no_pool', 'gone'],
    ]);
    text = SUMS;
    expect(await sums.next({ n: 1 })).toBe(7);
    expect(asked.length).toBe(2);
  });

  test('that is invalid or of another service is reported', async () => {
    text = 'service Sums { i32 next(';
    expect((await refusalOf(sums.next({ n: 1 }))).code).toBe('bad_request');
    text = 'service Other {}';
    const { code, message } = await refusalOf(sums.next({ n: 1 }));
    expect([code, message]).toEqual(['internal', 'The mesh sent an IDL for Sums that does not declare it']);
  });
});

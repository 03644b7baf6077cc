// Rollouts of a mesh in one process, whose deployments are in its katamari.yaml: by the admin service, from the start
// to the last step, and what it refuses.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestMesh, work, type TestMesh } from '../kit/mesh/mesh.ts';
import { until } from '../kit/tools/wait.ts';

const TOKEN = 'a token of the test that nobody can guess';
/** Long enough to be paused in the first step. */
const PLAN = {
  serviceName: 'Work',
  toVersion: '2.0.0',
  steps: [50, 100],
  holdMs: 3_000,
  keepMs: 0,
  startMs: 10_000,
  guards: ['errors +0.5pt'],
  copiesFollow: true,
};

let mesh: TestMesh;
let directory: string;

beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'katamari-rollout-'));
  const idl = readFileSync(new URL('../fixtures/chassis/work.thrift', import.meta.url), 'utf8');
  // Old callers do not send what it requires.
  const [before, after] = ['say(1: string text)', 'say(1: string text, 2: required string tone)'];
  expect(idl).toContain(before);
  const stricter = path.join(directory, 'work.thrift');
  writeFileSync(stricter, idl.replace(before, after));
  const versions = [work(), work({ version: '2.0.0' }), work({ version: '3.0.0', env: { WORK_IDL: stricter } })];
  mesh = await startTestMesh(versions, { admin: { token: TOKEN }, routes: { Work: { weights: { '1.0.0': 1 } } } });
  await mesh.mesh.whenReady;
}, 60_000);
afterAll(async () => {
  await mesh?.end();
  rmSync(directory, { recursive: true, force: true });
});

async function ask(method: string, params: Readonly<Record<string, unknown>>): Promise<unknown> {
  const { result, error } = await mesh.call(`KatamariVersions.${method}`, { token: TOKEN, ...params });
  if (error !== undefined) throw new Error((error.data?.['why'] as string | undefined) ?? error.message);
  return result;
}

async function rolloutNow(): Promise<Record<string, unknown>> {
  const [found] = (await ask('getRollouts', { serviceName: 'Work' })) as Record<string, unknown>[];
  return found ?? {};
}

describe('The admin service', () => {
  test('refuses a version that breaks callers, with the changes, unless it is forced', async () => {
    const plan = { ...PLAN, toVersion: '3.0.0' };
    await expect(ask('startRollout', { plan })).rejects.toThrow(
      /callers of Work@1\.0\.0 cannot call 3\.0\.0:\n {2}say: parameter 2 tone was added, required/,
    );
    expect(await ask('startRollout', { plan, force: true })).toMatchObject({
      state: 'RUNNING',
      plan: { fromVersion: '1.0.0' },
    });
    expect(await ask('changeRollout', { serviceName: 'Work', action: 'ABORT' })).toMatchObject({ state: 'ABORTED' });
  });

  test('refuses unknown versions, guards and shares', async () => {
    const refused = (given: object, why: string): Promise<void> =>
      expect(ask('startRollout', { plan: { ...PLAN, ...given } })).rejects.toThrow(why);
    await refused({ toVersion: '9.0.0' }, '9.0.0 is no version of Work, which has 1.0.0, 2.0.0, 3.0.0');
    await refused({ guards: ['p98 x1.3'] }, 'unknown metric "p98"');
    await refused({ guards: ['diff < 1%'] }, 'has no mirror to 2.0.0');
    await refused({ steps: [50, 20, 100] }, 'step 2 is 20 %, which is not above the 50 %');
    await refused({ serviceName: 'Other' }, 'no service Other is deployed');
  });

  test('carries a rollout out, says what it cannot scale, and gives the calls to the new version', async () => {
    const begun = (await ask('startRollout', { plan: PLAN })) as { notes: string[] };
    expect(begun.notes).toHaveLength(2);
    expect(begun.notes[1]).toContain('2.0.0 is not a deployment of the mesh');
    await expect(ask('startRollout', { plan: PLAN })).rejects.toThrow('The rollout of Work@1.0.0 -> 2.0.0 is running');
    await until('half of the calls', async () => (await rolloutNow())['share'] === 50, 30_000);
    // The share stays while the calls are made and counted.
    await ask('changeRollout', { serviceName: 'Work', action: 'PAUSE' });
    for (let call = 0; call < 20; call++)
      expect(await mesh.call('Work.say', { text: 'x' })).toMatchObject({ result: 'x' });
    await until('the calls to be counted', async () => (await rolloutNow())['calls'] === 10, 30_000);
    await ask('changeRollout', { serviceName: 'Work', action: 'RESUME' });
    await until('the end', async () => (await rolloutNow())['state'] === 'DONE', 30_000);
    const { passed, calls, badCalls } = (await rolloutNow()) as {
      passed: { verdicts: string[] }[];
      calls: number;
      badCalls: number;
    };
    expect(passed).toHaveLength(2);
    expect(passed[0]?.verdicts[0]).toMatch(
      /^errors: 0 % against 0 % in 10 calls of 2\.0\.0, no difference to be seen$/,
    );
    expect([calls, badCalls]).toEqual([10, 0]);
    for (let call = 0; call < 5; call++) {
      const { headers } = await mesh.call('Work.say', { text: 'x' });
      expect(headers.get('katamari-version')).toBe('2.0.0');
    }
    expect(mesh.events.filter(({ kind }) => kind === 'rollout_changed').map(({ text }) => text)).toContain(
      'Work 2.0.0 gets 50 %',
    );
  });
});

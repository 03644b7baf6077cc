// What `katamari rollout` sends, prints and refuses, with a mesh whose answers the test chooses.

import { afterEach, describe, expect, test } from 'vitest';
import type { RolloutSummary } from '../../../../services/cli/kit/rollout-client.ts';
import { startRpcServer, type RpcServer } from '../rpc-server.ts';
import { runInside } from '../run-inside.ts';
import type { RunResult } from '../../../kit/tools/run.ts';

const BEGINNING: RolloutSummary = {
  plan: {
    serviceName: 'Search',
    toVersion: '2.0.0',
    fromVersion: '1.9.0',
    steps: [1, 5, 25, 50, 100],
    holdMs: 120_000,
    keepMs: 600_000,
    startMs: 120_000,
    guards: ['errors +0.5pt', 'p99 x1.3'],
    copiesFollow: true,
  },
  startedBy: 'admin',
  startedAtMs: Date.UTC(2026, 10, 30, 12),
  state: 'RUNNING',
  reason: '',
  step: 0,
  isHolding: false,
  share: 0,
  sinceMs: Date.UTC(2026, 10, 30, 12),
  waitsFor: '0 of 1 copies of 2.0.0 are alive',
  guards: [
    { guard: 'errors +0.5pt', isViolated: false, text: '' },
    { guard: 'p99 x1.3', isViolated: false, text: '' },
  ],
  passed: [],
  calls: 0,
  badCalls: 0,
  leader: 'master-1',
  notes: [],
};
const HOLDING: RolloutSummary = {
  ...BEGINNING,
  step: 2,
  isHolding: true,
  share: 25,
  waitsFor: 'holds 25 % for 1m 3s more',
  guards: [
    {
      guard: 'errors +0.5pt',
      isViolated: false,
      text: '0.2 % against 0.3 % in 3,210 calls of 2.0.0, no difference to be seen',
    },
    {
      guard: 'p99 x1.3',
      isViolated: false,
      text: '31 ms against 30 ms in 3,210 calls of 2.0.0, no difference to be seen',
    },
  ],
  passed: [
    { share: 1, atMs: 1, verdicts: ['errors: 0 % against 0.3 % in 240 calls of 2.0.0, no difference to be seen'] },
    { share: 5, atMs: 2, verdicts: ['errors: 0.2 % against 0.3 % in 1,200 calls of 2.0.0, no difference to be seen'] },
  ],
  calls: 4_650,
  badCalls: 9,
};
const REVERTED: RolloutSummary = {
  ...HOLDING,
  state: 'REVERTED',
  share: 0,
  reason: 'errors +0.5pt: 2.0.0 fails more often: 3.1 % against 0.3 % (difference 1.3 to 4.5 points, 99 %)',
  guards: BEGINNING.guards,
};

let server: RpcServer | undefined;
afterEach(async () => await server?.close());

/** Runs the command against a mesh that answers with these, the last one again and again. */
async function rollout(args: readonly string[], ...answers: readonly RolloutSummary[]): Promise<RunResult> {
  let at = 0;
  server = await startRpcServer(({ method }) => {
    const answer = answers[Math.min(at++, answers.length - 1)];
    return { result: method === 'getRollouts' ? (answer === undefined ? [] : [answer]) : answer };
  });
  const env = { KATAMARI_URL: server.url, KATAMARI_TOKEN: 'secret' };
  return await runInside(['rollout', ...args], { cwd: '/', env });
}

describe('katamari rollout', () => {
  test('begins a rollout, and prints its steps', async () => {
    const args = ['Search', '2.0.0', '--hold', '2m', '--copies', 'follow'];
    const run = await rollout([...args, '--guard', 'Errors+0.5pt', '--guard', 'p99 x1.3'], BEGINNING);
    expect(server?.asked).toMatchObject([
      { method: 'startRollout', params: { plan: { ...BEGINNING.plan, fromVersion: '' }, force: false } },
    ]);
    expect(run).toEqual({
      code: 0,
      stderr: '',
      stdout: `Search 1.9.0 -> 2.0.0  ▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱▱  0 %  running

 STEP  STATE    NOTE
  1 %  scaling  0 of 1 copies of 2.0.0 are alive
  5 %  -
 25 %  -
 50 %  -
100 %  -

0 of 0 calls of 2.0.0 went wrong.
Began at 2026-11-30T12:00:00.000Z, by admin; master-1 carries it out.
`,
    });
  });

  test('shows what each guard sees, and what it saw in the steps before', async () => {
    const { stdout } = await rollout(['Search'], HOLDING);
    expect(stdout).toContain('  5 %  held     errors: 0.2 % against 0.3 % in 1,200 calls of 2.0.0');
    expect(stdout).toContain(' 25 %  holding  holds 25 % for 1m 3s more');
    expect(stdout).toContain('p99 x1.3       31 ms against 30 ms in 3,210 calls of 2.0.0, no difference to be seen');
    expect(stdout).toContain('9 of 4,650 calls of 2.0.0 went wrong.');
  });

  test('--watch prints a line for each change, and exits with 1 after a revert', async () => {
    const run = await rollout(['Search', '--watch'], BEGINNING, HOLDING, HOLDING, REVERTED);
    expect(run.code).toBe(1);
    expect(run.stdout.split('\n').slice(0, 3)).toEqual([
      'Search 1.9.0 -> 2.0.0: running, 0 %, step 1 of 5: 0 of 1 copies of 2.0.0 are alive',
      'Search 1.9.0 -> 2.0.0: running, 25 %, step 3 of 5: holds',
      `Search 1.9.0 -> 2.0.0: reverted: ${REVERTED.reason}; 9 of 4,650 calls of 2.0.0 went wrong`,
    ]);
  });

  test('changes a rollout, and prints JSON', async () => {
    const run = await rollout(['Search', '--abort', '--json'], { ...HOLDING, state: 'ABORTED' });
    expect(server?.asked).toMatchObject([
      { method: 'changeRollout', params: { serviceName: 'Search', action: 'ABORT' } },
    ]);
    expect(JSON.parse(run.stdout)).toMatchObject({ state: 'ABORTED' });
  });

  test('says when a service has no rollout', async () => {
    expect(await rollout(['Search'])).toMatchObject({
      code: 1,
      stdout: 'Search has no rollout. Begin one with katamari rollout Search VERSION.\n',
    });
  });

  test('refuses what it cannot read before it asks the mesh', async () => {
    const refusals: readonly (readonly [readonly string[], string])[] = [
      [['2.0.0', '--abort'], 'Found both 2.0.0 and --abort, expected one of them'],
      [['--pause', '--abort'], 'Found both --pause and --abort, expected one of them'],
      [['2.0.0', '--steps', '1,x,100'], '--steps: found "x", expected percentages that rise to 100'],
      [['2.0.0', '--hold', '2'], '--hold: found "2", expected a duration with its unit'],
      [
        ['2.0.0', '--guard', 'erors +1pt'],
        '--guard: Cannot read the guard "erors +1pt": unknown metric "erors", did you mean "errors"',
      ],
      [['2.0.0', '--copies', 'some'], '--copies: found "some", expected follow or fixed'],
    ];
    for (const [args, why] of refusals) {
      const run = await rollout(['Search', ...args], BEGINNING);
      expect([run.code, server?.asked.length]).toEqual([2, 0]);
      expect(run.stderr).toContain(why);
      await server?.close();
      server = undefined;
    }
  });
});

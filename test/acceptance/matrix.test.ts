// A large part of the cross-language matrix: each client language against each chassis language in several of its
// transports and protocols. They differ for each chassis, so that all occur. The same calls are made over JSON-RPC.
// `npm run matrix` runs and prints the whole matrix.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cppPrograms, javaChassis, javaClient } from '../kit/matrix/build.ts';
import { returned, matrixCalls } from '../kit/matrix/calls.ts';
import { startMatrixMesh, thriftPort, type ChassisLanguage } from '../kit/matrix/chassis.ts';
import { LANGUAGES, mannersOf } from '../kit/matrix/languages.ts';
import { decodeParams, encodeResult } from '../../core/idl/json.ts';
import { decodeStruct, encodeStruct } from '../../core/idl/mod.ts';
import { runClient, runsOf } from '../kit/matrix/matrix.ts';
import type { TestMesh } from '../kit/mesh/mesh.ts';

const TRIED: readonly ChassisLanguage[] = ['TypeScript', 'Python', 'Ruby', 'C++', 'Java'];
/** A fifth of a client's runs for each of the five chassis; all runs of a client that has few. */
const SHARE = TRIED.length;
const FEW = 8;

function isTurn(run: number, runs: number, place: number, turn: number): boolean {
  // Plain and multiplexed runs alternate too.
  return runs <= FEW || (run + (run >> 1) + place) % SHARE === turn;
}

beforeAll(async () => {
  await javaClient();
  await javaChassis();
  await cppPrograms();
}, 300_000);

for (const [turn, chassis] of TRIED.entries()) {
  describe(`A chassis in ${chassis}`, () => {
    let mesh: TestMesh | undefined;
    beforeAll(async () => {
      mesh = await startMatrixMesh(chassis);
    });
    afterAll(() => mesh?.end());

    for (const [place, language] of LANGUAGES.entries()) {
      test(`gives a client in ${language} the expected replies, in each transport and protocol`, async () => {
        const all = runsOf(language, thriftPort(mesh as TestMesh));
        const runs = all.filter((_, n) => isTurn(n, all.length, place, turn));
        const results = await runClient(language, runs);
        expect(
          results.flatMap(({ run, differences }) =>
            differences.map((line) => `${run.transport} ${run.protocol} ${line}`),
          ),
        ).toEqual([]);
        expect(results.length).toBeGreaterThan(0);
        for (const { compared } of results) expect(compared).toBeGreaterThan(70);
      }, 120_000);
    }

    test('gives the same replies over JSON-RPC', async () => {
      const answers: string[] = [];
      const calls = matrixCalls(`json ${chassis}`);
      for (const { method, args } of calls) {
        const params = decodeParams(method, encodeStruct(method.args, args));
        const { result, error } = await (mesh as TestMesh).call(`Mirror.${method.name}`, params);
        if (error === undefined) {
          const bytes = encodeResult(method, { ok: true, value: result });
          answers.push(returned(method.returns, decodeStruct(method.result, bytes)['success']));
        } else if (error.code === -32_050) {
          const { exception, ...fields } = error.data ?? {};
          answers.push(`threw ${String(exception)} ${Object.keys(fields).sort().join()}`);
        } else {
          answers.push('error');
        }
      }
      // JSON has no minus zero. The Thrift clients compare the contents of exceptions.
      const expected = calls.map(({ title, expected: text }) =>
        title === 'real minus zero'
          ? 'ok "0000000000000000"'
          : text.startsWith('threw Refused')
            ? 'threw Refused code,level,why'
            : text.startsWith('threw Broken')
              ? 'threw Broken tree,why'
              : text,
      );
      expect(answers.filter((answer, n) => answer !== expected[n])).toEqual([]);
      expect(answers.length).toBe(expected.length);
    });
  });
}

test('Every transport and protocol of every client is used with some chassis', () => {
  for (const [place, language] of LANGUAGES.entries()) {
    const all = runsOf(language, 0);
    const seen = new Set(
      TRIED.flatMap((_, turn) => all.filter((__, n) => isTurn(n, all.length, place, turn))).map(
        ({ transport, protocol, multiplexed }) => `${transport} ${protocol} ${multiplexed}`,
      ),
    );
    expect(seen.size).toBe(mannersOf(language).length * 2);
  }
});

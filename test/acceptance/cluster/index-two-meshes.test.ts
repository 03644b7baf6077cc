// Two meshes share one Consul, each with an index of many shards: managers, faceplates and leaders of the one see
// nothing of the other, and every answer is whole.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ClientCallers } from '../../kit/cluster/client-callers.ts';
import { startCluster, type Cluster } from '../../kit/cluster/cluster.ts';
import { reportFailures } from '../../kit/cluster/failure-report.ts';
import { isTimeout, whyOf } from '../../kit/cluster/index-operator.ts';
import { seconds } from '../../kit/cluster/view.ts';
import { sized } from '../../kit/cluster/whole-tests.ts';
import { writeWords } from '../../kit/mesh/index-source.ts';
import { fixture, jsonRpc, type JsonRpcAnswer } from '../../kit/mesh/mesh.ts';
import { until } from '../../kit/tools/wait.ts';

const BUSY_MS = 300_000;
const LOADED_MS = 120_000;
const CALLERS = 15;
const CALLS = sized(400, 100);
/** Each has a master, a manager of two, and a faceplate with this number. */
const MESHES = [
  { mesh: 'test', number: 1, shards: 140 },
  { mesh: 'other', number: 2, shards: 70 },
] as const;
type OneMesh = (typeof MESHES)[number];

let folder: string;
let cluster: Cluster;
reportFailures(() => cluster);

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-meshes-'));
  for (const { mesh, shards } of MESHES) writeWords(path.join(folder, mesh), wordsOf(mesh, shards));
  cluster = await startCluster({
    consuls: 1,
    masters: 2,
    managers: 4,
    faceplates: 2,
    settings: (name) => ({
      mesh: MESHES[(Number(name.split('-')[1]) - 1) % MESHES.length]?.mesh,
      timeout: '10s',
      content: { sources: [pathToFileURL(folder).href] },
    }),
    deployments: [{ service: 'Words', version: '1.0.0', command: fixture('words.ts'), count: 1 }],
  });
}, BUSY_MS);
afterAll(async () => {
  await cluster?.end();
  rmSync(folder, { recursive: true, force: true });
}, BUSY_MS);

/** A kilobyte of words for each shard; place number `at` has "the" `at` times, and each mesh has a word of its own. */
function wordsOf(mesh: string, shards: number): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Array.from({ length: shards }, (_, at) => {
      const words = [...Array.from({ length: at }, () => 'the'), mesh];
      const text = words.join(' ');
      return [`part-${String(at).padStart(5, '0')}`, `${text} ${'x'.repeat(Math.max(0, 1_024 - text.length))}`];
    }),
  );
}

const totalOf = (shards: number): number => (shards * (shards - 1)) / 2;

function ask({ number }: OneMesh, method: string, params: Readonly<Record<string, unknown>>): Promise<JsonRpcAnswer> {
  return jsonRpc(`${cluster.process(`faceplate-${number}`).addresses.jsonRpc}/rpc`, method, params);
}

describe('Two meshes on one Consul', () => {
  test(
    'load an index of many shards each, at the same time',
    async () => {
      await Promise.all(
        MESHES.map(async (one) => {
          const version = { name: 'wiki', version: '1.0.0' };
          const source = pathToFileURL(path.join(folder, one.mesh)).href;
          const index = { ...version, source, contentService: 'Words', replicas: 2, promoteAtReplicas: 1 };
          let why = '';
          const isReady = async (): Promise<boolean> => {
            const { error } = await ask(one, 'KatamariIndices.planIndex', { token: cluster.adminToken, index });
            why = whyOf(error);
            return error === undefined || isTimeout(error);
          };
          await until(() => `both managers to have the content service: ${why}`, isReady, LOADED_MS);
          const startedAt = performance.now();
          const { error } = await ask(one, 'KatamariIndices.addIndex', { token: cluster.adminToken, index });
          // The work of a call that times out on a busy machine continues.
          if (!isTimeout(error)) expect(whyOf(error)).toBe('');
          let seen: unknown;
          await until(
            () => `${one.mesh} to be complete, seen ${JSON.stringify(seen)}`,
            async () => {
              const which = { token: cluster.adminToken, name: 'wiki', withShards: false };
              const { result, error: refusal } = await ask(one, 'KatamariIndices.getIndices', which);
              seen = result ?? whyOf(refusal);
              return (result as readonly { state: string }[] | undefined)?.[0]?.state === 'COMPLETE';
            },
            LOADED_MS,
          );
          console.log(
            `${one.mesh}: ${one.shards} shards, 2 replicas, complete after ${seconds(performance.now() - startedAt)}`,
          );
        }),
      );
    },
    BUSY_MS,
  );

  test(
    'answer every call of many callers with all shards of their own',
    async () => {
      const callers = MESHES.map(
        ({ mesh, number, shards }, at) =>
          new ClientCallers({
            addresses: [cluster.process(`faceplate-${number}`).addresses.thrift],
            callers: at === 0 ? Math.ceil(CALLERS / 2) : Math.floor(CALLERS / 2),
            service: 'wiki',
            callsMax: CALLS,
            call: async (service, caller) => {
              if (caller % 2 === 0) {
                const total = await service['total']?.({ word: 'the' });
                return total === totalOf(shards) ? '' : `${mesh}: ${String(total)}, expected ${totalOf(shards)}`;
              }
              const counts = (await service['count']?.({ word: mesh })) as ReadonlyMap<string, number>;
              const isWhole = counts.size === shards && [...counts.values()].every((count) => count === 1);
              return isWhole ? '' : `${mesh}: ${counts.size} shards in the answer, expected ${shards}`;
            },
          }),
      );
      await Promise.all(callers.map((own) => own.done()));
      for (const own of callers) {
        await own.stop();
        console.log(`${own.line}, p99 ${own.p99Ms().toFixed(0)} ms`);
        expect([...new Set(own.failed)]).toEqual([]);
        expect([...new Set(own.wrong)]).toEqual([]);
      }
      expect(callers.reduce((sum, { sent }) => sum + sent, 0)).toBe(CALLERS * CALLS);
    },
    BUSY_MS,
  );
});

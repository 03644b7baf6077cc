// What a cluster reports about its indices, for tests: the documents in Consul, the status that the admin service
// gives, and the files of the managers.

import { existsSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { HOLDINGS, keysOf, type HoldingsRecord } from '../../../services/mesh/mod.ts';
import { runKatamari, type RunResult } from '../tools/run.ts';
import type { Cluster } from './cluster.ts';
import { withoutSignature } from './view.ts';

const KEYS = keysOf('test');

/** Runs `katamari index ...` against the first faceplate. */
export function katamariIndex(cluster: Cluster, ...args: string[]): Promise<RunResult> {
  const url = cluster.faceplates[0]?.addresses.jsonRpc ?? '';
  return runKatamari(['index', ...args], { env: { KATAMARI_URL: url, KATAMARI_TOKEN: cluster.adminToken } });
}

/** Keys of Consul below `indices/`, `manifests/` and `routes/`. */
export async function indexKeys(cluster: Cluster): Promise<string[]> {
  const found = await Promise.all([KEYS.indices, KEYS.manifests, KEYS.routes].map((key) => entriesOf(cluster, key)));
  return found.flat().map(({ Key }) => Key);
}

/** What the managers told the leader, by name. */
export async function holdingsOf(cluster: Cluster): Promise<ReadonlyMap<string, HoldingsRecord>> {
  const entries = await entriesOf(cluster, KEYS.holdings);
  return new Map(
    entries.map(({ Key, Value }) => [
      Key.slice(KEYS.holdings.length),
      HOLDINGS.parse(JSON.parse(withoutSignature(Buffer.from(Value ?? '', 'base64').toString()))),
    ]),
  );
}

/** Served places by manager: `{ 'manager-1': '0-3' }`; without managers that serve none. */
export async function servedOf(cluster: Cluster, index: string): Promise<Record<string, string>> {
  const served = [...(await holdingsOf(cluster))].map(([name, { serving }]) => [name, serving[index] ?? ''] as const);
  return Object.fromEntries(served.filter(([, places]) => places !== '').sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Inodes of the files that a manager serves, by their paths below the folder of live shards. */
export function liveFiles(cluster: Cluster, manager: string): Record<string, number> {
  const live = path.join(cluster.process(manager).directory, 'data/shards/live');
  return Object.fromEntries(
    namesBelow(live).flatMap((name) => {
      // It may go meanwhile.
      const found = statSync(path.join(live, name), { throwIfNoEntry: false });
      return found?.isFile() === true ? [[name, found.ino] as const] : [];
    }),
  );
}

/** Names in the folder and below it. A folder that goes while it is read is read again. */
function namesBelow(folder: string, tries: number = 10): string[] {
  if (!existsSync(folder)) return [];
  try {
    return readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();
  } catch (error) {
    if (tries === 1) throw error;
    return namesBelow(folder, tries - 1);
  }
}

interface Entry {
  readonly Key: string;
  readonly Value: string | null;
}

async function entriesOf(cluster: Cluster, key: string): Promise<readonly Entry[]> {
  const response = await cluster.consul.ask(`/v1/kv/${key}?recurse&consistent`);
  return response.status === 404 ? [] : ((await response.json()) as readonly Entry[]);
}

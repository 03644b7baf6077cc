// What an operator does with the indices of a cluster, through the first faceplate that runs, and waits for what
// becomes of it.

import { jsonRpc, type JsonRpcAnswer } from '../mesh/mesh.ts';
import { until } from '../tools/wait.ts';
import type { Cluster } from './cluster.ts';
import { indexKeys, servedOf } from './index-view.ts';

export interface AddedVersion {
  /** URL of the folder of shards. */
  readonly source: string;
  readonly contentService: string;
  readonly replicas: number;
  /** 0: it gets calls that name no version when somebody promotes it. */
  readonly promoteAtReplicas: number;
}

export class IndexOperator {
  readonly #cluster: Cluster;
  readonly #name: string;

  /** @param name of the index */
  constructor(cluster: Cluster, name: string) {
    this.#cluster = cluster;
    this.#name = name;
  }

  ask(method: string, params: Readonly<Record<string, unknown>>): Promise<JsonRpcAnswer> {
    const faceplate = this.#cluster.faceplates.find(({ isRunning }) => isRunning);
    return jsonRpc(`${faceplate?.addresses.jsonRpc}/rpc`, method, params);
  }

  /** Waits until a version could be added: the managers have the content service, and the faceplate knows it. */
  async untilAddable(version: string, added: AddedVersion): Promise<void> {
    const index = { name: this.#name, version, ...added };
    let why = '';
    await until(
      () => `${this.#name}@${version} to be addable: ${why}`,
      async () => {
        const { error } = await this.ask('KatamariIndices.planIndex', { token: this.#cluster.adminToken, index });
        why = error?.message ?? '';
        return error === undefined;
      },
    );
  }

  /** Adds a version. If the call times out on a busy machine, its work continues, and this waits for the end of it. */
  async add(version: string, added: AddedVersion): Promise<void> {
    const method = 'KatamariIndices.addIndex';
    const index = { name: this.#name, version, ...added };
    const { error } = await this.ask(method, { token: this.#cluster.adminToken, index });
    if (error === undefined) return;
    if (error.data?.['code'] !== 'timeout') throw new Error(`${method}: ${error.message}`);
    await until(`${this.#name}@${version} to be added`, async () =>
      (await indexKeys(this.#cluster)).some((key) => key.endsWith(`indices/${this.#name}/${version}`)),
    );
  }

  async remove(version: string): Promise<void> {
    await this.#do('KatamariIndices.removeIndex', { name: this.#name, version });
  }

  async promote(version: string): Promise<void> {
    await this.#do('KatamariIndices.promoteIndex', { name: this.#name, version, force: false });
  }

  async replicate(version: string, replicas: number): Promise<void> {
    await this.#do('KatamariIndices.setIndexReplicas', { name: this.#name, version, replicas });
  }

  /** Splits the calls that name no version. */
  async split(weights: Readonly<Record<string, number>>): Promise<void> {
    await this.#do('Katamari.setRoute', { route: { serviceName: this.#name, weights } });
  }

  /** Waits until each of so many shards has so many holders, and no more. Returns the served places by manager. */
  async untilReplicas(version: string, shards: number, replicas: number): Promise<Readonly<Record<string, number[]>>> {
    let seen: Record<string, string> = {};
    return await until(
      () => `${replicas} replicas of each shard of ${this.#name}@${version}, seen ${JSON.stringify(seen)}`,
      async () => {
        seen = await servedOf(this.#cluster, `${this.#name}@${version}`);
        const places = Object.fromEntries(Object.entries(seen).map(([name, text]) => [name, placesIn(text)]));
        const counts = Array.from(
          { length: shards },
          (_, place) => Object.values(places).filter((own) => own.includes(place)).length,
        );
        return counts.every((count) => count === replicas) ? places : undefined;
      },
      UNTIL_MS,
    );
  }

  /**
   * Waits until the managers themselves say that each shard has its replicas. Consul may still have what a manager
   * said before it was killed.
   */
  async untilComplete(version: string): Promise<void> {
    const asked = { token: this.#cluster.adminToken, name: this.#name, withShards: false };
    let seen: unknown;
    await until(
      () => `${this.#name}@${version} to be complete, seen ${JSON.stringify(seen)}`,
      async () => {
        const { result, error } = await this.ask('KatamariIndices.getIndices', asked);
        if (error !== undefined) throw new Error(error.message);
        const found = (result as readonly IndexState[]).find((one) => one.version === version);
        seen = found?.state;
        return seen === 'COMPLETE';
      },
      UNTIL_MS,
    );
  }

  async #do(method: string, params: Readonly<Record<string, unknown>>): Promise<void> {
    const { error } = await this.ask(method, { token: this.#cluster.adminToken, ...params });
    if (error !== undefined) throw new Error(`${method}: ${error.message}`);
  }
}

interface IndexState {
  readonly version: string;
  readonly state: string;
}

/** `0-2,5` as numbers. */
function placesIn(text: string): number[] {
  return text.split(',').flatMap((part) => {
    const [first = 0, last = first] = part.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, at) => first + at);
  });
}

const UNTIL_MS = 60_000;

// What an operator does with the indices of a cluster, through the first faceplate that runs, and waits for what
// becomes of it.

import { ERROR_TABLE } from '../../../core/mod.ts';
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
        why = whyOf(error);
        // A manager lists the source then, which can take longer than a call may.
        return error === undefined || isTimeout(error);
      },
      UNTIL_MS,
    );
  }

  /**
   * Adds a version. On a busy machine a manager may be out of reach for a moment, or its content server may have been
   * replaced: then this waits until the version can be added again.
   */
  async add(version: string, added: AddedVersion): Promise<void> {
    for (let tries = 1; ; tries++) {
      const why = await this.#tryAdd(version, added);
      if (why === '') return;
      if (tries === ADD_TRIES_MAX) throw new Error(`${this.#name}@${version} is not added: ${why}`);
      await this.untilAddable(version, added);
    }
  }

  /** Returns why the version was not added. If the call times out, its work continues, and this waits for its end. */
  async #tryAdd(version: string, added: AddedVersion): Promise<string> {
    const index = { name: this.#name, version, ...added };
    const { error } = await this.ask('KatamariIndices.addIndex', { token: this.#cluster.adminToken, index });
    if (!isTimeout(error)) return whyOf(error);
    await until(
      `${this.#name}@${version} to be added`,
      async () => (await indexKeys(this.#cluster)).some((key) => key.endsWith(`indices/${this.#name}/${version}`)),
      UNTIL_MS,
    );
    return '';
  }

  async remove(version: string): Promise<void> {
    await this.#do('KatamariIndices.removeIndex', { name: this.#name, version }, 'no_pool');
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
      ASK_EVERY_MS,
    );
  }

  /**
   * Waits until the managers themselves say that each shard has its replicas. Consul may still have what a manager
   * said before it was killed.
   */
  async untilComplete(version: string): Promise<void> {
    let seen: unknown;
    await until(
      () => `${this.#name}@${version} to be complete, seen ${JSON.stringify(seen)}`,
      async () => (seen = (await this.#stateOf(version))?.state) === 'COMPLETE',
      UNTIL_MS,
      ASK_EVERY_MS,
    );
  }

  /** Bytes of all its shards. */
  async bytesOf(version: string): Promise<number> {
    return (await this.#knownState(version)).bytes;
  }

  /** What keeps it from having its replicas. */
  async conditionsOf(version: string): Promise<readonly string[]> {
    return (await this.#knownState(version)).conditions;
  }

  #knownState(version: string): Promise<IndexState> {
    return until(`the state of ${this.#name}@${version}`, () => this.#stateOf(version), UNTIL_MS);
  }

  /** Undefined when there is no such version, or when the call has timed out because a manager does not answer. */
  async #stateOf(version: string): Promise<IndexState | undefined> {
    const asked = { token: this.#cluster.adminToken, name: this.#name, withShards: false };
    const { result, error } = await this.ask('KatamariIndices.getIndices', asked);
    if (isTimeout(error)) return undefined;
    if (error !== undefined) throw new Error(whyOf(error));
    return (result as readonly IndexState[]).find((one) => one.version === version);
  }

  /**
   * Makes a change that may be made twice. If the call times out on a busy machine, it is sent again.
   * @param done what a further call is refused with when the one before has made the change
   */
  async #do(method: string, params: Readonly<Record<string, unknown>>, done?: string): Promise<void> {
    let hasTimedOut = false;
    await until(
      `${method} of ${this.#name} to be done`,
      async () => {
        const { error } = await this.ask(method, { token: this.#cluster.adminToken, ...params });
        if (error === undefined) return true;
        if (hasTimedOut && done !== undefined && error.data?.['code'] === done) return true;
        if (!isTimeout(error)) throw new Error(`${method}: ${whyOf(error)}`);
        hasTimedOut = true;
        return false;
      },
      UNTIL_MS,
    );
  }
}

interface IndexState {
  readonly version: string;
  readonly state: string;
  readonly bytes: number;
  readonly conditions: readonly string[];
}

/** Whether the call has timed out. Its work continues then. */
export function isTimeout(error: JsonRpcAnswer['error']): boolean {
  return error?.code === ERROR_TABLE.timeout.jsonRpc;
}

/** '' without an error. */
export function whyOf(error: JsonRpcAnswer['error']): string {
  const why = error?.data?.['why'];
  return typeof why === 'string' ? why : (error?.message ?? '');
}

/** `0-2,5` as numbers. */
function placesIn(text: string): number[] {
  return text.split(',').flatMap((part) => {
    const [first = 0, last = first] = part.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, at) => first + at);
  });
}

/** A manager may take a minute to list a source. */
const UNTIL_MS = 90_000;
/** Each look takes time of a faceplate, a master and every manager. */
const ASK_EVERY_MS = 100;
const ADD_TRIES_MAX = 3;

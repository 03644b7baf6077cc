// The admin service for indices (idl/indices.thrift) for commands.

import { describeDuration, sleep } from '../../../core/mod.ts';
import { EXIT, ExitError } from '../../config/mod.ts';
import type { AdminClient } from './admin-client.ts';

export interface NewIndex {
  readonly name: string;
  readonly version: string;
  readonly source: string;
  readonly contentService: string;
  /** Absent: as many as is usual. */
  readonly replicas?: number;
  readonly promoteAtReplicas: number;
}

export type IndexStateName = 'LOADING' | 'COMPLETE' | 'DEGRADED' | 'INCOMPLETE';

/** One version of an index. */
export interface IndexSummary {
  readonly name: string;
  readonly version: string;
  readonly source: string;
  readonly contentService: string;
  readonly replicas: number;
  /** Replicas that each shard has. */
  readonly replicasServed: number;
  /** Managers that may hold its shards now. */
  readonly holders: number;
  /** The only managers that may hold its shards; empty for any. */
  readonly pinnedTo: readonly string[];
  readonly promoteAtReplicas: number;
  readonly state: IndexStateName;
  readonly conditions: readonly string[];
  readonly share: number;
  readonly entries: number;
  readonly bytes: number;
  readonly shards: number;
  readonly served: number;
  readonly readyInMs?: number;
  readonly addedAtMs: number;
  readonly addedBy: string;
  readonly bytesDone: number;
  readonly bytesWanted: number;
  /** Equal for versions with the same shards. */
  readonly manifest: string;
  readonly shardList: readonly ShardSummary[];
}

export interface ShardSummary {
  readonly name: string;
  readonly bytes: number;
  readonly entries: number;
  readonly digest: string;
  readonly replicas: readonly {
    readonly manager: string;
    readonly state: string;
    readonly bytesDone: number;
    readonly why: string;
    readonly tries: number;
    readonly nextTryInMs: number;
  }[];
}

/** A version after a change. */
export interface ChangedIndex {
  readonly status: IndexSummary;
  readonly warnings: readonly string[];
}

export interface AddedIndex extends ChangedIndex {
  readonly isNew: boolean;
}

export interface PlannedManager {
  readonly manager: string;
  readonly shards: readonly string[];
  readonly bytes: number;
}

export type IndexNodeStateName = 'UP' | 'NO_CONTENT_SERVICE' | 'DRAINED' | 'LEAVING' | 'SILENT' | 'AWAY';

/** A manager as a holder of shards. */
export interface IndexNodeSummary {
  readonly manager: string;
  readonly machine: string;
  readonly state: IndexNodeStateName;
  readonly serving: number;
  readonly fetching: number;
  readonly backingOff: number;
  readonly bytes: number;
  /** Absent while unknown. */
  readonly freeBytes?: number;
  readonly indices: readonly string[];
  readonly problems: readonly string[];
}

/** A document in Consul. */
export interface StoredIndexDocument {
  readonly key: string;
  readonly modifyIndex: number;
  readonly text: string;
  readonly problem: string;
}

/** The check of a shard on a manager. */
export interface VerifiedReplica {
  /** `wiki@3.0.0/part-00017` */
  readonly shard: string;
  readonly manager: string;
  readonly state: 'WAITING' | 'CHECKING' | 'INTACT' | 'DAMAGED' | 'UNKNOWN';
  readonly bytes: number;
  readonly bytesDone: number;
  readonly why: string;
  /** State of the replica: serving, or gone. */
  readonly replica: string;
}

export interface IndexVerification {
  readonly id: string;
  readonly replicas: readonly VerifiedReplica[];
  /** Managers that have not answered. */
  readonly silent: readonly string[];
}

export class IndexClient {
  readonly #client: AdminClient;

  constructor(client: AdminClient) {
    this.#client = client;
  }

  /**
   * Adds a version. A call that takes longer than the mesh allows ends with a timeout, but its work continues: then
   * this waits until the version is there.
   * @throws ExitError when it is not there after `withinMs`
   */
  async add(index: NewIndex, withinMs: number = INSPECT_MS): Promise<AddedIndex> {
    const end = performance.now() + withinMs;
    const added = await this.#tryAdd(index);
    if (added !== undefined) return added;
    const { name, version } = index;
    do {
      const isThere = (await this.known(false)).some((one) => one.name === name && one.version === version);
      // The same again changes nothing, and is refused if another admin has added something else.
      const again = isThere ? await this.#tryAdd(index) : undefined;
      if (again !== undefined) return { ...again, isNew: true };
      await sleep(POLL_EVERY_MS);
    } while (performance.now() < end);
    throw new ExitError(
      EXIT.failed,
      `${name}@${version} is not added after ${describeDuration(withinMs)}: the mesh could not list its source, or ` +
        `could not write to Consul. The audit log of the faceplate has the reason: katamari audit, on its machine`,
    );
  }

  /** Undefined after a timeout. */
  async #tryAdd(index: NewIndex): Promise<AddedIndex | undefined> {
    return (await this.#client.indices('addIndex', { index }, INSPECT_MS, true)) as AddedIndex | undefined;
  }

  /** Looks at a source on a manager. */
  async inspect(source: string, contentService: string): Promise<{ readonly manifest: string }> {
    return (await this.#client.indices('inspectSource', { source, contentService }, INSPECT_MS)) as {
      manifest: string;
    };
  }

  async plan(
    index: NewIndex,
  ): Promise<{ readonly managers: PlannedManager[]; readonly conditions: readonly string[] }> {
    return (await this.#client.indices('planIndex', { index }, INSPECT_MS)) as Awaited<ReturnType<IndexClient['plan']>>;
  }

  async replicate(name: string, version: string, replicas: number): Promise<ChangedIndex> {
    return (await this.#client.indices('setIndexReplicas', { name, version, replicas })) as ChangedIndex;
  }

  /** @param managers none for any manager */
  async pin(name: string, version: string, managers: readonly string[], force: boolean): Promise<ChangedIndex> {
    return (await this.#client.indices('pinIndex', { name, version, managers, force })) as ChangedIndex;
  }

  async promote(name: string, version: string, force: boolean): Promise<ChangedIndex> {
    return (await this.#client.indices('promoteIndex', { name, version, force })) as ChangedIndex;
  }

  async remove(name: string, version: string): Promise<void> {
    await this.#client.indices('removeIndex', { name, version });
  }

  /** Has the managers check the files of an index. @param version, shard '' for all */
  async verify(name: string, version: string, shard: string): Promise<IndexVerification> {
    return (await this.#client.indices('verifyIndex', { name, version, shard })) as IndexVerification;
  }

  /** What a check has found so far. */
  async verification(id: string): Promise<IndexVerification> {
    return (await this.#client.indices('getVerification', { id })) as IndexVerification;
  }

  /** The versions of all indices; none when the mesh is of an older version, or cannot tell. */
  async known(withShards: boolean): Promise<IndexSummary[]> {
    const found: unknown = await this.status('', withShards).catch(() => undefined);
    return Array.isArray(found) ? (found as IndexSummary[]) : [];
  }

  async nodes(): Promise<IndexNodeSummary[]> {
    return (await this.#client.indices('getIndexNodes', {})) as IndexNodeSummary[];
  }

  /** The documents of a version in Consul. */
  async documents(name: string, version: string): Promise<StoredIndexDocument[]> {
    return (await this.#client.indices('getIndexDocuments', { name, version })) as StoredIndexDocument[];
  }

  /**
   * Returns the versions of an index. While a manager does not answer, that may take longer than the mesh allows, so
   * it is tried again for a few seconds: soon the mesh knows that it need not wait for that manager.
   * @param name '' for all
   */
  async status(name: string, withShards: boolean): Promise<IndexSummary[]> {
    const end = performance.now() + SILENT_MS;
    for (;;) {
      const mayRetry = performance.now() < end;
      const found = await this.#client.indices('getIndices', { name, withShards }, undefined, mayRetry);
      if (found !== undefined) return found as IndexSummary[];
      await sleep(POLL_EVERY_MS);
    }
  }
}

/** A manager lists a source within a minute. */
const INSPECT_MS = 80_000;
/** Longer than the mesh needs to find out that a manager does not answer. */
const SILENT_MS = 8_000;
const POLL_EVERY_MS = 300;

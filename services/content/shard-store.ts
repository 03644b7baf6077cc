// The shards of one manager on its disk. A shard is fetched into `part/`, appears whole in `live/` by a rename, and
// waits in `old/` after its removal. A process that is killed at any moment leaves no half shard in `live/`.
//
// Content servers may run as other users. So whoever may enter the root folder can read the shards, but not write. The
// root folder is for the user of the mesh alone, unless an operator opens it.

import { existsSync } from 'node:fs';
import { chmod, mkdir, readdir, rename, rm, rmdir, stat, statfs } from 'node:fs/promises';
import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { syncFolder } from '../../core/mod.ts';
import { OLD_KEPT_MS } from './limits.ts';
import { fullNameOf, whyNoShardName } from './shard-name.ts';
import type { ShardOrder } from './shard.ts';
import { CONTENT, FOLDER_MODE, RECORD } from './shard-folder.ts';
import { findOddFile, readShardRecord, type ShardRecord } from './shard-record.ts';

/** Names a shard on the disk. */
export type ShardId = Pick<ShardOrder, 'indexVersion' | 'name'>;

export class ShardStore {
  readonly #root: string;

  /** @param root folder that this store alone uses; it is created when it is needed */
  constructor(root: string) {
    this.#root = root;
  }

  /** Folder or file that a content server opens. */
  contentPath(shard: ShardId): string {
    return path.join(this.#live(shard), CONTENT);
  }

  /** Folder into which a shard is fetched: the files as `content`, and `shard.json` last. */
  partPath(shard: ShardId): string {
    return this.#at('part', shard);
  }

  /** Bytes that an interrupted fetch has left. */
  async partBytes(shard: ShardId): Promise<number> {
    const folder = this.partPath(shard);
    const names = await readdir(folder, { recursive: true }).catch(() => []);
    let bytes = 0;
    for (const name of names) {
      const found = await stat(path.join(folder, name)).catch(() => undefined);
      if (found?.isFile() === true) bytes += found.size;
    }
    return bytes;
  }

  /**
   * Whether the shard is here whole: with these files, and each in its size. It reads no content.
   * @param onDamaged called with what is wrong when it is here, and not whole
   */
  async has(
    order: ShardId & Pick<ShardOrder, 'digest'>,
    onDamaged: (what: string) => void = () => undefined,
  ): Promise<boolean> {
    return await isWhole(this.#live(order), order.digest, onDamaged);
  }

  /** What is known of the files of a shard; undefined when it is not here. */
  recordOf(shard: ShardId): ShardRecord | undefined {
    return readShardRecord(this.#live(shard));
  }

  /** Removes the record of a shard whose files are damaged: it is not here any more, also for the next process. */
  async distrust(shard: ShardId): Promise<void> {
    await rm(path.join(this.#live(shard), RECORD), { force: true });
  }

  /** Renames a fetched shard into `live/`. Rejects with the error of the system. */
  async commit(shard: ShardId): Promise<void> {
    await this.discard(shard);
    await this.#move(this.partPath(shard), this.#live(shard));
  }

  /** Deletes the files of a shard that cannot be used. */
  async discard(shard: ShardId): Promise<void> {
    await this.#delete(this.#live(shard));
  }

  /** Folder of a whole shard: its `content`, and `shard.json`. */
  livePath(shard: ShardId): string {
    return this.#at('live', shard);
  }

  /** Moves a shard that is not served any more to `old/`. */
  async retire(shard: ShardId): Promise<void> {
    await this.#delete(this.partPath(shard));
    if (!existsSync(this.#live(shard))) return;
    await this.#delete(this.#old(shard));
    await this.#move(this.#live(shard), this.#old(shard));
    await this.#removeEmpty('part', 'live');
  }

  /** Brings a shard back from `old/`. Returns false when it is not there with these files. */
  async restore(order: ShardId & Pick<ShardOrder, 'digest'>): Promise<boolean> {
    if (!(await isWhole(this.#old(order), order.digest, () => undefined))) return false;
    await this.discard(order);
    await this.#move(this.#old(order), this.#live(order));
    return true;
  }

  /** Every whole shard. */
  async list(): Promise<readonly ShardId[]> {
    return await this.#listIn('live');
  }

  /** Deletes what was fetched of shards that are not wanted. */
  async deleteParts(isWanted: (shard: ShardId) => boolean): Promise<void> {
    for (const shard of await this.#listIn('part')) if (!isWanted(shard)) await this.#delete(this.partPath(shard));
    await this.#removeEmpty('part');
  }

  /** Deletes the shards that have been in `old/` for an hour, or all of them when space is needed. */
  async sweepOld(nowUnixMs: number, isSpaceNeeded = false): Promise<void> {
    for (const shard of await this.#listIn('old')) {
      const folder = this.#old(shard);
      const movedAtMs = (await stat(folder).catch(() => undefined))?.ctimeMs ?? 0;
      if (isSpaceNeeded || nowUnixMs - movedAtMs > OLD_KEPT_MS) await this.#delete(folder);
    }
    // What a process that was killed has begun to delete.
    await rm(path.join(this.#root, 'trash'), { recursive: true, force: true });
    await this.#removeEmpty('old');
  }

  /** Bytes that are free on the disk. */
  async freeBytes(): Promise<number> {
    await mkdir(this.#root, { recursive: true, mode: 0o700 });
    const { bavail, bsize } = await statfs(this.#root);
    return bavail * bsize;
  }

  #live(shard: ShardId): string {
    return this.#at('live', shard);
  }

  #old(shard: ShardId): string {
    return this.#at('old', shard);
  }

  #at(part: string, { indexVersion, name }: ShardId): string {
    if (!INDEX_VERSION.test(indexVersion) || whyNoShardName(name) !== undefined)
      throw new Error(`${JSON.stringify(`${indexVersion}/${name}`)} cannot be the name of a shard`);
    return path.join(this.#root, part, indexVersion, name);
  }

  /** Renames before it deletes: a folder that is deleted in part would look whole. */
  async #delete(folder: string): Promise<void> {
    if (!existsSync(folder)) return;
    const trash = path.join(this.#root, 'trash');
    await mkdir(trash, { recursive: true, mode: 0o700 });
    const doomed = path.join(trash, randomUUID());
    await rename(folder, doomed);
    await rm(doomed, { recursive: true, force: true });
  }

  async #move(from: string, to: string): Promise<void> {
    const folder = path.dirname(to);
    await mkdir(folder, { recursive: true, mode: FOLDER_MODE });
    // Whatever the umask is.
    for (const one of [path.dirname(folder), folder]) await chmod(one, FOLDER_MODE);
    await rename(from, to);
    // The rename is durable when both folders are.
    for (const folder of [path.dirname(to), path.dirname(from)]) await syncFolder(folder);
  }

  async #listIn(part: string): Promise<readonly ShardId[]> {
    const found: ShardId[] = [];
    const folder = path.join(this.#root, part);
    for (const indexVersion of await namesIn(folder))
      for (const name of await namesIn(path.join(folder, indexVersion))) {
        // Other entries are not of this store.
        if (INDEX_VERSION.test(indexVersion) && whyNoShardName(name) === undefined) found.push({ indexVersion, name });
      }
    return found.sort((a, b) => (fullNameOf(a) < fullNameOf(b) ? -1 : 1));
  }

  /** Removes the folders of index versions that have no shard left. */
  async #removeEmpty(...parts: readonly string[]): Promise<void> {
    for (const part of parts) {
      for (const indexVersion of await namesIn(path.join(this.#root, part))) {
        const folder = path.join(this.#root, part, indexVersion);
        // Fails when something has been moved in meanwhile.
        if ((await namesIn(folder)).length === 0) await rmdir(folder).catch(() => undefined);
      }
    }
  }
}

async function isWhole(folder: string, digest: string, onDamaged: (what: string) => void): Promise<boolean> {
  const record = readShardRecord(folder);
  if (record?.digest !== digest) return false;
  const what = await findOddFile(folder, record);
  if (what !== '') onDamaged(what);
  return what === '';
}

async function namesIn(folder: string): Promise<readonly string[]> {
  return await readdir(folder).catch(() => []);
}

/** `name@version`, as a folder. */
const INDEX_VERSION = /^[A-Za-z_][A-Za-z0-9_]*@[0-9A-Za-z.+-]+$/;

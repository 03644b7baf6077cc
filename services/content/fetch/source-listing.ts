// Lists the shards of a source and checks what was found: names, numbers and paths. A digest of paths, sizes and stamps
// tells later whether a shard is still the one that was listed.

import { createHash } from 'node:crypto';
import { SHARDS_MAX } from '../../../core/mod.ts';
import { SHARD_DEPTH_MAX, SHARD_FILES_MAX } from '../limits.ts';
import { whyNoShardName } from '../shard-name.ts';
import { SourceError, type ListedFile, type ShardSource } from './shard-source.ts';

export interface ListedShard {
  readonly name: string;
  /** URL of the shard. */
  readonly source: string;
  readonly bytes: number;
  readonly digest: string;
  readonly files: readonly ListedFile[];
}

/** Lists all shards of a source, in order of their names. @throws SourceError that says what to change */
export async function listSource(source: string, reader: ShardSource): Promise<readonly ListedShard[]> {
  const found = [...(await reader.listShards(source))].sort((a, b) => (a.name < b.name ? -1 : 1));
  if (found.length === 0)
    throw new SourceError(`${source} is empty, expected a folder in which each folder or file is a shard`);
  if (found.length > SHARDS_MAX)
    throw new SourceError(`${source} has ${found.length} shards, the limit is ${SHARDS_MAX}`);
  const shards = found.map(({ name, files }, at) => {
    const why = whyNoShardName(name) ?? (found[at - 1]?.name === name ? 'it is there twice' : undefined);
    if (why !== undefined) throw new SourceError(`${JSON.stringify(name)} in ${source} cannot be a shard: ${why}`);
    return describe(name, `${source.replace(/\/$/, '')}/${name}`, files);
  });
  const bytes = shards.reduce((sum, shard) => sum + shard.bytes, 0);
  if (bytes > SOURCE_BYTES_MAX) throw new SourceError(`${source} has ${tooLarge(bytes)}`);
  return shards;
}

/** Lists one shard. @param source URL of the shard @throws SourceError that says what to change */
export async function listShard(name: string, source: string, reader: ShardSource): Promise<ListedShard> {
  return describe(name, source, await reader.listFiles(source));
}

function describe(name: string, source: string, found: readonly ListedFile[]): ListedShard {
  const files = [...found].sort((a, b) => (a.path < b.path ? -1 : 1));
  const why = whyNoFiles(files);
  if (why !== undefined) throw new SourceError(`${source} ${why}`);
  const digest = createHash('sha256');
  for (const file of files) digest.update(JSON.stringify([file.path, file.bytes, file.stamp]));
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  if (bytes > SOURCE_BYTES_MAX) throw new SourceError(`${source} has ${tooLarge(bytes)}`);
  return { name, source, bytes, digest: digest.digest('hex').slice(0, DIGEST_LENGTH), files };
}

function tooLarge(bytes: number): string {
  return `files of ${bytes} bytes, the limit is ${SOURCE_BYTES_MAX}; see whether its list is right`;
}

/** Why these cannot be the files of a shard; undefined when they can. */
export function whyNoFiles(files: readonly Pick<ListedFile, 'path'>[]): string | undefined {
  if (files.length === 0) return 'has no files';
  if (files.length > SHARD_FILES_MAX) return `has ${files.length} files, the limit is ${SHARD_FILES_MAX} for one shard`;
  if (files.length === 1 && files[0]?.path === '') return undefined;
  const paths = new Set<string>();
  for (const { path } of files) {
    const why = paths.has(path) ? 'is there twice' : whyNoPath(path);
    if (why !== undefined) return `has the file ${shownPath(path)}, which ${why}`;
    paths.add(path);
  }
  for (const { path } of files) {
    for (let end = path.indexOf('/'); end !== -1; end = path.indexOf('/', end + 1))
      if (paths.has(path.slice(0, end))) return `has ${shownPath(path.slice(0, end))} both as a file and as a folder`;
  }
  return undefined;
}

/** A path from a source must stay below the folder of its shard, on every file system. */
function whyNoPath(path: string): string | undefined {
  if (Buffer.byteLength(path) > PATH_BYTES_MAX) return `is longer than ${PATH_BYTES_MAX} bytes`;
  // oxlint-disable-next-line no-control-regex -- These are what is looked for.
  if (/[\\\u0000-\u001f\u007f]/.test(path)) return 'has a backslash or a control character in its name';
  if (/\p{Surrogate}/u.test(path)) return 'has a name that is not UTF-8';
  const steps = path.split('/');
  if (steps.some((step) => step === '' || step === '.' || step === '..')) return 'is not a plain path below the shard';
  if (steps.some((step) => Buffer.byteLength(step) > STEP_BYTES_MAX))
    return `has a name of more than ${STEP_BYTES_MAX} bytes`;
  if (steps.length > SHARD_DEPTH_MAX) return `is more than ${SHARD_DEPTH_MAX} folders deep`;
  return undefined;
}

function shownPath(path: string): string {
  return JSON.stringify(path.length > PATH_SHOWN ? `${path.slice(0, PATH_SHOWN)}...` : path);
}

/** Bytes of a source: a PiB. Sums over several sources stay exact. */
const SOURCE_BYTES_MAX: number = 2 ** 50;
/** Characters of a digest: 96 bits. */
const DIGEST_LENGTH = 24;
const PATH_BYTES_MAX = 1_024;
const STEP_BYTES_MAX = 255;
const PATH_SHOWN = 100;

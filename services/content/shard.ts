// A shard of an index version as the leader orders it, and the rules for names of shards.

import { isVersionMatch } from '../mesh/mod.ts';
import { SHARD_NAME_MAX } from './limits.ts';

/** One shard that a manager has to serve. */
export interface ShardOrder {
  /** `name@version` */
  readonly indexVersion: string;
  /** Name of the shard within the version. */
  readonly name: string;
  /** SHA-256 of the list of all shards of the version. */
  readonly manifest: string;
  /** Its place in this list, from 0. */
  readonly place: number;
  /** URL of the folder or file of the shard. */
  readonly source: string;
  readonly bytes: number;
  /** Hash of the names, sizes and times of its files when the version was added. */
  readonly digest: string;
  /** Name of the content service that opens it, and the range of its versions. */
  readonly contentService: string;
  readonly contentRange: string;
}

/** `name@version/shard`: the name that content servers and answers use. */
export function fullNameOf({ indexVersion, name }: Pick<ShardOrder, 'indexVersion' | 'name'>): string {
  return `${indexVersion}/${name}`;
}

/** Whether a chassis can open the shard. */
export function isServedBy(
  { contentService, contentRange }: Pick<ShardOrder, 'contentService' | 'contentRange'>,
  { service, version }: { readonly service: string; readonly version: string },
): boolean {
  return service === contentService && isVersionMatch(version, contentRange);
}

/** Why a name cannot be that of a shard; undefined if it can. It becomes the name of a folder. */
export function whyNoShardName(name: string): string | undefined {
  if (name.length > SHARD_NAME_MAX) return `it has ${name.length} characters, the limit is ${SHARD_NAME_MAX}`;
  if (SHARD_NAME.test(name)) return undefined;
  return 'it may have letters, digits, ".", "_" and "-", and begins with a letter, a digit or "_"';
}

const SHARD_NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]*$/;

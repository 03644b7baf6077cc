// Names of shards.

import { SHARD_NAME_MAX } from './limits.ts';
import type { ShardOrder } from './shard.ts';

/** `name@version/shard`: the name that content servers and answers use. */
export function fullNameOf({ indexVersion, name }: Pick<ShardOrder, 'indexVersion' | 'name'>): string {
  return `${indexVersion}/${name}`;
}

/** Why a name cannot be that of a shard; undefined if it can. It becomes the name of a folder. */
export function whyNoShardName(name: string): string | undefined {
  if (name.length > SHARD_NAME_MAX) return `it has ${name.length} characters, the limit is ${SHARD_NAME_MAX}`;
  if (SHARD_NAME.test(name)) return undefined;
  return 'it may have letters, digits, ".", "_" and "-", and begins with a letter, a digit or "_"';
}

const SHARD_NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]*$/;

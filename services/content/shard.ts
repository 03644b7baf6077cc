// A shard of an index version as the leader orders it.

import { isVersionMatch } from '../mesh/mod.ts';

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

/** Whether a chassis can open the shard. */
export function isServedBy(
  { contentService, contentRange }: Pick<ShardOrder, 'contentService' | 'contentRange'>,
  { service, version }: { readonly service: string; readonly version: string },
): boolean {
  return service === contentService && isVersionMatch(version, contentRange);
}

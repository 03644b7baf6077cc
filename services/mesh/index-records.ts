// Documents of sharded indices in Consul, as zod schemas.

import { z } from 'zod';
import { SHARDS_MAX } from '../../core/mod.ts';

/** `indices/<name>/<version>`: an index version that the mesh is to serve. Only its replicas and its pin change. */
export interface IndexRecord {
  readonly name: string;
  readonly version: string;
  /** URL of the folder of shards. */
  readonly source: string;
  /** Name of the content service, and the SemVer range of its versions; '' for any. */
  readonly contentService: string;
  readonly contentRange: string;
  /** Wanted replicas of each shard. */
  readonly replicas: number;
  /** The only managers that may hold its shards; absent or empty for any. */
  readonly pinnedTo?: readonly string[] | undefined;
  /** The version gets the calls when every shard has this many replicas; 0: a person decides. */
  readonly promoteAtReplicas: number;
  /** Number of the change that had made the route of the index when the version was added; 0 for none. */
  readonly routeIndex?: number | undefined;
  /** SHA-256 of the text of its manifest. */
  readonly manifest: string;
  readonly shards: number;
  readonly bytes: number;
  /** Who added it, and when: Unix time in ms. */
  readonly by: string;
  readonly atMs: number;
  /** When every shard was served for the first time, and when the version got the calls; 0 before. Unix time in ms. */
  readonly readyAtMs: number;
  readonly promotedAtMs: number;
}

/** `manifests/<sha256>`: the shards of an index version, in order of their names. Places count from 0 in this list. */
export interface ManifestRecord {
  readonly shards: readonly ManifestShard[];
}

export interface ManifestShard {
  readonly name: string;
  readonly bytes: number;
  /** Digest of the listing of its files when the version was added. */
  readonly digest: string;
}

/** Shards of one index version in the assignment of a manager. */
export interface ShardsOrder {
  /** `name@version` */
  readonly indexVersion: string;
  /** SHA-256 of the text of the manifest. */
  readonly manifest: string;
  readonly source: string;
  readonly contentService: string;
  readonly contentRange: string;
  /** `0-31,64` */
  readonly places: string;
}

/** `holdings/<manager>`, under the session of its process: its shards, for the leader. */
export interface HoldingsRecord {
  /** Places by index version: `0-31,64`. */
  readonly serving: Readonly<Record<string, string>>;
  /** Shards whose files are on its disk. */
  readonly onDisk: Readonly<Record<string, string>>;
  /** SHA-256 of the list of all shards of each version; absent in records of older managers. */
  readonly manifests?: Readonly<Record<string, string>> | undefined;
  /** Shards that fail. */
  readonly failed: readonly FailedShard[];
  /** Bytes that it can still fetch. */
  readonly freeBytes: number;
}

export interface FailedShard {
  readonly indexVersion: string;
  readonly place: number;
  /** Failures since it was served last. */
  readonly tries: number;
  /** '' beyond the first twenty. */
  readonly why: string;
}

/** An identifier: it is the name of a service. */
export const INDEX_NAME: RegExp = /^[A-Za-z][A-Za-z0-9_]{0,127}$/;

const text = () => z.string().max(4_096);
const sha256 = () => z.string().regex(/^[0-9a-f]{64}$/);
const count = (max: number) => z.int().min(0).max(max);

export const INDEX: z.ZodType<IndexRecord> = z.object({
  name: z.string().regex(INDEX_NAME),
  version: text(),
  source: text(),
  contentService: text(),
  contentRange: text(),
  replicas: count(1_000),
  pinnedTo: z.array(text()).max(1_000).optional(),
  promoteAtReplicas: count(1_000),
  routeIndex: z.int().min(0).optional(),
  manifest: sha256(),
  shards: count(SHARDS_MAX),
  bytes: z.int().min(0),
  by: text(),
  atMs: z.int().min(0),
  readyAtMs: z.int().min(0).default(0),
  promotedAtMs: z.int().min(0).default(0),
});

export const MANIFEST: z.ZodType<ManifestRecord> = z.object({
  shards: z.array(z.object({ name: text(), bytes: z.int().min(0), digest: text() })).max(SHARDS_MAX),
});

export const SHARDS_ORDER: z.ZodType<ShardsOrder> = z.object({
  indexVersion: text(),
  manifest: sha256(),
  source: text(),
  contentService: text(),
  contentRange: text(),
  places: z.string().max(65_536),
});

export const HOLDINGS: z.ZodType<HoldingsRecord> = z.object({
  serving: z.record(text(), z.string().max(65_536)),
  onDisk: z.record(text(), z.string().max(65_536)),
  manifests: z.record(text(), sha256()).optional(),
  failed: z.array(
    z.object({ indexVersion: text(), place: count(SHARDS_MAX - 1), tries: z.int().min(1), why: z.string().max(4_096) }),
  ),
  freeBytes: z.number().min(0),
});

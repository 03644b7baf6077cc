// Facts about a reply beside its value: which version replied and why, and how many shards are in the answer of an
// index. They travel in the ReplyContext inside the mesh, and to clients in the headers katamari-version,
// katamari-rule, katamari-coverage and katamari-missing.

import { trimSpaces, type HeadersIn } from '../thrift/mod.ts';

/** Coverage of an answer inside the mesh. */
export interface ShardCoverage {
  /** Shards that the call was about. */
  readonly shards: number;
  /** Those of them that are wholly in the answer. */
  readonly complete: number;
  /** Some of the others, `index@version/shard REASON`, at most `NAMED_MISSING_MAX`. */
  readonly missing: readonly string[];
}

/** Facts about a reply, for callers that ask for them with `onReply`. */
export interface ReplyInfo {
  /** Version of the service or index that replied; '' if the mesh did not name it. */
  readonly version: string;
  /** The rule of the route that has chosen the version; undefined if its weights have, or the caller. */
  readonly rule: string | undefined;
  /** Shards in the answer of an index. undefined for other services and for a declared exception. */
  readonly coverage: ReplyCoverage | undefined;
}

/** How many shards of an index are in an answer. */
export interface ReplyCoverage {
  /** Shards that the call was about. */
  readonly shards: number;
  /** Those of them that are wholly in the answer. */
  readonly complete: number;
  /** The others in order of their names, at most 10. */
  readonly missing: readonly AbsentShard[];
}

export interface AbsentShard {
  /** `index@version/shard` */
  readonly shard: string;
  /** Why: NO_REPLICA, TIMED_OUT, FAILED, OVERLOADED or CUT_SHORT. More may be added. */
  readonly lack: string;
}

/** Missing shards that a reply context and a header name. */
export const NAMED_MISSING_MAX = 10;

/** Returns what callers get to know of a reply. */
export function replyInfoOf(version: string, rule: string | undefined, coverage: ShardCoverage | undefined): ReplyInfo {
  if (coverage === undefined) return { version, rule, coverage };
  const { shards, complete, missing } = coverage;
  return { version, rule, coverage: { shards, complete, missing: missing.map(absentShardOf) } };
}

/** Returns the headers that carry a coverage: `katamari-coverage: 39/40`, and the names of missing shards. */
export function coverageHeaders({ shards, complete, missing }: ShardCoverage): Readonly<Record<string, string>> {
  const all = { 'katamari-coverage': `${complete}/${shards}` };
  return missing.length === 0 ? all : { ...all, 'katamari-missing': missing.join(', ') };
}

/** Reads the coverage from the headers of a reply. Returns undefined if it is absent or malformed. */
export function coverageIn(headers: HeadersIn): ShardCoverage | undefined {
  const [, complete, shards] = COVERAGE.exec(String(headers['katamari-coverage'] ?? '')) ?? [];
  if (shards === undefined) return undefined;
  const names = String(headers['katamari-missing'] ?? '');
  const missing = names === '' ? [] : names.split(',').map(trimSpaces);
  return { shards: Number(shards), complete: Number(complete), missing };
}

function absentShardOf(text: string): AbsentShard {
  const [shard = '', lack = ''] = text.split(' ');
  return { shard, lack };
}

const COVERAGE = /^(\d{1,9})\/(\d{1,9})$/;

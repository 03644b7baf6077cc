// The data of a mesh in Consul under `katamari/<mesh>/`: keys, and documents as zod schemas. Every document from
// Consul goes through `readEntry`. An invalid document is reported and ignored; it never stops the process.

import type { ConsulEntry } from '../consul/mod.ts';
import { DEPLOYMENT, type Deployment } from './deployment.ts';
import { SHARDS_ORDER, type ShardsOrder } from './index-records.ts';

import { z } from 'zod';

/** Full keys, and key prefixes that end in `/`. */
export interface Keys {
  readonly prefix: string;
  /** The leader's lock; its LockIndex is the term. */
  readonly leader: string;
  readonly masters: string;
  readonly managers: string;
  readonly faceplates: string;
  readonly deployments: string;
  readonly assignments: string;
  /** Managers that an operator has drained. */
  readonly drained: string;
  readonly idl: string;
  /** Index versions, and lists of their shards by SHA-256. */
  readonly indices: string;
  readonly manifests: string;
  /** Shards that managers hold, for the leader. */
  readonly holdings: string;
  readonly routes: string;
  /** Earlier routes of each service, by number. */
  readonly routeHistory: string;
  /** The rollout of each service, the last one or the one under way. */
  readonly rollouts: string;
  readonly settings: string;
  /** Admin tokens, by their hash. */
  readonly tokens: string;
  readonly policies: string;
  /** The access policy, and its earlier versions by number. */
  readonly policy: string;
  readonly policyHistory: string;
  /** Exists once a leader has written the desired state to Consul; missing when Consul has lost its data. */
  readonly begun: string;
}

export function keysOf(mesh: string): Keys {
  const prefix = `katamari/${mesh}/`;
  return {
    prefix,
    leader: `${prefix}leader`,
    masters: `${prefix}masters/`,
    managers: `${prefix}managers/`,
    faceplates: `${prefix}faceplates/`,
    deployments: `${prefix}deployments/`,
    assignments: `${prefix}assignments/`,
    drained: `${prefix}drained/`,
    idl: `${prefix}idl/`,
    indices: `${prefix}indices/`,
    manifests: `${prefix}manifests/`,
    holdings: `${prefix}holdings/`,
    routes: `${prefix}routes/`,
    routeHistory: `${prefix}route-history/`,
    rollouts: `${prefix}rollouts/`,
    settings: `${prefix}settings`,
    tokens: `${prefix}tokens/`,
    policies: `${prefix}policies/`,
    policy: `${prefix}policies/access`,
    policyHistory: `${prefix}policies/history/`,
    begun: `${prefix}begun`,
  };
}

/** One pool of one manager. */
export interface PoolRecord {
  /** `Service@version`, with a suffix when several pools of the manager share both. */
  readonly id: string;
  readonly service: string;
  readonly version: string;
  readonly roles: readonly string[];
  readonly tags: readonly string[];
  readonly more: Readonly<Record<string, string>>;
  readonly interfaceId: string;
  /** Live resources. */
  readonly alive: number;
}

/** A deployment of a manager that has no pool there: its first copy has not come up, or cannot. */
export interface StartingRecord {
  readonly service: string;
  readonly version: string;
  readonly roles: readonly string[];
  /** Most calls that may wait for its first copy. */
  readonly queueMax: number;
  /** Why no copy can start until something changes; '' while one may come up. */
  readonly failure: string;
}

/** `managers/<name>`, under the session of its process. */
export interface ManagerRecord {
  /** `host:port` of its link. */
  readonly address: string;
  /** Name of the machine, to spread replicas over machines. */
  readonly machine: string;
  /** Share of the replicas that the manager gets, relative to the other managers. */
  readonly capacity: number;
  /** The manager shuts down: it gets no new calls and no new chassis. */
  readonly isDraining: boolean;
  /** Address of its stats faceplate, `http://host:port`; '' for none. */
  readonly stats: string;
  readonly pools: readonly PoolRecord[];
  readonly starting: readonly StartingRecord[];
}

/** `masters/<name>`, under the session of its process. */
export interface MasterRecord {
  /** The master with the lowest rank leads; equal ranks are ordered by name. */
  readonly rank: number;
  readonly machine: string;
  readonly stats: string;
  /** How new the backup on its disk is, while Consul lacks the data of the mesh. */
  readonly backup?: BackupRevision | undefined;
}

/** How new a backup of the desired state is. */
export interface BackupRevision {
  /** When Consul got the data that it had then, in ISO format. */
  readonly since: string;
  /** The index of Consul at the last change. */
  readonly index: number;
}

export const BACKUP_REVISION: z.ZodType<BackupRevision> = z.object({ since: z.string().max(100), index: z.number() });

/** `faceplates/<name>`, under the session of its process. */
export interface FaceplateRecord {
  readonly machine: string;
  readonly thrift: string;
  readonly jsonRpc: string;
  /** '' when it serves no sites. */
  readonly web: string;
  /** Addresses of faceplates that the user has added, by name. */
  readonly added: Readonly<Record<string, string>>;
  readonly stats: string;
}

/** `leader`, locked by the leader; the term is the entry's LockIndex. */
export interface LeaderRecord {
  readonly name: string;
}

/** `assignments/<manager>`: what the leader assigns to a manager. */
export interface AssignmentRecord {
  /** LockIndex of the leader's lock when it was written; managers reject an older term. */
  readonly term: number;
  readonly leader: string;
  /** All deployments assigned to the manager; `count` is its share. */
  readonly deployments: readonly Deployment[];
  /** The shards of indices that the manager is to hold. Absent when the leader is of a version without indices. */
  readonly shards?: readonly ShardsOrder[] | undefined;
}

/** `policies/access` and `policies/history/<version>`: one version of the access policy. */
export interface PolicyRecord {
  /** Counts up from 1. */
  readonly version: number;
  /** The document in YAML; '' for no policy. */
  readonly text: string;
  /** Who changed it. */
  readonly by: string;
  /** Unix time in ms. */
  readonly atMs: number;
}

/** `drained/<manager>`: exists while an operator drains the manager. */
export interface DrainedRecord {
  readonly since: string;
}

const text = () => z.string().max(4_096);
const texts = () => z.array(text()).max(1_000);

const POOL: z.ZodType<PoolRecord> = z.object({
  id: text(),
  service: text(),
  version: text(),
  roles: texts(),
  tags: texts(),
  more: z.record(text(), text()),
  interfaceId: text(),
  alive: z.int().min(0),
});

const STARTING: z.ZodType<StartingRecord> = z.object({
  service: text(),
  version: text(),
  roles: texts(),
  queueMax: z.int().min(0),
  failure: z.string().max(65_536),
});

export const MANAGER: z.ZodType<ManagerRecord> = z.object({
  address: text(),
  machine: text(),
  capacity: z.number().positive(),
  isDraining: z.boolean(),
  stats: text(),
  pools: z.array(POOL).max(100_000),
  // Missing in records of older versions.
  starting: z.array(STARTING).max(100_000).default([]),
});

export const MASTER: z.ZodType<MasterRecord> = z.object({
  rank: z.int(),
  machine: text(),
  stats: text(),
  backup: BACKUP_REVISION.optional(),
});

export const FACEPLATE: z.ZodType<FaceplateRecord> = z.object({
  machine: text(),
  thrift: text(),
  jsonRpc: text(),
  // Missing in records of older versions.
  web: text().default(''),
  added: z.record(text(), text()).default({}),
  stats: text(),
});

export const LEADER: z.ZodType<LeaderRecord> = z.object({ name: text() });

export const ASSIGNMENT: z.ZodType<AssignmentRecord> = z.object({
  term: z.int().min(0),
  leader: text(),
  deployments: z.array(DEPLOYMENT).max(10_000),
  shards: z.array(SHARDS_ORDER).max(10_000).optional(),
});

export const POLICY: z.ZodType<PolicyRecord> = z.object({
  version: z.int().min(1),
  text: z.string(),
  by: text(),
  atMs: z.int().min(0),
});

/** Parses and validates a document; returns an Error that says what is wrong. */
export function readRecord<T>(schema: z.ZodType<T>, value: string): T | Error {
  try {
    return schema.parse(JSON.parse(value));
  } catch (error) {
    return error instanceof z.ZodError ? new Error(z.prettifyError(error)) : (error as Error);
  }
}

/** Parses and validates the value of a key; returns an Error that says why it must not be used. */
export function readEntry<T>(
  schema: z.ZodType<T>,
  { value, problem }: Pick<ConsulEntry, 'value' | 'problem'>,
): T | Error {
  return problem === '' ? readRecord(schema, value) : new Error(problem);
}

/** Parsed documents by full key. */
export type RecordCache<T> = Map<
  string,
  { readonly modifyIndex: number; readonly value: string; readonly record: T | Error }
>;

/**
 * Parses the documents below a prefix. Keys of the result are the names after the prefix, in order.
 * @param options.onlyHeld ignores documents without a session, because their process is gone
 */
export function readRecords<T>(
  schema: z.ZodType<T>,
  prefix: string,
  entries: ReadonlyMap<string, ConsulEntry>,
  options: {
    readonly onlyHeld?: boolean;
    readonly onInvalid?: (name: string, error: Error) => void;
    /** Cache of parsed documents: an unchanged document is not parsed again. Updated by this function. */
    readonly cache?: RecordCache<T>;
  } = {},
): Map<string, T> {
  const { cache } = options;
  for (const key of cache?.keys() ?? []) if (!entries.has(key)) cache?.delete(key);
  const found = new Map<string, T>();
  for (const [key, entry] of [...entries].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (!key.startsWith(prefix) || (options.onlyHeld === true && entry.session === '')) continue;
    const name = key.slice(prefix.length);
    const known = cache?.get(key);
    const isKnown = known !== undefined && known.modifyIndex === entry.modifyIndex && known.value === entry.value;
    const record = isKnown ? known.record : readEntry(schema, entry);
    if (!isKnown) cache?.set(key, { modifyIndex: entry.modifyIndex, value: entry.value, record });
    if (!(record instanceof Error)) found.set(name, record);
    else if (!isKnown) options.onInvalid?.(name, record);
  }
  return found;
}

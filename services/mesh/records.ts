// What stands in Consul under `katamari/<mesh>/`: the keys, and the documents as zod schemas. Everything that is read from there goes
import type { ConsulEntry } from '../consul/mod.ts';
import { DEPLOYMENT, type Deployment } from './deployment.ts';

// through `readRecord`; a document that is not as it should be is reported and left out, it never ends anything.

import { z } from 'zod';

/** Full keys, and prefixes that end in `/`. */
export interface Keys {
  readonly prefix: string;
  /** The leader's lock; its LockIndex is the term. */
  readonly leader: string;
  readonly masters: string;
  readonly managers: string;
  readonly faceplates: string;
  readonly deployments: string;
  readonly assignments: string;
  /** Managers that are to run nothing. */
  readonly drained: string;
  readonly idl: string;
  readonly routes: string;
  readonly settings: string;
  /** Stands once a leader has seen to it that Consul holds what is wanted; missing when Consul has lost its data. */
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
    routes: `${prefix}routes/`,
    settings: `${prefix}settings`,
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
  /** Resources that live. */
  readonly alive: number;
}

/** `managers/<name>`, under the session of its process. */
export interface ManagerRecord {
  /** Where faceplates link to: `host:port`. */
  readonly address: string;
  /** Name of the machine, to spread copies over machines. */
  readonly machine: string;
  /** Share of the copies it gets, relative to the others. */
  readonly capacity: number;
  /** It is leaving: nothing new is sent to it or run on it. */
  readonly isDraining: boolean;
  /** Its stats faceplate, `http://host:port`; '' for none. */
  readonly stats: string;
  readonly pools: readonly PoolRecord[];
}

/** `masters/<name>`, under the session of its process. */
export interface MasterRecord {
  /** Lower leads first; equal ones by name. */
  readonly rank: number;
  readonly machine: string;
  readonly stats: string;
}

/** `faceplates/<name>`, under the session of its process. */
export interface FaceplateRecord {
  readonly machine: string;
  readonly thrift: string;
  readonly jsonRpc: string;
  /** '' without sites. */
  readonly web: string;
  /** Fronts that the user has added, by name. */
  readonly added: Readonly<Record<string, string>>;
  readonly stats: string;
}

/** `leader`, locked by the leader; the term is the entry's LockIndex. */
export interface LeaderRecord {
  readonly name: string;
}

/** `assignments/<manager>`: an order of the leader. */
export interface AssignmentRecord {
  /** LockIndex of the leader's lock when it was given; receivers refuse an older one. */
  readonly term: number;
  readonly leader: string;
  /** Everything this manager is to run by order; `count` is its share. */
  readonly deployments: readonly Deployment[];
}

/** `drained/<manager>`, while it is to run nothing. */
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

export const MANAGER: z.ZodType<ManagerRecord> = z.object({
  address: text(),
  machine: text(),
  capacity: z.number().positive(),
  isDraining: z.boolean(),
  stats: text(),
  pools: z.array(POOL).max(100_000),
});

export const MASTER: z.ZodType<MasterRecord> = z.object({ rank: z.int(), machine: text(), stats: text() });

export const FACEPLATE: z.ZodType<FaceplateRecord> = z.object({
  machine: text(),
  thrift: text(),
  jsonRpc: text(),
  // Those of before had none.
  web: text().default(''),
  added: z.record(text(), text()).default({}),
  stats: text(),
});

export const LEADER: z.ZodType<LeaderRecord> = z.object({ name: text() });

export const ASSIGNMENT: z.ZodType<AssignmentRecord> = z.object({
  term: z.int().min(0),
  leader: text(),
  deployments: z.array(DEPLOYMENT).max(10_000),
});

/** A document from Consul, checked; an Error says what is wrong with it. */
export function readRecord<T>(schema: z.ZodType<T>, value: string): T | Error {
  try {
    return schema.parse(JSON.parse(value));
  } catch (error) {
    return error instanceof z.ZodError ? new Error(z.prettifyError(error)) : (error as Error);
  }
}

/** Documents as they were read, by full key. */
export type RecordCache<T> = Map<
  string,
  { readonly modifyIndex: number; readonly value: string; readonly record: T | Error }
>;

/**
 * The documents below a prefix, by what follows it in the key, ordered by name. Those that hang on a session are left out when they have
 * none: their process is gone.
 */
export function readRecords<T>(
  schema: z.ZodType<T>,
  prefix: string,
  entries: ReadonlyMap<string, ConsulEntry>,
  options: {
    readonly onlyHeld?: boolean;
    readonly onWrong?: (name: string, error: Error) => void;
    /** What was read before: a document that has not been written since is not read again. Kept up to date here. */
    readonly before?: RecordCache<T>;
  } = {},
): Map<string, T> {
  const { before } = options;
  for (const key of before?.keys() ?? []) if (!entries.has(key)) before?.delete(key);
  const found = new Map<string, T>();
  for (const [key, entry] of [...entries].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (!key.startsWith(prefix) || (options.onlyHeld === true && entry.session === '')) continue;
    const name = key.slice(prefix.length);
    const known = before?.get(key);
    const isKnown = known !== undefined && known.modifyIndex === entry.modifyIndex && known.value === entry.value;
    const record = isKnown ? known.record : readRecord(schema, entry.value);
    if (!isKnown) before?.set(key, { modifyIndex: entry.modifyIndex, value: entry.value, record });
    if (!(record instanceof Error)) found.set(name, record);
    else if (!isKnown) options.onWrong?.(name, record);
  }
  return found;
}

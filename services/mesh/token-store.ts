// The admin tokens of a mesh: documents in Consul with the SHA-256 of a random token, which only its owner has. A
// watch follows them, so a token works in every process as soon as it is created, and in none as soon as it is
// revoked. The documents are signed (document-signer.ts): whoever can write to Consul cannot thereby make a token.
// Tokens that Consul has lost are gone; nothing restores them, because that could also restore one that was revoked.

import { createHash, randomBytes } from 'node:crypto';
import { KatamariError, systemClock, type Clock } from '../../core/mod.ts';
import {
  changeValue,
  setUnlessChanged,
  watchPrefix,
  type ConsulClient,
  type ConsulEntry,
  type ConsulError,
  type ConsulWatch,
  type WatchStats,
} from '../consul/mod.ts';
import type { EventLog } from './event-log.ts';
import { keysOf, readEntry } from './records.ts';
import { setMaxListeners } from 'node:events';
import { z } from 'zod';

/**
 * What an admin token may do.
 * - read: see status, events and settings.
 * - operate: restart, drain, undrain, scale, change routes and settings.
 * - deploy: deploy and undeploy, which is the right to run commands as the user of the mesh; change the access policy;
 *   revoke tokens, and with all scopes create them.
 */
export const ADMIN_SCOPES = ['read', 'operate', 'deploy'] as const;
export type AdminScope = (typeof ADMIN_SCOPES)[number];

/** What is known of a token, without anything that could stand for it. */
export interface KnownToken {
  readonly name: string;
  readonly scopes: readonly AdminScope[];
  /** Roles of its owner in access policies. */
  readonly roles: readonly string[];
  /** Unix time in ms. */
  readonly createdAtMs: number;
  /** Name of the token that created it. */
  readonly createdBy: string;
  /** Unix time in ms; undefined for never. */
  readonly expiresAtMs?: number | undefined;
}

/** `tokens/<name>` */
interface TokenRecord extends KnownToken {
  readonly sha256: string;
}

export interface TokenStoreOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  readonly events: EventLog;
  readonly onAnswer?: () => void;
  readonly onError?: (error: ConsulError) => void;
  readonly clock?: Clock;
  /** Unix time in ms. */
  readonly dateMs?: () => number;
}

export class TokenStore {
  readonly #options: TokenStoreOptions;
  readonly #prefix: string;
  readonly #dateMs: () => number;
  readonly #end = new AbortController();
  /** Tokens by the hash of their value. A lookup by hash does not reveal by its time how much of a guess is right. */
  #tokens: ReadonlyMap<string, TokenRecord> = new Map();
  /** Documents that were ignored, by key: the index of the version that was reported. */
  readonly #ignored = new Map<string, number>();
  #watch: ConsulWatch | undefined;
  /** Index of the state in use; an older answer of the watch is late. */
  #index = 0;
  #isKnown = false;

  constructor(options: TokenStoreOptions) {
    this.#options = options;
    this.#prefix = keysOf(options.mesh).tokens;
    this.#dateMs = options.dateMs ?? Date.now;
    // Each request in flight adds a listener to this signal. Many listeners are not a leak, so disable the warning.
    setMaxListeners(0, this.#end.signal);
  }

  /** Starts to follow the tokens. */
  start(): void {
    const { client, onAnswer = () => undefined, onError = () => undefined, clock = systemClock } = this.#options;
    this.#watch = watchPrefix(
      client,
      this.#prefix,
      (entries, { index, isAfterReset }) => {
        if (index >= this.#index || isAfterReset) this.#take([...entries.values()], index);
      },
      { signal: this.#end.signal, onAnswer, onError, clock },
    );
  }

  close(): void {
    this.#end.abort();
  }

  /** Statistics of the watch, for the metrics. */
  stats(): readonly WatchStats[] {
    return this.#watch === undefined ? [] : [this.#watch.stats()];
  }

  /** Whether Consul has ever told the tokens. */
  get isKnown(): boolean {
    return this.#isKnown;
  }

  /** Whether there are no tokens. */
  get isEmpty(): boolean {
    return this.#tokens.size === 0;
  }

  /** Returns the token whose value has this SHA-256, in hexadecimal; undefined if there is none, or it has expired. */
  findHash(sha256: string): KnownToken | undefined {
    const found = this.#tokens.get(sha256);
    return found === undefined || this.#hasExpired(found) ? undefined : knownOf(found);
  }

  /** Returns the tokens by name, also those that have expired. @throws ConsulError */
  async list(): Promise<KnownToken[]> {
    await this.#refresh();
    return [...this.#tokens.values()].map(knownOf).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /**
   * Creates a token and returns its value, which is not stored anywhere.
   * @throws KatamariError bad_request if the name is taken or there are too many tokens
   * @throws ConsulError
   */
  async create(wanted: Omit<KnownToken, 'createdAtMs'>): Promise<string> {
    const { client } = this.#options;
    const count = (await this.list()).length;
    if (count >= TOKENS_MAX) {
      throw new KatamariError(
        'bad_request',
        `The mesh has ${count} tokens, limit is ${TOKENS_MAX}; revoke some with katamari token revoke`,
      );
    }
    const token = `${TOKEN_PREFIX}${randomBytes(32).toString('base64url')}`;
    const key = this.#prefix + wanted.name;
    const record: TokenRecord = { ...wanted, createdAtMs: this.#dateMs(), sha256: sha256Of(token) };
    if (!(await client.put(key, JSON.stringify(record), { cas: 0 }))) {
      throw new KatamariError(
        'bad_request',
        `There is a token ${wanted.name} already; revoke it first with katamari token revoke ${wanted.name}, or choose another name`,
      );
    }
    this.#report(wanted.name, `created by ${wanted.createdBy}, scopes ${wanted.scopes.join(', ')}`);
    await this.#refresh();
    return token;
  }

  /**
   * Removes a token. Returns what it was; undefined if there is none.
   * @throws KatamariError bad_request if another client replaces it at the same time
   * @throws ConsulError
   */
  async revoke(name: string, by: string): Promise<KnownToken | undefined> {
    const { client } = this.#options;
    const refusal = (): Error =>
      new KatamariError(
        'bad_request',
        `The token ${name} was replaced by another client at the same time, so it was not revoked; check it with katamari token list and try again`,
      );
    const remove = setUnlessChanged(() => undefined, refusal);
    let entry: ConsulEntry | undefined;
    const isDone = await changeValue(client, this.#prefix + name, (found) => {
      entry ??= found;
      return remove(found);
    });
    if (!isDone) throw refusal();
    if (entry === undefined) return undefined;
    await this.#refresh();
    this.#report(name, `revoked by ${by}`);
    const record = readEntry(TOKEN, entry);
    return record instanceof Error ? { ...UNREADABLE, name } : knownOf(record);
  }

  /** Reads the tokens now. Older answers of the watch, which may still be on their way, are then ignored. */
  async #refresh(): Promise<void> {
    const { index, entries } = await this.#options.client.list(this.#prefix);
    this.#take(entries, index);
  }

  #take(entries: readonly ConsulEntry[], index: number): void {
    this.#index = index;
    this.#isKnown = true;
    const tokens = new Map<string, TokenRecord>();
    for (const entry of entries) {
      const record = this.#read(entry, tokens.size);
      if (record !== undefined) tokens.set(record.sha256, record);
    }
    const keys = new Set(entries.map(({ key }) => key));
    for (const key of this.#ignored.keys()) if (!keys.has(key)) this.#ignored.delete(key);
    this.#tokens = tokens;
  }

  /** Returns the token of a document; undefined if the document is invalid or one too many. */
  #read(entry: ConsulEntry, before: number): TokenRecord | undefined {
    const { key, modifyIndex } = entry;
    const name = key.slice(this.#prefix.length);
    const record = readEntry(TOKEN, entry);
    const isTooMany = before >= TOKENS_MAX;
    if (!(record instanceof Error) && record.name === name && !isTooMany) return record;
    const isReported = this.#ignored.get(key) === modifyIndex || this.#ignored.size >= TOKENS_MAX;
    if (isReported) return undefined;
    this.#ignored.set(key, modifyIndex);
    const why = record instanceof Error ? record.message : `it is named ${record.name}`;
    this.#report(name, `ignored: ${isTooMany ? `there are more than ${TOKENS_MAX} tokens, the limit` : why}`);
    return undefined;
  }

  #hasExpired({ expiresAtMs }: KnownToken): boolean {
    return expiresAtMs !== undefined && expiresAtMs <= this.#dateMs();
  }

  #report(name: string, text: string): void {
    this.#options.events.add('tokens_changed', name, text);
  }
}

export function sha256Of(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** Whether a token may have this name. Names that the audit log uses for others are taken. */
export function isTokenName(name: string): boolean {
  return /^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/.test(name) && !TAKEN_NAMES.has(name);
}

function knownOf({ name, scopes, roles, createdAtMs, createdBy, expiresAtMs }: KnownToken): KnownToken {
  return { name, scopes, roles, createdAtMs, createdBy, ...(expiresAtMs === undefined ? {} : { expiresAtMs }) };
}

const TOKEN: z.ZodType<TokenRecord> = z.object({
  name: z.string().max(63),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  scopes: z.array(z.enum(ADMIN_SCOPES)).max(ADMIN_SCOPES.length),
  roles: z.array(z.string().max(200)).max(100),
  createdAtMs: z.int().min(0),
  createdBy: z.string().max(63),
  expiresAtMs: z.int().min(0).optional(),
});
const UNREADABLE = { scopes: [], roles: [], createdAtMs: 0, createdBy: '' } as const;
const TAKEN_NAMES: ReadonlySet<string> = new Set(['admin', 'leader', 'katamari', 'katamari.yaml', 'mesh']);
/** Makes the value recognizable for tools that search for secrets. */
const TOKEN_PREFIX = 'katamari_';
const TOKENS_MAX = 1_000;

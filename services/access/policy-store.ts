// The access policy of a mesh: one document in Consul, which every process follows, with compare-and-set and the last
// versions. Each process keeps the policy in force on disk too, for a start without Consul.
//
// Whatever is wrong with a policy never opens the mesh. A document that is not valid, older than the one in force or
// missing changes nothing. A file on disk that cannot be read denies everything until Consul has a valid document:
// it existed, so there was a policy. Only a document without text ends the policy.

import { readFile } from 'node:fs/promises';
import { setMaxListeners } from 'node:events';
import path from 'node:path';
import { type Clock, KatamariError, replaceFile } from '../../core/mod.ts';
import {
  watchPrefix,
  type ConsulClient,
  type ConsulWatch,
  type WatchedEntries,
  type WatchStats,
} from '../consul/mod.ts';
import {
  DOCUMENT_BYTES_MAX,
  keysOf,
  POLICY,
  readEntry,
  readRecord,
  type AccessPolicy,
  type EventLog,
  type Keys,
  type PolicyRecord,
  type Reachability,
} from '../mesh/mod.ts';
import { compilePolicy, type CompiledPolicy } from './policy.ts';
import type { QuotaSource } from './quotas.ts';

export interface PolicyStoreOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  /** Folder of the file `policy.json`. */
  readonly dataDir: string;
  readonly events: EventLog;
  readonly reachability: Reachability;
  readonly clock: Clock;
  /** Puts a policy in force; undefined for no limits. */
  readonly apply: (access: AccessPolicy | undefined, quotas: QuotaSource | undefined) => void;
}

export class PolicyStore {
  readonly #options: PolicyStoreOptions;
  readonly #keys: Keys;
  readonly #file: string;
  readonly #end = new AbortController();
  #watch: ConsulWatch | undefined;
  #record: PolicyRecord | undefined;
  #policy: CompiledPolicy | undefined;
  #isBroken = false;
  #writing: Promise<void> = Promise.resolve();

  constructor(options: PolicyStoreOptions) {
    this.#options = options;
    this.#keys = keysOf(options.mesh);
    this.#file = policyFileIn(options.dataDir);
    // Each request in flight adds a listener to this signal. Many listeners are not a leak, so disable the warning.
    setMaxListeners(0, this.#end.signal);
  }

  /** The document in force; undefined while there was never one. */
  get record(): PolicyRecord | undefined {
    return this.#record;
  }

  /** The policy in force; undefined for none, and while the file on disk is broken: see `isBroken`. */
  get policy(): CompiledPolicy | undefined {
    return this.#policy;
  }

  /** Whether everything is denied because the policy on disk cannot be read. */
  get isBroken(): boolean {
    return this.#isBroken;
  }

  /** Statistics of the watch, for the metrics. */
  stats(): WatchStats | undefined {
    return this.#watch?.stats();
  }

  /** Reads the file, then follows Consul. Resolves when the policy is known, or after START_WAIT_MS without Consul. */
  async start(): Promise<void> {
    await this.#readFile();
    const { client, reachability, clock } = this.#options;
    this.#watch = watchPrefix(client, this.#keys.policy, (entries) => this.#take(entries), {
      signal: this.#end.signal,
      onAnswer: reachability.answered,
      onError: reachability.failed,
      clock,
    });
    const timeout = new Promise<void>((resolve) => {
      const stop = clock.after(START_WAIT_MS, resolve);
      this.#end.signal.addEventListener('abort', stop, { once: true });
    });
    await Promise.race([this.#watch.ready, timeout]);
  }

  /**
   * Replaces the policy of the mesh. '' removes it.
   * @param expectedVersion version that the change was made from; 0 for none
   * @throws KatamariError bad_request for a policy that is not valid, and when another change came first; ConsulError
   */
  async set(text: string, expectedVersion: number, by: string): Promise<PolicyRecord> {
    const policy = text === '' ? undefined : compilePolicy(text);
    if (policy instanceof Error) throw new KatamariError('bad_request', `The policy is not valid:\n${policy.message}`);
    const { client } = this.#options;
    const { policy: key, policyHistory } = this.#keys;
    const entry = await client.get(key);
    const stored = entry === undefined ? undefined : readEntry(POLICY, entry);
    const before = stored instanceof Error ? undefined : stored;
    const version = Math.max(before?.version ?? 0, this.#record?.version ?? 0);
    if (version !== expectedVersion) throw changedMeanwhile(version, expectedVersion);
    // The earlier version is written first, so that the history has no gap whatever happens in between.
    const last = before ?? this.#record;
    if (last !== undefined) await client.put(policyHistory + nameOf(last.version), JSON.stringify(last));
    const record: PolicyRecord = { version: version + 1, text, by, atMs: Date.now() };
    const value = JSON.stringify(record);
    if (Buffer.byteLength(value) > DOCUMENT_BYTES_MAX) {
      throw new KatamariError(
        'bad_request',
        `The policy is too large for Consul: ${Buffer.byteLength(value)} bytes, limit is ${DOCUMENT_BYTES_MAX}`,
      );
    }
    const isDone = await client.put(key, value, { cas: entry?.modifyIndex ?? 0 });
    if (!isDone) throw changedMeanwhile(version + 1, expectedVersion);
    this.#adopt(record, policy);
    await this.#prune();
    return record;
  }

  /**
   * The versions of the policy, the newest first: the current one and at most HISTORY_MAX before.
   * @throws ConsulError
   */
  async history(): Promise<readonly PolicyRecord[]> {
    const { entries } = await this.#options.client.list(this.#keys.policyHistory);
    const records = entries
      .map((entry) => readEntry(POLICY, entry))
      .filter((record): record is PolicyRecord => !(record instanceof Error));
    const current = this.#record;
    const earlier = records.filter(({ version }) => version !== current?.version);
    return [...(current === undefined ? [] : [current]), ...earlier].sort((a, b) => b.version - a.version);
  }

  async close(): Promise<void> {
    this.#end.abort();
    await this.#writing;
  }

  async #readFile(): Promise<void> {
    const found = await readPolicyFile(this.#file);
    if (found === undefined) return;
    if (found instanceof Error) {
      this.#isBroken = true;
      this.#options.apply(DENY_ALL, undefined);
      this.#report(
        `${this.#file} cannot be used, so every call is denied until Consul has a valid policy: ${found.message}`,
      );
      return;
    }
    this.#record = found.record;
    this.#apply(found.policy);
  }

  #take(entries: WatchedEntries): void {
    const entry = entries.get(this.#keys.policy);
    const inForce = this.#record;
    if (entry === undefined) {
      if (inForce !== undefined) this.#report(`is missing in Consul; version ${inForce.version} stays in force`);
      return;
    }
    const record = readEntry(POLICY, entry);
    const policy = record instanceof Error ? record : compileText(record.text);
    if (record instanceof Error || policy instanceof Error) {
      const stays = this.#isBroken ? 'everything stays denied' : `version ${inForce?.version ?? 0} stays in force`;
      this.#report(`is not valid in Consul; ${stays}: ${(policy as Error).message}`);
      return;
    }
    if (record.version === inForce?.version && record.text === inForce.text) return;
    if (record.version <= (inForce?.version ?? 0)) {
      this.#report(`version ${record.version} in Consul is not newer; version ${inForce?.version ?? 0} stays in force`);
      return;
    }
    this.#adopt(record, policy);
  }

  /** Puts a document in force and keeps it on disk. */
  #adopt(record: PolicyRecord, policy: CompiledPolicy | undefined): void {
    if (record.version === this.#record?.version && record.text === this.#record.text) return;
    this.#record = record;
    this.#isBroken = false;
    this.#apply(policy);
    this.#report(`version ${record.version} by ${record.by}: ${policy === undefined ? 'removed' : sizeOf(policy)}`);
    this.#writing = this.#writing.then(() => this.#write(record));
  }

  #apply(policy: CompiledPolicy | undefined): void {
    this.#policy = policy;
    this.#options.apply(policy?.rules === undefined ? undefined : policy, policy);
  }

  async #write(record: PolicyRecord): Promise<void> {
    try {
      await replaceFile(this.#file, JSON.stringify(record));
    } catch (error) {
      this.#report(
        `${this.#file} cannot be written, a start without Consul uses the last one: ${(error as Error).message}`,
      );
    }
  }

  /** Removes versions beyond HISTORY_MAX. A failure is made up for by the next change. */
  async #prune(): Promise<void> {
    const { client } = this.#options;
    try {
      const { entries } = await client.list(this.#keys.policyHistory);
      const old = entries
        .map(({ key }) => key)
        .sort()
        .slice(0, -HISTORY_MAX);
      for (const key of old) await client.delete(key);
    } catch {
      // The history is longer than it should be until then.
    }
  }

  #report(text: string): void {
    this.#options.events.add('policy_changed', 'access', text);
  }
}

/** The file in which a process keeps the policy in force. */
export function policyFileIn(dataDir: string): string {
  return path.join(dataDir, 'policy.json');
}

/** The policy that a process keeps on disk. */
export interface StoredPolicy {
  readonly record: PolicyRecord;
  /** Undefined for a document without text, which ends the policy. */
  readonly policy: CompiledPolicy | undefined;
}

/** Reads the file of a policy. Returns undefined if there is none, and an Error if it cannot be used. */
export async function readPolicyFile(file: string): Promise<StoredPolicy | Error | undefined> {
  let record: PolicyRecord | Error;
  try {
    record = readRecord(POLICY, await readFile(file, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    return error as Error;
  }
  if (record instanceof Error) return record;
  const policy = compileText(record.text);
  return policy instanceof Error ? policy : { record, policy };
}

/** `3 rules, 1 quota` */
export function sizeOf({ rules, quotas }: CompiledPolicy): string {
  const parts = [
    rules === undefined ? 'no rules: everything is allowed' : `${rules} ${rules === 1 ? 'rule' : 'rules'}`,
    ...(quotas.length === 0 ? [] : [`${quotas.length} ${quotas.length === 1 ? 'quota' : 'quotas'}`]),
  ];
  return parts.join(', ');
}

function compileText(text: string): CompiledPolicy | undefined | Error {
  return text === '' ? undefined : compilePolicy(text);
}

function changedMeanwhile(version: number, expectedVersion: number): KatamariError {
  return new KatamariError(
    'bad_request',
    `The policy is at version ${version}, and this change was made from version ${expectedVersion}. Look at it with katamari access show and apply the change again`,
  );
}

/** Sorts as the number does. */
function nameOf(version: number): string {
  return String(version).padStart(10, '0');
}

const DENY_ALL: AccessPolicy = { rightsOf: () => NO_RIGHTS };
const NO_RIGHTS = { mayCall: () => false, mayName: () => false };
/** Earlier versions that are kept. */
const HISTORY_MAX = 20;
/** How long a start waits for Consul. */
const START_WAIT_MS = 2_000;

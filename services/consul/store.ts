// The KV store of Consul: reads, writes, blocking queries and transactions. Values of signed places
// are signed when they are written, and checked when they are read.

import { ConsulError, ConsulRequests, type FailedRequest, FRESH } from './requests.ts';
import { type RawEntry, RESPONSES } from './responses.ts';
import { isHangUp, type ConsulAction } from './advice.ts';

/** One key of the KV store. */
export interface ConsulEntry {
  readonly key: string;
  /** Without its signature; '' if there is a problem. */
  readonly value: string;
  /** Why the value must not be used: its signature is missing or wrong. '' if it may be used. */
  readonly problem: string;
  /** Whether the value was signed with a secret that is about to be retired. */
  readonly isOutdated: boolean;
  readonly flags: number;
  /** How often the key was locked; the term of an election. */
  readonly lockIndex: number;
  /** Id of the session that holds the key; '' for none. */
  readonly session: string;
  readonly createIndex: number;
  readonly modifyIndex: number;
}

/** A list of keys, and the index for the next blocking query. */
export interface ConsulList {
  readonly index: number;
  readonly entries: readonly ConsulEntry[];
}

/** One step of a transaction: a condition, or a conditional write. */
export type TransactionStep =
  | { readonly verb: 'check-session'; readonly key: string; readonly session: string }
  | { readonly verb: 'check-index'; readonly key: string; readonly index: number }
  | { readonly verb: 'cas'; readonly key: string; readonly value: string; readonly index: number }
  | { readonly verb: 'delete-cas'; readonly key: string; readonly index: number }
  | { readonly verb: 'lock' | 'unlock'; readonly key: string; readonly value: string; readonly session: string };

/** Result of a transaction. If no step was applied, `refused` lists the refused steps with Consul's reasons. */
export type TransactionOutcome =
  | { readonly isDone: true; readonly index: number }
  | { readonly isDone: false; readonly refused: readonly { readonly at: number; readonly why: string }[] };

/** Reads and writes keys. */
export class ConsulStore extends ConsulRequests {
  async get(key: string, signal?: AbortSignal): Promise<ConsulEntry | undefined> {
    const { body } = await sentAgain(() =>
      this.call(RESPONSES.entries, onKey('read', key), signal, (common) =>
        this.api.kv.get({ key, ...FRESH, ...common }),
      ),
    );
    return body?.map((raw) => this.#entryOf(raw))[0];
  }

  /**
   * Reads all keys under a prefix. With an index above 0 it is a blocking query, which resolves on a change or after
   * `waitMs`.
   */
  async list(
    prefix: string,
    options: { index?: number; waitMs?: number; signal?: AbortSignal } = {},
  ): Promise<ConsulList> {
    const { index = 0, waitMs = 0, signal } = options;
    const { wait, timeoutMs } = this.readOptions(index, waitMs);
    const query = () =>
      this.call(
        RESPONSES.entries,
        onKey('watch', prefix),
        signal,
        (common) => this.api.kv.get({ key: prefix, recurse: true, ...wait, ...common }),
        timeoutMs,
      );
    // A watch sends its failed queries again by itself.
    const { body = [], index: next } = await (index > 0 ? query() : sentAgain(query));
    // Without an index the next query would not block, and the watch would poll in a busy loop.
    if (!(next > 0)) throw this.notConsul(`watch ${prefix}`, 'a response without an index');
    return { index: next, entries: body.map((raw) => this.#entryOf(raw)) };
  }

  /** Writes a key, with flags 0 unless given. Returns false if `cas` or the lock did not allow it. */
  async put(
    key: string,
    value: string,
    options: { cas?: number; flags?: number; acquire?: string; release?: string; signal?: AbortSignal } = {},
  ): Promise<boolean> {
    const { signal, ...conditions } = options;
    const { body } = await this.call(RESPONSES.applied, onKey('write', key), signal, (common) =>
      this.api.kv.set({ key, value: this.#signed(key, value), ...conditions, ...common }),
    );
    return body === true;
  }

  /** Deletes a key, or all keys under it. Returns false if `cas` did not allow it. */
  async delete(key: string, options: { cas?: number; isTree?: boolean; signal?: AbortSignal } = {}): Promise<boolean> {
    const conditions = {
      ...(options.cas === undefined ? {} : { cas: options.cas }),
      ...(options.isTree ? { recurse: true } : {}),
    };
    const { body } = await this.call(RESPONSES.applied, onKey('delete', key), options.signal, (common) =>
      this.api.kv.del({ key, ...conditions, ...common }),
    );
    return body === true;
  }

  /**
   * Applies all steps atomically, or none. Limits: 64 steps, and 512 KiB for the whole request, in which base64 makes
   * values a third longer.
   */
  async transact(steps: readonly TransactionStep[], signal?: AbortSignal): Promise<TransactionOutcome> {
    const operations = steps.map(({ verb, key, ...given }) => ({
      KV: {
        Verb: verb,
        Key: key,
        ...('value' in given ? { Value: Buffer.from(this.#signed(key, given.value)).toString('base64') } : {}),
        ...('session' in given ? { Session: given.session } : {}),
        ...('index' in given ? { Index: given.index } : {}),
      },
    }));
    const transaction = this.api.transaction as unknown as {
      create(steps: object[], common: object): Promise<unknown>;
    };
    const key = steps.at(-1)?.key ?? '';
    const action: ConsulAction = {
      text: `write ${key} in a transaction`,
      needs: { resource: 'key', key, access: 'write' },
    };
    try {
      const { body } = await this.call(RESPONSES.transaction, action, signal, (common) =>
        transaction.create(operations, common),
      );
      return { isDone: true, index: Math.max(0, ...(body?.Results ?? []).map(({ KV }) => KV.ModifyIndex)) };
    } catch (error) {
      if (!(error instanceof ConsulError) || error.status !== 409) throw error;
      const refusals = RESPONSES.refusals.safeParse((error.cause as FailedRequest).body);
      if (!refusals.success) throw error;
      const { Errors } = refusals.data;
      // Consul reports a missing permission in the same way as a failed condition. Treat it as an error.
      const denied = Errors.find(({ What }) => /Permission denied|ACL not found/i.test(What));
      if (denied !== undefined) throw this.failure(action, { message: denied.What, response: { statusCode: 403 } });
      // A refusal is a valid result, as it is for a single write, so it does not count as an error.
      this.errors--;
      return { isDone: false, refused: Errors.map(({ OpIndex, What }) => ({ at: OpIndex, why: What })) };
    }
  }

  #signed(key: string, value: string): string {
    return this.signer?.signs(key) === true ? this.signer.sign(key, value) : value;
  }

  #entryOf({ Key, Value, Flags, LockIndex, Session = '', CreateIndex, ModifyIndex }: RawEntry): ConsulEntry {
    const raw = Buffer.from(Value ?? '', 'base64').toString();
    const { text, problem, isOutdated } =
      this.signer?.signs(Key) === true ? this.signer.open(Key, raw) : { text: raw, problem: '', isOutdated: false };
    return {
      key: Key,
      value: text,
      problem,
      isOutdated,
      flags: Flags,
      lockIndex: LockIndex,
      session: Session,
      createIndex: CreateIndex,
      modifyIndex: ModifyIndex,
    };
  }
}

/**
 * Reads, and reads once more if the connection closed without a response: Consul, or a proxy in front of it, may close
 * an idle connection at the moment when a request is written to it. A write may have been applied, so it is not sent
 * again.
 */
async function sentAgain<T>(read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    const { isCancelled, status, cause } = error as ConsulError;
    if (isCancelled || status !== 0 || !(cause instanceof Error) || !isHangUp(cause.message)) throw error;
    return await read();
  }
}

function onKey(verb: 'read' | 'watch' | 'write' | 'delete', key: string): ConsulAction {
  const access = verb === 'read' || verb === 'watch' ? 'read' : 'write';
  return { text: `${verb} ${key}`, needs: { resource: 'key', key, access } };
}

// Client of Consul's HTTP API, built on the `consul` package. Every request is typed, has a timeout, can be canceled,
// and fails with an error that names the address. The client keeps no state and never retries; ConsulSession and
// watchPrefix do.

import { EventEmitter } from 'node:events';
import type { Address } from '../../core/mod.ts';
import { type ConsulClientOptions, parseTarget, readPem } from './options.ts';
import { describeMismatch, type RawEntry, RESPONSES } from './responses.ts';
import { adviceFor, codeOf, isHangUp, type ConsulAction, type ConsulRight, type ConsulTrouble } from './advice.ts';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import Consul from 'consul';
import type { z } from 'zod';

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

export interface SessionRequest {
  readonly name: string;
  readonly ttlMs: number;
  readonly lockDelayMs: number;
  readonly behavior: 'release' | 'delete';
  /** Ids of checks on this agent. The session ends when one of them turns critical. */
  readonly checks: readonly string[];
}

/** A health check of this process. */
export type ProcessCheck =
  | { readonly kind: 'tcp'; readonly address: string; readonly intervalMs: number; readonly timeoutMs: number }
  | { readonly kind: 'http'; readonly url: string; readonly intervalMs: number; readonly timeoutMs: number }
  | { readonly kind: 'ttl'; readonly ttlMs: number };

export interface ServiceRequest {
  readonly id: string;
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly tags: readonly string[];
  readonly meta: Readonly<Record<string, string>>;
  readonly check: ProcessCheck;
  /** Consul deregisters a service that has been critical for this long; at least one minute. */
  readonly deregisterAfterMs: number;
}

/** A request to Consul that failed. `status` is 0 if there was no response. */
export class ConsulError extends Error {
  override readonly name = 'ConsulError';
  readonly status: number;
  readonly isCancelled: boolean;
  readonly trouble: ConsulTrouble;

  constructor(message: string, status: number, isCancelled: boolean, cause: unknown, trouble: ConsulTrouble = 'other') {
    super(message, { cause });
    this.status = status;
    this.isCancelled = isCancelled;
    this.trouble = trouble;
  }
}

const TIMEOUT_MS = 10_000;
/** Longest text of a response that an error message quotes. */
const TEXT_MAX = 500;
/**
 * Consul answers a blocking query within its wait plus a sixteenth of it. Without a response within that time plus
 * this slack, the connection is dead.
 */
const WAIT_SLACK_MS = 2_000;

/**
 * Reads without an index are consistent reads. A leader that has just started answers other reads from the part of
 * its log that it has replayed so far, and the missing keys would look deleted. Blocking queries continue from an
 * index and need no consistent read.
 */
const FRESH = { consistent: true };

/** Creates a client without sending anything. @throws Error for an invalid address or an unreadable file */
export function consulClient(options: ConsulClientOptions = {}): ConsulClient {
  return new ConsulClient(options);
}

/** Request context of the package: an emitter whose 'cancel' event ends the request. */
interface Context extends EventEmitter {
  readonly includeResponse: true;
  /** Of the body of a response with status 200. */
  readonly schema: z.ZodType;
  /** What is wrong with the response. */
  mismatch: string;
  /** The body, as the schema returned it. */
  body: unknown;
}
/** The part of a request of the package that its hook `onResponse` uses. */
interface RawRequest {
  /** Undefined for a request that did not go through `#call`. */
  readonly ctx?: Context;
  readonly res?: { readonly body?: unknown };
  err?: Error | undefined;
}
interface RawResponse {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string | undefined>>;
}
export class ConsulClient {
  /** Address of Consul, for messages. */
  readonly address: string;
  /** Client of the package, for requests that have no method here. */
  get api(): Consul {
    return this.#api;
  }
  #options: ConsulClientOptions;
  #api: Consul;
  readonly #inFlight = new Set<Context>();
  #requests = 0;
  #errors = 0;

  constructor(options: ConsulClientOptions) {
    this.address = parseTarget(options).text;
    this.#options = options;
    this.#api = open(options);
  }

  /**
   * Uses another token, and the certificates that the files have now, from the next request on. Requests in flight
   * continue. @throws Error for an unreadable file; the client is unchanged
   */
  renew(token: string): void {
    const options = { ...this.#options, ...(token === '' ? {} : { token }) };
    this.#api = open(options);
    this.#options = options;
  }

  /** Keys and prefixes of keys whose values are signed. */
  get signedPlaces(): readonly string[] {
    return this.#options.signer?.places ?? [];
  }

  /** Returns the numbers of requests sent and failed. */
  stats(): { requests: number; errors: number } {
    return { requests: this.#requests, errors: this.#errors };
  }

  async get(key: string, signal?: AbortSignal): Promise<ConsulEntry | undefined> {
    const { body } = await sentAgain(() =>
      this.#call(RESPONSES.entries, onKey('read', key), signal, this.#timeoutMs(), (common) =>
        this.#api.kv.get({ key, ...FRESH, ...common }),
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
    const { wait, timeoutMs } = this.#readOptions(index, waitMs);
    const query = () =>
      this.#call(RESPONSES.entries, onKey('watch', prefix), signal, timeoutMs, (common) =>
        this.#api.kv.get({ key: prefix, recurse: true, ...wait, ...common }),
      );
    // A watch sends its failed queries again by itself.
    const { body = [], index: next } = await (index > 0 ? query() : sentAgain(query));
    // Without an index the next query would not block, and the watch would poll in a busy loop.
    if (!(next > 0)) throw this.#notConsul(`watch ${prefix}`, 'a response without an index');
    return { index: next, entries: body.map((raw) => this.#entryOf(raw)) };
  }

  /** Writes a key, with flags 0 unless given. Returns false if `cas` or the lock did not allow it. */
  async put(
    key: string,
    value: string,
    options: { cas?: number; flags?: number; acquire?: string; release?: string; signal?: AbortSignal } = {},
  ): Promise<boolean> {
    const { signal, ...conditions } = options;
    const { body } = await this.#call(RESPONSES.applied, onKey('write', key), signal, this.#timeoutMs(), (common) =>
      this.#api.kv.set({ key, value: this.#signed(key, value), ...conditions, ...common }),
    );
    return body === true;
  }

  /** Deletes a key, or all keys under it. Returns false if `cas` did not allow it. */
  async delete(key: string, options: { cas?: number; isTree?: boolean; signal?: AbortSignal } = {}): Promise<boolean> {
    const conditions = {
      ...(options.cas === undefined ? {} : { cas: options.cas }),
      ...(options.isTree ? { recurse: true } : {}),
    };
    const { body } = await this.#call(
      RESPONSES.applied,
      onKey('delete', key),
      options.signal,
      this.#timeoutMs(),
      (common) => this.#api.kv.del({ key, ...conditions, ...common }),
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
    const transaction = this.#api.transaction as unknown as {
      create(steps: object[], common: object): Promise<unknown>;
    };
    const key = steps.at(-1)?.key ?? '';
    const action: ConsulAction = {
      text: `write ${key} in a transaction`,
      needs: { resource: 'key', key, access: 'write' },
    };
    try {
      const { body } = await this.#call(RESPONSES.transaction, action, signal, this.#timeoutMs(), (common) =>
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
      if (denied !== undefined) throw this.#failure(action, { message: denied.What, response: { statusCode: 403 } });
      // A refusal is a valid result, as it is for a single write, so it does not count as an error.
      this.#errors--;
      return { isDone: false, refused: Errors.map(({ OpIndex, What }) => ({ at: OpIndex, why: What })) };
    }
  }

  async createSession(request: SessionRequest, signal?: AbortSignal): Promise<string> {
    const { body } = await this.#call(
      RESPONSES.createdSession,
      { text: `create a session for ${request.name}`, needs: SESSION },
      signal,
      this.#timeoutMs(),
      (common) =>
        this.#api.session.create({
          name: request.name,
          ttl: `${request.ttlMs}ms`,
          lockdelay: `${request.lockDelayMs}ms`,
          behavior: request.behavior,
          checks: [...request.checks],
          ...common,
        }),
    );
    return (body as NonNullable<typeof body>).ID;
  }

  /** Returns false if the session no longer exists. */
  async renewSession(id: string, signal?: AbortSignal): Promise<boolean> {
    try {
      await this.#call(
        RESPONSES.renewedSession,
        { text: 'renew the session', needs: SESSION },
        signal,
        this.#timeoutMs(),
        (common) => this.#api.session.renew({ id, ...common }),
      );
      return true;
    } catch (error) {
      if (error instanceof ConsulError && error.status === 404) return false;
      throw error;
    }
  }

  /** Returns whether a session exists. With an index it is a blocking query on all sessions, for at most `waitMs`. */
  async hasSession(
    id: string,
    options: { index?: number; waitMs?: number; signal?: AbortSignal } = {},
  ): Promise<{ index: number; lives: boolean }> {
    const { index = 0, waitMs = 0, signal } = options;
    const { wait, timeoutMs } = this.#readOptions(index, waitMs);
    const { body, index: next } = await this.#call(
      RESPONSES.sessions,
      { text: 'read the session', needs: SESSION },
      signal,
      timeoutMs,
      (common) => this.#api.session.info({ id, ...wait, ...common }),
    );
    if (!(next > 0)) throw this.#notConsul('read the session', 'a response without an index');
    return { index: next, lives: (body ?? []).length > 0 };
  }

  async destroySession(id: string, signal?: AbortSignal): Promise<void> {
    await this.#call(
      RESPONSES.applied,
      { text: 'destroy the session', needs: SESSION },
      signal,
      this.#timeoutMs(),
      (common) => this.#api.session.destroy({ id, ...common }),
    );
  }

  /**
   * Registers a service and its check on the agent. The check starts as passing; the agent runs it for the first time
   * within its interval.
   */
  async registerService(request: ServiceRequest, signal?: AbortSignal): Promise<void> {
    const check = {
      ...checkFields(request.check),
      status: 'passing',
      deregistercriticalserviceafter: `${request.deregisterAfterMs}ms`,
    };
    const { id, name, host, port, tags, meta } = request;
    await this.#call(
      RESPONSES.nothing,
      { text: `register the service ${name}`, needs: SERVICE },
      signal,
      this.#timeoutMs(),
      (common) =>
        this.#api.agent.service.register({
          id,
          name,
          address: host,
          port,
          tags: [...tags],
          meta,
          check,
          ...common,
        } as unknown as Parameters<Consul['agent']['service']['register']>[0]),
    );
  }

  async deregisterService(id: string, signal?: AbortSignal): Promise<void> {
    await this.#call(
      RESPONSES.nothing,
      { text: `deregister the service ${id}`, needs: SERVICE },
      signal,
      this.#timeoutMs(),
      (common) => this.#api.agent.service.deregister({ id, ...common }),
    );
  }

  /** Returns the ids of the services on this agent. */
  async serviceIds(signal?: AbortSignal): Promise<string[]> {
    return [...(await this.serviceAddresses(signal)).keys()];
  }

  /** Returns the addresses of the services on this agent, by id. */
  async serviceAddresses(signal?: AbortSignal): Promise<Map<string, Address>> {
    const { body } = await this.#call(
      RESPONSES.services,
      { text: 'list services', needs: SERVICE },
      signal,
      this.#timeoutMs(),
      (common) => this.#api.agent.service.list({ ...common }),
    );
    return new Map(Object.entries(body ?? {}).map(([id, { Address, Port }]) => [id, { host: Address, port: Port }]));
  }

  /** Marks a TTL check as passing. */
  async passCheck(id: string, signal?: AbortSignal): Promise<void> {
    await this.#call(
      RESPONSES.nothing,
      { text: `pass the check ${id}`, needs: SERVICE },
      signal,
      this.#timeoutMs(),
      (common) => this.#api.agent.check.pass({ id, ...common }),
    );
  }

  /**
   * Copies a passing check of this agent, and its service, to the catalog. After an outage the agent may wait half a
   * minute before it syncs with the servers. Returns false if the check does not pass on the agent.
   */
  async syncCheck(id: string, signal?: AbortSignal): Promise<boolean> {
    const read = async <T>(
      schema: z.ZodType<T>,
      text: string,
      needs: ConsulRight,
      send: (common: object) => Promise<unknown>,
    ): Promise<T | undefined> => (await this.#call(schema, { text, needs }, signal, this.#timeoutMs(), send)).body;
    const checks = await read(RESPONSES.checks, 'list checks', SERVICE, (common) =>
      this.#api.agent.check.list({ ...common }),
    );
    const check = ownValue(checks, id);
    if (check === undefined || check.Status !== 'passing') return false;
    const services = await read(RESPONSES.services, 'list services', SERVICE, (common) =>
      this.#api.agent.service.list({ ...common }),
    );
    const service = ownValue(services, check.ServiceID);
    const self = await read(RESPONSES.self, AGENT_NAME.text, AGENT_NAME.needs, (common) =>
      this.#api.agent.self({ ...common }),
    );
    if (service === undefined || self === undefined) return false;
    const entry = {
      node: self.Member.Name,
      address: self.Member.Addr,
      skipnodeupdate: true,
      service: {
        id: service.ID,
        service: service.Service,
        tags: service.Tags ?? [],
        meta: service.Meta ?? {},
        address: service.Address,
        port: service.Port,
      },
      check: { checkid: id, name: check.Name, serviceid: service.ID, status: check.Status },
    };
    await read(RESPONSES.applied, `copy the check ${id} to the catalog`, SERVICE, (common) =>
      this.#api.catalog.register({ ...entry, ...common } as unknown as Parameters<Consul['catalog']['register']>[0] &
        object),
    );
    return true;
  }

  /** Returns the address of Consul's leader; '' for none. This is the cheapest way to see whether Consul responds. */
  async leader(signal?: AbortSignal): Promise<string> {
    const { body } = await this.#call(
      RESPONSES.leader,
      { text: LEADER, needs: SERVICE },
      signal,
      this.#timeoutMs(),
      (common) => this.#api.status.leader({ ...common }),
    );
    return body ?? '';
  }

  /** Returns node name, data center and version of the agent. */
  async agent(signal?: AbortSignal): Promise<{ node: string; datacenter: string; version: string }> {
    const { body } = await this.#call(RESPONSES.self, AGENT_NAME, signal, this.#timeoutMs(), (common) =>
      this.#api.agent.self({ ...common }),
    );
    const { NodeName, Datacenter, Version } = (body as NonNullable<typeof body>).Config;
    return { node: NodeName, datacenter: Datacenter, version: Version };
  }

  /** Lists all sessions with their names and checks. */
  async sessions(signal?: AbortSignal): Promise<{ id: string; name: string; node: string; checks: string[] }[]> {
    const { body } = await this.#call(
      RESPONSES.sessions,
      { text: 'list sessions', needs: SESSION },
      signal,
      this.#timeoutMs(),
      (common) => this.#api.session.list({ ...(FRESH as object), ...common }),
    );
    return (body ?? []).map(({ ID, Name, Node, Checks }) => ({
      id: ID,
      name: Name,
      node: Node,
      checks: Checks ?? [],
    }));
  }

  /** Returns parameters and timeout of a read: with an index a blocking query, else a consistent read. */
  #readOptions(index: number, waitMs: number): { wait: object; timeoutMs: number } {
    if (!(index > 0)) return { wait: FRESH, timeoutMs: this.#timeoutMs() };
    const wait = { index: String(index), wait: `${Math.round(waitMs)}ms` };
    return { wait, timeoutMs: waitMs + waitMs / 16 + WAIT_SLACK_MS };
  }

  /** Cancels requests in flight and closes idle connections. */
  close(): void {
    for (const context of this.#inFlight) context.emit('cancel');
    this.#api.destroy();
  }

  /**
   * Sends one request: counts it, applies timeout and signal, and turns failures into a ConsulError. The body matches
   * the schema; it is undefined where the package takes 404 for an empty result.
   */
  async #call<T>(
    schema: z.ZodType<T>,
    action: ConsulAction,
    signal: AbortSignal | undefined,
    timeoutMs: number,
    send: (common: object) => Promise<unknown>,
  ): Promise<{ index: number; body: T | undefined }> {
    if (signal?.aborted) throw new ConsulError(`Cannot ${action.text}: canceled`, 0, true, signal.reason);
    const added = { includeResponse: true, schema, mismatch: '', body: undefined } as const;
    const context: Context = Object.assign(new EventEmitter(), added);
    const cancel = (): void => void context.emit('cancel');
    signal?.addEventListener('abort', cancel, { once: true });
    this.#inFlight.add(context);
    this.#requests++;
    try {
      const [response] = (await send({ ctx: context, timeout: timeoutMs })) as [RawResponse];
      return { index: Number(response.headers['x-consul-index'] ?? 0), body: context.body as T | undefined };
    } catch (error) {
      if (context.mismatch !== '') throw this.#notConsul(action.text, context.mismatch);
      const failure = this.#failure(action, error);
      if (!failure.isCancelled) this.#errors++;
      throw failure;
    } finally {
      this.#inFlight.delete(context);
      signal?.removeEventListener('abort', cancel);
    }
  }

  #timeoutMs(): number {
    return this.#options.timeoutMs ?? TIMEOUT_MS;
  }

  #signed(key: string, value: string): string {
    return this.#options.signer?.signs(key) === true ? this.#options.signer.sign(key, value) : value;
  }

  #entryOf({ Key, Value, Flags, LockIndex, Session = '', CreateIndex, ModifyIndex }: RawEntry): ConsulEntry {
    const raw = Buffer.from(Value ?? '', 'base64').toString();
    const { text, problem, isOutdated } =
      this.#options.signer?.signs(Key) === true
        ? this.#options.signer.open(Key, raw)
        : { text: raw, problem: '', isOutdated: false };
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

  /** Returns the error for a response that Consul never sends. Another server or a proxy has sent it. */
  #notConsul(what: string, got: string): ConsulError {
    this.#errors++;
    return new ConsulError(
      `Cannot ${what} at Consul ${this.address}: got ${got}. Is this address Consul itself, without a proxy that changes responses?`,
      0,
      false,
      undefined,
    );
  }

  #failure({ text, needs }: ConsulAction, error: unknown): ConsulError {
    const raw = error as { message?: string; isAbort?: boolean; response?: { statusCode?: number; body?: unknown } };
    const status = raw.response?.statusCode ?? 0;
    const body = raw.response?.body;
    const told = typeof body === 'string' || Buffer.isBuffer(body) ? body.toString().slice(0, TEXT_MAX) : '';
    const why = told !== '' ? told : (raw.message ?? String(error)).replace(/^consul: /, '');
    const { trouble, hint } = raw.isAbort
      ? ({ trouble: 'other', hint: '' } as const)
      : adviceFor({
          status,
          why,
          code: codeOf(error),
          needs,
          isTls: parseTarget(this.#options).isTls,
          hasToken: (this.#options.token ?? '') !== '',
        });
    return new ConsulError(
      `Cannot ${text} at Consul ${this.address}: ${why.trim()}${hint}`,
      status,
      raw.isAbort === true,
      // Not the error of the package: it holds the request, and with it the token.
      Object.assign(new Error(raw.message ?? String(error)), { body }),
      trouble,
    );
  }
}

/** Creates a client of the package. @throws Error for an unreadable file */
function open(options: ConsulClientOptions): Consul {
  const target = parseTarget(options);
  const Agent = target.isTls ? HttpsAgent : HttpAgent;
  // The package passes all options to `http.request` of Node; its types list only a few of them.
  const settings = {
    ...target.settings,
    secure: target.isTls,
    agent: new Agent({ keepAlive: true, maxFreeSockets: 16 }),
    ...(options.caFile === undefined ? {} : { ca: readPem('the CA certificate', options.caFile) }),
    ...(options.certFile === undefined ? {} : { cert: readPem('the client certificate', options.certFile) }),
    ...(options.keyFile === undefined ? {} : { key: readPem('the client key', options.keyFile) }),
    ...(options.serverName === undefined ? {} : { servername: options.serverName }),
    ...(options.verifiesTls === false ? { rejectUnauthorized: false } : {}),
    ...(options.basicAuth === undefined
      ? {}
      : { headers: { authorization: `Basic ${Buffer.from(options.basicAuth).toString('base64')}` } }),
    defaults: {
      ...(options.token === undefined ? {} : { token: options.token }),
      ...(options.datacenter === undefined ? {} : { dc: options.datacenter }),
    },
  };
  const api = new Consul(settings as ConstructorParameters<typeof Consul>[0]);
  // Before the package reads the body: it throws for some of them, where nothing can catch it.
  (api as unknown as { _ext(name: string, hook: typeof checkResponse): void })._ext('onResponse', checkResponse);
  return api;
}

/** The cause of a ConsulError. */
interface FailedRequest extends Error {
  /** Of the response; undefined without one. */
  readonly body: unknown;
}

/** Hook of the package: checks the body of a response. A body that does not match makes the request fail. */
function checkResponse(request: RawRequest, next: () => void): void {
  const { ctx, res } = request;
  if (request.err === undefined && ctx !== undefined) {
    const parsed = ctx.schema.safeParse(res?.body);
    if (parsed.success) ctx.body = parsed.data;
    else {
      ctx.mismatch = describeMismatch(res?.body, parsed.error);
      request.err = new Error(ctx.mismatch);
    }
  }
  next();
}

/** Users choose the ids of services and checks; one may be `constructor`. */
function ownValue<T>(record: Readonly<Record<string, T>> | undefined, key: string): T | undefined {
  return record !== undefined && Object.hasOwn(record, key) ? record[key] : undefined;
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

function checkFields(check: ProcessCheck): object {
  switch (check.kind) {
    case 'tcp':
      return { tcp: check.address, interval: `${check.intervalMs}ms`, timeout: `${check.timeoutMs}ms` };
    case 'http':
      return { http: check.url, interval: `${check.intervalMs}ms`, timeout: `${check.timeoutMs}ms` };
    case 'ttl':
      return { ttl: `${check.ttlMs}ms` };
  }
}

const SESSION: ConsulRight = { resource: 'session' };
const SERVICE: ConsulRight = { resource: 'service' };
const LEADER = 'ask for the leader';
const AGENT_NAME: ConsulAction = { text: 'ask the agent for its name', needs: { resource: 'agent' } };

// The mesh's one way to Consul: the `consul` package, set up from options or CONSUL_* variables, with every request
// bounded in time, cancellable, typed, and failing with an error that says where Consul was looked for. It keeps no
// state and retries nothing; that is the business of ConsulSession and watchPrefix.

import { EventEmitter } from 'node:events';
import { readFileSync } from 'node:fs';
import { adviceFor, codeOf, type ConsulTrouble } from './advice.ts';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import Consul from 'consul';

export interface ConsulClientOptions {
  /** `HOST:PORT`, `http://HOST:PORT`, `https://HOST:PORT` or `unix:///PATH`. */
  readonly address?: string;
  readonly token?: string;
  readonly datacenter?: string;
  readonly isTls?: boolean;
  /** False accepts any certificate; for tests only. */
  readonly verifiesTls?: boolean;
  /** PEM files. */
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
  /** Name expected in the server's certificate when it is not the host's. */
  readonly serverName?: string;
  /** `user:password` of a proxy before Consul. */
  readonly basicAuth?: string;
  /** Bound on requests that do not wait. */
  readonly timeoutMs?: number;
}

/** One key as it is read. */
export interface ConsulEntry {
  readonly key: string;
  readonly value: string;
  readonly flags: number;
  /** How often the key was locked; the term of an election. */
  readonly lockIndex: number;
  /** Session that holds the key, '' when none does. */
  readonly session: string;
  readonly createIndex: number;
  readonly modifyIndex: number;
}

/** A list with the index to wait on next. */
export interface ConsulList {
  readonly index: number;
  readonly entries: readonly ConsulEntry[];
}

/** One step of a transaction: a condition, or a write with its own. */
export type TransactionStep =
  | { readonly verb: 'check-session'; readonly key: string; readonly session: string }
  | { readonly verb: 'check-index'; readonly key: string; readonly index: number }
  | { readonly verb: 'cas'; readonly key: string; readonly value: string; readonly index: number }
  | { readonly verb: 'delete-cas'; readonly key: string; readonly index: number }
  | { readonly verb: 'lock' | 'unlock'; readonly key: string; readonly value: string; readonly session: string };

/** All steps were done (at which index), or none: then which could not be, by its place, and why in Consul's words. */
export type TransactionOutcome =
  | { readonly isDone: true; readonly index: number }
  | { readonly isDone: false; readonly refused: readonly { readonly at: number; readonly why: string }[] };

export interface SessionRequest {
  readonly name: string;
  readonly ttlMs: number;
  readonly lockDelayMs: number;
  readonly behavior: 'release' | 'delete';
  /** Ids of checks on this agent; the session ends when one turns critical. */
  readonly checks: readonly string[];
}

/** A check of the process itself. */
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
  /** Consul forgets the service when it was critical for so long; a minute at least. */
  readonly deregisterAfterMs: number;
}

/** A request to Consul that failed. `status` is 0 when there was no answer. */
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
/** Of an error's text, for people. */
const TEXT_MAX = 500;
/**
 * A blocking query is answered at the latest after its wait and a sixteenth; what is later than this besides is a
 * dead connection.
 */
const WAIT_SLACK_MS = 2_000;

/**
 * A read that begins something asks the leader to make sure first: one that has just started answers with what it has
 * read of its log so far, and half a store would look like a store whose other half was deleted. Waiting queries go
 * on from an index and need not.
 */
const FRESH = { consistent: true };

/** Reads CONSUL_* variables as Consul's own command does; `notes` are for people: what was set and is not obeyed. */
export function consulOptionsOf(env: Readonly<Record<string, string | undefined>>): {
  options: ConsulClientOptions;
  notes: string[];
} {
  const notes: string[] = [];
  const text = (name: string): string | undefined => (env[name] === '' ? undefined : env[name]);
  const tokenFile = text('CONSUL_HTTP_TOKEN_FILE');
  const token =
    text('CONSUL_HTTP_TOKEN') ??
    (tokenFile === undefined ? undefined : readPem('CONSUL_HTTP_TOKEN_FILE', tokenFile).trim());
  const isTls = flagOf(text('CONSUL_HTTP_SSL'), 'CONSUL_HTTP_SSL');
  const verifiesTls = flagOf(text('CONSUL_HTTP_SSL_VERIFY'), 'CONSUL_HTTP_SSL_VERIFY');
  if (text('CONSUL_NAMESPACE') !== undefined) {
    notes.push(
      'CONSUL_NAMESPACE is set and not used: namespaces are a feature of Consul Enterprise. Give each mesh its own name instead',
    );
  }
  if (text('CONSUL_CAPATH') !== undefined)
    notes.push('CONSUL_CAPATH is set and not used. Name one file with CONSUL_CACERT instead');
  const options = {
    address: text('CONSUL_HTTP_ADDR'),
    token,
    isTls,
    verifiesTls,
    caFile: text('CONSUL_CACERT'),
    certFile: text('CONSUL_CLIENT_CERT'),
    keyFile: text('CONSUL_CLIENT_KEY'),
    serverName: text('CONSUL_TLS_SERVER_NAME'),
    basicAuth: text('CONSUL_HTTP_AUTH'),
  };
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  return { options: Object.fromEntries(given) as ConsulClientOptions, notes };
}

/** A client; nothing is sent yet. Throws when the address makes no sense or a file cannot be read. */
export function consulClient(options: ConsulClientOptions = {}): ConsulClient {
  return new ConsulClient(options);
}

/** What the package's request context must be: an emitter whose 'cancel' ends the request. */
interface Context extends EventEmitter {
  includeResponse: boolean;
}
interface RawResponse {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string | undefined>>;
}
interface RawEntry {
  readonly Key: string;
  readonly Value: string | null;
  readonly Flags: number;
  readonly LockIndex: number;
  readonly Session?: string;
  readonly CreateIndex: number;
  readonly ModifyIndex: number;
}

interface RawRefusal {
  readonly OpIndex: number;
  readonly What: string;
}
interface RawCheck {
  readonly Name: string;
  readonly Status: string;
  readonly ServiceID: string;
}
interface RawService {
  readonly ID: string;
  readonly Service: string;
  readonly Tags: string[];
  readonly Meta: Record<string, string>;
  readonly Address: string;
  readonly Port: number;
}
interface RawSelf {
  readonly Config?: { readonly NodeName?: string; readonly Datacenter?: string; readonly Version?: string };
  readonly Member: { readonly Name: string; readonly Addr: string };
}
interface RawSession {
  readonly ID: string;
  readonly Name: string;
  readonly Node: string;
  readonly Checks: string[] | null;
}

export class ConsulClient {
  /** Where Consul is, for people. */
  readonly address: string;
  /** The package's own client, for what has no method here. */
  readonly api: Consul;
  readonly #timeoutMs: number;
  readonly #isTls: boolean;
  readonly #hasToken: boolean;
  readonly #inFlight = new Set<Context>();
  #requests = 0;
  #errors = 0;

  constructor(options: ConsulClientOptions) {
    const place = placeOf(options);
    const Agent = place.isTls ? HttpsAgent : HttpAgent;
    this.address = place.text;
    this.#timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
    this.#isTls = place.isTls;
    this.#hasToken = (options.token ?? '') !== '';
    // The package hands everything that node's http.request knows through to it; its types name only a few.
    const settings = {
      ...place.settings,
      secure: place.isTls,
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
    this.api = new Consul(settings as ConstructorParameters<typeof Consul>[0]);
  }

  /** Requests sent and failed so far. */
  stats(): { requests: number; errors: number } {
    return { requests: this.#requests, errors: this.#errors };
  }

  async get(key: string, signal?: AbortSignal): Promise<ConsulEntry | undefined> {
    const { body, status } = await this.#call(`read ${key}`, signal, this.#timeoutMs, (common) =>
      this.api.kv.get({ key, ...FRESH, ...common }),
    );
    return status === 404 ? undefined : this.#entry(body);
  }

  /**
   * Everything under a prefix. With an index above 0 the answer comes when there is something newer, or after
   * `waitMs`.
   */
  async list(
    prefix: string,
    options: { index?: number; waitMs?: number; signal?: AbortSignal } = {},
  ): Promise<ConsulList> {
    const { index = 0, waitMs = 0, signal } = options;
    const wait = index > 0 ? { index: String(index), wait: `${Math.round(waitMs)}ms` } : FRESH;
    const timeoutMs = index > 0 ? waitMs + waitMs / 16 + WAIT_SLACK_MS : this.#timeoutMs;
    const {
      body,
      index: next,
      status,
    } = await this.#call(`watch ${prefix}`, signal, timeoutMs, (common) =>
      this.api.kv.get({ key: prefix, recurse: true, ...wait, ...common }),
    );
    // Waiting on no index would be asking again without end.
    if (!(next > 0)) throw this.#nonsense(`watch ${prefix}`, 'an answer without an index');
    // The package gives nothing for 404, which is Consul's empty list, and also for a body that is none.
    const raw = status === 404 ? [] : body;
    if (!Array.isArray(raw)) throw this.#nonsense(`watch ${prefix}`, 'something other than a list');
    return { index: next, entries: raw.map((item) => this.#entry(item)) };
  }

  /** Writes a key; false when `cas` or the lock did not allow it. */
  async put(
    key: string,
    value: string,
    options: { cas?: number; acquire?: string; release?: string; signal?: AbortSignal } = {},
  ): Promise<boolean> {
    const { signal, ...conditions } = options;
    const { body } = await this.#call(`write ${key}`, signal, this.#timeoutMs, (common) =>
      this.api.kv.set({ key, value, ...conditions, ...common }),
    );
    return body === true;
  }

  /** Deletes a key, or all under it; false when `cas` did not allow it. */
  async delete(key: string, options: { cas?: number; isTree?: boolean; signal?: AbortSignal } = {}): Promise<boolean> {
    const conditions = {
      ...(options.cas === undefined ? {} : { cas: options.cas }),
      ...(options.isTree ? { recurse: true } : {}),
    };
    const { body } = await this.#call(`delete ${key}`, options.signal, this.#timeoutMs, (common) =>
      this.api.kv.del({ key, ...conditions, ...common }),
    );
    return body === true;
  }

  /**
   * Does all steps at once or none. At most 64, and the whole request at most 512 KiB, in which values are a third
   * longer than they are.
   */
  async transact(steps: readonly TransactionStep[], signal?: AbortSignal): Promise<TransactionOutcome> {
    const operations = steps.map(({ verb, key, ...given }) => ({
      KV: {
        Verb: verb,
        Key: key,
        ...('value' in given ? { Value: Buffer.from(given.value).toString('base64') } : {}),
        ...('session' in given ? { Session: given.session } : {}),
        ...('index' in given ? { Index: given.index } : {}),
      },
    }));
    const transaction = this.api.transaction as unknown as {
      create(steps: object[], common: object): Promise<unknown>;
    };
    const what = `write ${steps.at(-1)?.key ?? ''} in a transaction`;
    try {
      const { body } = await this.#call(what, signal, this.#timeoutMs, (common) =>
        transaction.create(operations, common),
      );
      const { Results } = body as { Results?: { KV: RawEntry }[] | null };
      return { isDone: true, index: Math.max(0, ...(Results ?? []).map(({ KV }) => KV.ModifyIndex)) };
    } catch (error) {
      if (!(error instanceof ConsulError) || error.status !== 409) throw error;
      const body = (error.cause as { response?: { body?: { Errors?: RawRefusal[] | null } } }).response?.body;
      // A missing right is told like a condition that does not hold, and is none.
      const denied = body?.Errors?.find(({ What }) => /Permission denied|ACL not found/i.test(What));
      if (denied !== undefined) throw this.#failure(what, { message: denied.What, response: { statusCode: 403 } });
      // Refusing is an answer, as it is for a single write.
      this.#errors--;
      return { isDone: false, refused: (body?.Errors ?? []).map(({ OpIndex, What }) => ({ at: OpIndex, why: What })) };
    }
  }

  async createSession(request: SessionRequest, signal?: AbortSignal): Promise<string> {
    const { body } = await this.#call(`create a session for ${request.name}`, signal, this.#timeoutMs, (common) =>
      this.api.session.create({
        name: request.name,
        ttl: `${request.ttlMs}ms`,
        lockdelay: `${request.lockDelayMs}ms`,
        behavior: request.behavior,
        checks: [...request.checks],
        ...common,
      }),
    );
    return (body as { ID: string }).ID;
  }

  /** False when the session is gone. */
  async renewSession(id: string, signal?: AbortSignal): Promise<boolean> {
    try {
      await this.#call('renew the session', signal, this.#timeoutMs, (common) =>
        this.api.session.renew({ id, ...common }),
      );
      return true;
    } catch (error) {
      if (error instanceof ConsulError && error.status === 404) return false;
      throw error;
    }
  }

  /** Whether a session lives. With an index the answer comes when sessions have changed, or after `waitMs`. */
  async hasSession(
    id: string,
    options: { index?: number; waitMs?: number; signal?: AbortSignal } = {},
  ): Promise<{ index: number; lives: boolean }> {
    const { index = 0, waitMs = 0, signal } = options;
    const wait = index > 0 ? { index: String(index), wait: `${Math.round(waitMs)}ms` } : FRESH;
    const timeoutMs = index > 0 ? waitMs + waitMs / 16 + WAIT_SLACK_MS : this.#timeoutMs;
    const { body, index: next } = await this.#call('look at the session', signal, timeoutMs, (common) =>
      this.api.session.info({ id, ...wait, ...common }),
    );
    return { index: next, lives: body !== undefined && body !== null };
  }

  async destroySession(id: string, signal?: AbortSignal): Promise<void> {
    await this.#call('destroy the session', signal, this.#timeoutMs, (common) =>
      this.api.session.destroy({ id, ...common }),
    );
  }

  /**
   * Registers a service with its check on the agent, as passing: the first look at it comes within the check's
   * interval.
   */
  async registerService(request: ServiceRequest, signal?: AbortSignal): Promise<void> {
    const check = {
      ...checkFields(request.check),
      status: 'passing',
      deregistercriticalserviceafter: `${request.deregisterAfterMs}ms`,
    };
    const { id, name, host, port, tags, meta } = request;
    await this.#call(`register the service ${name}`, signal, this.#timeoutMs, (common) =>
      this.api.agent.service.register({
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
    await this.#call(`deregister the service ${id}`, signal, this.#timeoutMs, (common) =>
      this.api.agent.service.deregister({ id, ...common }),
    );
  }

  /** Ids of the services on this agent. */
  async serviceIds(signal?: AbortSignal): Promise<string[]> {
    return [...(await this.servicePlaces(signal)).keys()];
  }

  /** Where the services on this agent listen, by their ids. */
  async servicePlaces(signal?: AbortSignal): Promise<Map<string, { readonly host: string; readonly port: number }>> {
    const { body } = await this.#call('list services', signal, this.#timeoutMs, (common) =>
      this.api.agent.service.list({ ...common }),
    );
    const services = Object.entries((body as Record<string, RawService> | undefined) ?? {});
    return new Map(services.map(([id, { Address, Port }]) => [id, { host: Address, port: Port }]));
  }

  /** Says that a TTL check is well. */
  async passCheck(id: string, signal?: AbortSignal): Promise<void> {
    await this.#call(`pass the check ${id}`, signal, this.#timeoutMs, (common) =>
      this.api.agent.check.pass({ id, ...common }),
    );
  }

  /**
   * Carries a check of this agent, and its service, into the catalog when the agent says that it passes and has not
   * got round to telling the servers: after an outage an agent may wait half a minute before it tries again. False
   * when the agent does not say so.
   */
  async carryCheck(id: string, signal?: AbortSignal): Promise<boolean> {
    const read = async (what: string, send: (common: object) => Promise<unknown>): Promise<unknown> =>
      (await this.#call(what, signal, this.#timeoutMs, send)).body;
    const checks = (await read('list checks', (common) => this.api.agent.check.list({ ...common }))) as Record<
      string,
      RawCheck
    >;
    const check = checks[id];
    if (check === undefined || check.Status !== 'passing') return false;
    const services = (await read('list services', (common) => this.api.agent.service.list({ ...common }))) as Record<
      string,
      RawService
    >;
    const service = services[check.ServiceID];
    const self = (await read('ask the agent for its name', (common) => this.api.agent.self({ ...common }))) as RawSelf;
    if (service === undefined) return false;
    const entry = {
      node: self.Member.Name,
      address: self.Member.Addr,
      skipnodeupdate: true,
      service: {
        id: service.ID,
        service: service.Service,
        tags: service.Tags,
        meta: service.Meta,
        address: service.Address,
        port: service.Port,
      },
      check: { checkid: id, name: check.Name, serviceid: service.ID, status: check.Status },
    };
    await read(`carry the check ${id} into the catalog`, (common) =>
      this.api.catalog.register({ ...entry, ...common } as unknown as Parameters<Consul['catalog']['register']>[0] &
        object),
    );
    return true;
  }

  /** Address of Consul's leader, '' when there is none; the cheapest question whether Consul is there. */
  async leader(signal?: AbortSignal): Promise<string> {
    const { body } = await this.#call('ask for the leader', signal, this.#timeoutMs, (common) =>
      this.api.status.leader({ ...common }),
    );
    if (typeof body === 'string' && /^(\S+:\d+)?$/.test(body)) return body;
    throw this.#nonsense('ask for the leader', 'something that is no address');
  }

  /** The agent that is asked: its node, its data centre, its version. */
  async agent(signal?: AbortSignal): Promise<{ node: string; datacenter: string; version: string }> {
    const { body } = await this.#call('ask the agent for its name', signal, this.#timeoutMs, (common) =>
      this.api.agent.self({ ...common }),
    );
    const { NodeName = '', Datacenter = '', Version = '' } = (body as RawSelf | undefined)?.Config ?? {};
    return { node: NodeName, datacenter: Datacenter, version: Version };
  }

  /** All sessions: what they are called and the checks that they hang on. */
  async sessions(signal?: AbortSignal): Promise<{ id: string; name: string; node: string; checks: string[] }[]> {
    const { body } = await this.#call('list sessions', signal, this.#timeoutMs, (common) =>
      this.api.session.list({ ...(FRESH as object), ...common }),
    );
    return ((body as RawSession[] | null) ?? []).map(({ ID, Name, Node, Checks }) => ({
      id: ID,
      name: Name,
      node: Node,
      checks: Checks ?? [],
    }));
  }

  /** Ends requests under way and closes idle connections. */
  close(): void {
    for (const context of this.#inFlight) context.emit('cancel');
    this.api.destroy();
  }

  /** Sends one request: counted, bounded, cancellable, and with an error that says what was tried and where. */
  async #call(
    what: string,
    signal: AbortSignal | undefined,
    timeoutMs: number,
    send: (common: object) => Promise<unknown>,
  ): Promise<{ index: number; status: number; body: unknown }> {
    if (signal?.aborted) throw new ConsulError(`Cannot ${what}: cancelled`, 0, true, signal.reason);
    const context = Object.assign(new EventEmitter(), { includeResponse: true });
    const cancel = (): void => void context.emit('cancel');
    signal?.addEventListener('abort', cancel, { once: true });
    this.#inFlight.add(context);
    this.#requests++;
    try {
      const [response, body] = (await send({ ctx: context, timeout: timeoutMs })) as [RawResponse, unknown];
      return { index: Number(response.headers['x-consul-index'] ?? 0), status: response.statusCode, body };
    } catch (error) {
      const failure = this.#failure(what, error);
      if (!failure.isCancelled) this.#errors++;
      throw failure;
    } finally {
      this.#inFlight.delete(context);
      signal?.removeEventListener('abort', cancel);
    }
  }

  #entry(given: unknown): ConsulEntry {
    const raw = given as RawEntry | null;
    if (
      typeof raw?.Key !== 'string' ||
      (raw.Value !== null && typeof raw.Value !== 'string') ||
      typeof raw.ModifyIndex !== 'number' ||
      typeof raw.LockIndex !== 'number'
    ) {
      throw this.#nonsense('read a key', 'something that is no key');
    }
    return {
      key: raw.Key,
      value: raw.Value ?? '',
      flags: raw.Flags,
      lockIndex: raw.LockIndex,
      session: raw.Session ?? '',
      createIndex: raw.CreateIndex,
      modifyIndex: raw.ModifyIndex,
    };
  }

  /** An answer that no Consul gives: something else listens there, or is in between. */
  #nonsense(what: string, got: string): ConsulError {
    this.#errors++;
    return new ConsulError(
      `Cannot ${what} at Consul ${this.address}: got ${got}. Is that really Consul, and nothing in between?`,
      0,
      false,
      undefined,
    );
  }

  #failure(what: string, error: unknown): ConsulError {
    const raw = error as { message?: string; isAbort?: boolean; response?: { statusCode?: number; body?: unknown } };
    const status = raw.response?.statusCode ?? 0;
    const body = raw.response?.body;
    const told = typeof body === 'string' || Buffer.isBuffer(body) ? body.toString().slice(0, TEXT_MAX) : '';
    const why = told !== '' ? told : (raw.message ?? String(error)).replace(/^consul: /, '');
    const { trouble, hint } = raw.isAbort
      ? ({ trouble: 'other', hint: '' } as const)
      : adviceFor({ status, why, code: codeOf(error), what, isTls: this.#isTls, hasToken: this.#hasToken });
    return new ConsulError(
      `Cannot ${what} at Consul ${this.address}: ${why.trim()}${hint}`,
      status,
      raw.isAbort === true,
      error,
      trouble,
    );
  }
}

function placeOf(options: ConsulClientOptions): { text: string; isTls: boolean; settings: object } {
  const given = options.address ?? '127.0.0.1:8500';
  const wrong = (): Error =>
    new Error(
      `Cannot use "${given}" as the address of Consul: expected HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:///PATH`,
    );
  if (given.startsWith('unix://')) {
    const socketPath = given.slice('unix://'.length);
    if (!socketPath.startsWith('/')) throw wrong();
    return { text: given, isTls: false, settings: { socketPath } };
  }
  const text = /^https?:\/\//.test(given) ? given : `${options.isTls ? 'https' : 'http'}://${given}`;
  if (!URL.canParse(text)) throw wrong();
  const url = new URL(text);
  if (url.hostname === '' || (url.pathname !== '/' && url.pathname !== '') || url.search !== '') throw wrong();
  const isTls = url.protocol === 'https:' || options.isTls === true;
  const port = url.port === '' ? (/^https?:/.test(given) ? (isTls ? 443 : 80) : 8500) : Number(url.port);
  return { text: `${url.hostname}:${port}`, isTls, settings: { host: url.hostname, port } };
}

function flagOf(text: string | undefined, name: string): boolean | undefined {
  if (text === undefined) return undefined;
  if (/^(1|t|true)$/i.test(text)) return true;
  if (/^(0|f|false)$/i.test(text)) return false;
  throw new Error(`Cannot use ${name}="${text}": expected true or false`);
}

function readPem(what: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new Error(`Cannot read ${what} from ${path}: ${(error as Error).message}`, { cause: error });
  }
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

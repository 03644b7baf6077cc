// The command's side of a running mesh: JSON-RPC over HTTP to its faceplate, for users' calls and for the admin service Katamari.
import { ERROR_TABLE } from '../../../core/mod.ts';
import type { MeshEvent, MeshStatus, PoolStatus } from '../../../core/rpc/mod.ts';
import { ExitError, EXIT } from '../../config/mod.ts';
import type { DeployOutcome } from '../../master/mod.ts';
import type { Deployment } from '../../mesh/mod.ts';
import { printable } from './terminal.ts';

// It has the address and the token only when a command needs them, and tells "nobody answers" (exit 69) from "it said no" (exit 1).

import { readFileSync } from 'node:fs';

/** Where a mesh is and what opens its admin service. */
export interface MeshAddress {
  /** Of the JSON-RPC faceplate, without a path: `http://127.0.0.1:9080`. */
  readonly url: string;
  /** Where `url` came from, for messages: `--mesh`, `KATAMARI_URL`, `katamari.yaml:3`, `default`. */
  readonly from: string;
  /** Asked for only by admin commands, because it may mean reading a configuration that a plain call does not need. */
  readonly findToken: () => AdminToken;
}

export interface AdminToken {
  /** Given outright; '' when it stands in `file`. */
  readonly token: string;
  /** Where it came from, for messages, and to be read from when `token` is ''. */
  readonly from: string;
}

/** An answer of JSON-RPC, with what its headers told. */
export interface RpcAnswer {
  readonly result?: unknown;
  readonly error?: AdminRpcError;
  /** Version that answered; '' when the mesh did not say. */
  readonly version: string;
  /** `Server-Timing` as it came. */
  readonly timing: string;
}

export interface AdminRpcError {
  readonly code: number;
  readonly message: string;
  readonly data?: Readonly<Record<string, unknown>> | undefined;
}

/** A status as the admin service sends it: `service` is a reserved word of Thrift, and figures that nobody has are left out. */
type AdminStatus = Omit<MeshStatus, 'pools'> & {
  readonly pools: readonly (Omit<PoolStatus, 'service' | keyof typeof NO_FIGURES> & {
    readonly serviceName: string;
  })[];
};

/** A deployment as the admin service sends it, likewise. */
type AdminDeployment = Omit<Deployment, 'service' | 'idl' | 'concurrency'> & {
  readonly serviceName: string;
  readonly idl?: NonNullable<Deployment['idl']>;
  readonly concurrency?: number;
};

/** The route of a service; no weights: equal shares. */
export interface RouteOf {
  readonly serviceName: string;
  readonly weights: Readonly<Record<string, number>>;
}

const NO_FIGURES = { p50Ms: null, p99Ms: null, queueP99Ms: null };

export class AdminClient {
  readonly #address: MeshAddress;
  #token: AdminToken | undefined;

  constructor(address: MeshAddress) {
    this.#address = address;
  }

  get url(): string {
    return this.#address.url;
  }

  async status(): Promise<MeshStatus> {
    const status = (await this.#admin('status', {})) as AdminStatus;
    const pools = status.pools.map(({ serviceName, ...pool }) => ({ ...NO_FIGURES, ...pool, service: serviceName }));
    return { ...status, pools };
  }

  /** Events after `afterSeq`, waiting up to `waitMs` for the first. */
  events(afterSeq: number, waitMs: number): Promise<MeshEvent[]> {
    return this.#admin('events', { afterSeq, waitMs }, waitMs + ANSWER_MS) as Promise<MeshEvent[]>;
  }

  /**
   * How many resources were replaced; undefined when that takes longer than `waitMs`: it goes on, as the status shows.
   */
  async restart(
    service: string,
    version: string,
    resource: string,
    waitMs: number = ANSWER_MS,
  ): Promise<number | undefined> {
    const params = { serviceName: service, version, resource };
    return (await this.#admin('restart', params, waitMs, true)) as number | undefined;
  }

  /** Wanted state of the mesh, without what managers have in files of their own. */
  async deployments(): Promise<Deployment[]> {
    return ((await this.#admin('getDeployments', {})) as AdminDeployment[]).map(fromThrift);
  }

  async deploy({ service, idl, concurrency, ...rest }: Deployment): Promise<DeployOutcome> {
    const deployment = {
      ...rest,
      serviceName: service,
      ...(idl === null ? {} : { idl }),
      ...(concurrency === null ? {} : { concurrency }),
    };
    return ((await this.#admin('deploy', { deployment })) as string).toLowerCase() as DeployOutcome;
  }

  /** The deployment as it is now. */
  async scale(service: string, version: string, count: number): Promise<Deployment> {
    return fromThrift((await this.#admin('scale', { serviceName: service, version, count })) as AdminDeployment);
  }

  async undeploy(service: string, version: string): Promise<void> {
    await this.#admin('undeploy', { serviceName: service, version });
  }

  async drain(manager: string): Promise<void> {
    await this.#admin('drain', { manager });
  }

  async undrain(manager: string): Promise<void> {
    await this.#admin('undrain', { manager });
  }

  routes(): Promise<RouteOf[]> {
    return this.#admin('getRoutes', {}) as Promise<RouteOf[]>;
  }

  /** No weights: back to what the configuration says. */
  async setRoute(serviceName: string, weights: Readonly<Record<string, number>>): Promise<void> {
    await this.#admin('setRoute', { route: { serviceName, weights } });
  }

  /**
   * One call of a method. `params` is JSON text and goes out as it is, so that no digit of a large number is lost on the way.
   * `waitMs` bounds the whole exchange, and lies above the call's own timeout.
   */
  async call(
    path: string,
    method: string,
    params: string | undefined,
    headers: Record<string, string>,
    waitMs: number,
  ): Promise<RpcAnswer> {
    const body = `{"jsonrpc":"2.0","id":1,"method":${JSON.stringify(method)}${params === undefined ? '' : `,"params":${params}`}}`;
    const answer = await this.#fetch(
      path,
      { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body },
      waitMs,
    );
    const text = await readBody(answer, this.url);
    const reply = parseReply(text, answer.status, this.url);
    return {
      ...reply,
      version: answer.headers.get('katamari-version') ?? '',
      timing: answer.headers.get('server-timing') ?? '',
    };
  }

  /** The IDL of a service as the mesh has it, or undefined when it has none to give. */
  async idl(service: string, version: string): Promise<string | undefined> {
    const found = await this.findIdl(service, version);
    return 'text' in found ? found.text : undefined;
  }

  /** The same, or what the mesh says against it. '' is the newest version. */
  async findIdl(
    service: string,
    version: string,
  ): Promise<{ readonly text: string; readonly version: string } | { readonly why: string }> {
    const name = encodeURIComponent(version === '' ? service : `${service}@${version}`);
    const answer = await this.#fetch(`/idl/${name}.thrift`, {}, ANSWER_MS);
    const text = await readBody(answer, this.url);
    if (answer.ok) return { text, version: answer.headers.get('katamari-version') ?? version };
    return { why: parseReply(text, answer.status, this.url).error?.message ?? `HTTP ${answer.status}` };
  }

  /** `mayGoOn`: undefined when the time is over, and no failure. */
  async #admin(method: string, params: Record<string, unknown>, waitMs = ANSWER_MS, mayGoOn = false): Promise<unknown> {
    this.#token ??= readToken(this.#address);
    const { token, from } = this.#token;
    // The mesh's own deadline for the call must lie above the time it is asked to wait.
    const headers = { 'katamari-timeout-ms': String(waitMs) };
    const { result, error } = await this.call(
      '/rpc/Katamari',
      method,
      JSON.stringify({ token, ...params }),
      headers,
      waitMs + 1_000,
    );
    if (error === undefined) return result;
    if (mayGoOn && error.code === TIMEOUT_CODE) return undefined;
    const why = error.data?.['exception'] === 'AdminRefused' ? String(error.data['why']) : error.message;
    const isAboutToken = /\btoken\b/i.test(why);
    const hint = isAboutToken
      ? `; the one given is from ${from}, give another with --token or KATAMARI_TOKEN, or name the configuration of that mesh with --config FILE`
      : '';
    throw new ExitError(EXIT.failed, `The mesh at ${this.url} refused ${method}: ${printable(why)}${hint}`);
  }

  async #fetch(path: string, init: RequestInit, waitMs: number): Promise<Response> {
    try {
      return await fetch(new URL(path, this.url), { ...init, signal: AbortSignal.timeout(waitMs) });
    } catch (error) {
      throw unreachable(this.#address, error as Error, waitMs);
    }
  }
}

function fromThrift({ serviceName, idl, concurrency, ...rest }: AdminDeployment): Deployment {
  return { ...rest, service: serviceName, idl: idl ?? null, concurrency: concurrency ?? null };
}

function unreachable({ url, from }: MeshAddress, error: Error, waitMs: number): ExitError {
  const cause = error.cause as { code?: string; message?: string } | undefined;
  const why =
    error.name === 'TimeoutError'
      ? `no answer within ${Math.round(waitMs / 1_000)} s`
      : (cause?.code ?? cause?.message ?? error.message);
  return new ExitError(
    EXIT.unreachable,
    `No mesh answers at ${url} (${from}): ${printable(why)}\n` +
      'Start one with `katamari up`, or point elsewhere with --mesh URL or KATAMARI_URL.',
    error,
  );
}

async function readBody(answer: Response, url: string): Promise<string> {
  try {
    return await answer.text();
  } catch (error) {
    throw new ExitError(
      EXIT.unreachable,
      `The mesh at ${url} broke off its answer: ${(error as Error).message}`,
      error,
    );
  }
}

function parseReply(text: string, status: number, url: string): { result?: unknown; error?: AdminRpcError } {
  let reply: unknown;
  try {
    reply = JSON.parse(text);
  } catch {
    reply = undefined;
  }
  if (typeof reply === 'object' && reply !== null) {
    const { error, result } = reply as { error?: AdminRpcError; result?: unknown };
    if (typeof error?.message === 'string' && typeof error.code === 'number') return { error };
    if ('result' in reply) return { result };
  }
  const begin = printable(text.slice(0, 60));
  throw new ExitError(
    EXIT.unreachable,
    `${url} answered with HTTP ${status} and no JSON-RPC ("${begin}"): is that the JSON-RPC faceplate of a mesh? Its port is 9080 unless configured.`,
  );
}

function readToken({ findToken, url }: MeshAddress): AdminToken {
  const { token, from } = findToken();
  if (token !== '') return { token, from };
  try {
    return { token: readFileSync(from, 'utf8').trim(), from };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new ExitError(
      EXIT.failed,
      `Cannot read the admin token of the mesh at ${url}: ${from} ${code === 'ENOENT' ? 'does not exist' : `(${code})`}.\n` +
        'Give it with --token or KATAMARI_TOKEN, or name the configuration that the mesh runs by with --config FILE.',
      error,
    );
  }
}

/** How long the mesh may take to answer something that it need not wait for. */
const ANSWER_MS = 10_000;
const TIMEOUT_CODE = ERROR_TABLE.timeout.jsonRpc;

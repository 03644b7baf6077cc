// The client that commands use for a running mesh: JSON-RPC over HTTP to its faceplate, for calls of users and for
// the admin service `Katamari`. It resolves the address and reads the token only when a command needs them. It tells
// an unreachable mesh (exit 69) from a refusal by the mesh (exit 1).

import { parseIdl } from '../../../core/idl/mod.ts';
import { ERROR_TABLE } from '../../../core/mod.ts';
import type { MeshEvent, MeshStatus, PoolStatus } from '../../../core/rpc/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import { ExitError, EXIT } from '../../config/mod.ts';
import type { DeployOutcome } from '../../master/mod.ts';
import type { Deployment, KnownToken, MirrorReport, Route, RouteExplanation } from '../../mesh/mod.ts';
import { printable } from './terminal.ts';
import { readFileSync } from 'node:fs';

/** Address of a mesh and the source of its admin token. */
export interface MeshAddress {
  /** URL of the JSON-RPC faceplate, without a path: `http://127.0.0.1:9080`. */
  readonly url: string;
  /** Source of `url`, for messages: `--mesh`, `KATAMARI_URL`, `katamari.yaml:3`, `default`. */
  readonly from: string;
  /** Token that every request shows; '' for none. It identifies a caller, see docs/access.md. */
  readonly bearer: string;
  /** Called only by admin commands, because it may load a configuration that `katamari call` does not need. */
  readonly findToken: () => AdminToken;
}

/** The token that commands send. */
export interface AdminToken {
  /** The token itself; '' if it must be read from the file `from`. */
  readonly token: string;
  /** Source of the token, for messages: a flag, a variable, or the path of the token file. */
  readonly from: string;
}

/** A JSON-RPC reply and the headers that describe it. */
export interface RpcAnswer {
  readonly result?: unknown;
  readonly error?: AdminRpcError;
  /** Version of the service that answered; '' if the reply has no `katamari-version` header. */
  readonly version: string;
  /** Header `Server-Timing`, unparsed; '' without one. */
  readonly timing: string;
  /** Header `katamari-coverage`: `39/40`; '' without one. */
  readonly coverage: string;
  /** Header `katamari-missing`; '' without one. */
  readonly missing: string;
}

/** The IDL of a service as the mesh sends it. */
export interface ServiceIdl {
  readonly text: string;
  readonly version: string;
  /** Name of the service in the IDL. An index has the interface of its content service. */
  readonly service: string;
}

/** Returns the interface in an IDL; undefined if it does not declare the service. @throws IdlError */
export function interfaceIn({ text, service }: ServiceIdl): Interface | undefined {
  return parseIdl({ main: 'mesh.thrift', files: { 'mesh.thrift': text } }).services.get(service);
}

export interface AdminRpcError {
  readonly code: number;
  readonly message: string;
  readonly data?: Readonly<Record<string, unknown>> | undefined;
}

/**
 * A status as the admin service sends it. `service` is a reserved word of Thrift, and percentiles without data are
 * left out.
 */
type AdminStatus = Omit<MeshStatus, 'pools'> & {
  readonly pools: readonly (Omit<PoolStatus, 'service' | keyof typeof NO_FIGURES> & {
    readonly serviceName: string;
  })[];
};

/** A deployment as the admin service sends it, with the same differences. */
type AdminDeployment = Omit<Deployment, 'service' | 'idl' | 'concurrency'> & {
  readonly serviceName: string;
  readonly idl?: NonNullable<Deployment['idl']>;
  readonly concurrency?: number;
};

/** Route of a service. Without weights, versions share the calls by their number of resources. */
export type ServiceRoute = Route & { readonly serviceName: string };

/** A change of the route of a service. Its route is missing if it restored that of the configuration. */
export interface ChangeOfRoute {
  readonly index: number;
  readonly by: string;
  readonly atMs: number;
  readonly route?: ServiceRoute;
}

/** A call for explainRoute; '' and empty lists for what it does not have. */
export interface CallSketch {
  readonly serviceName: string;
  readonly method: string;
  readonly version: string;
  readonly caller: string;
  readonly roles: readonly string[];
  readonly headers: Readonly<Record<string, string>>;
  readonly tags: readonly string[];
  readonly key: string;
}

/** One version of the access policy. */
export interface PolicyVersion {
  /** 0 while there was never one. */
  readonly version: number;
  /** '' for no policy. */
  readonly text: string;
  readonly changedBy: string;
  readonly changedAtMs: number;
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

  /** Returns the events after `afterSeq`. If there are none, the mesh waits up to `waitMs` for the first. */
  events(afterSeq: number, waitMs: number): Promise<MeshEvent[]> {
    return this.#admin('events', { afterSeq, waitMs }, waitMs + REPLY_TIMEOUT_MS) as Promise<MeshEvent[]>;
  }

  /**
   * Restarts processes and returns the number of resources that were replaced. Returns undefined if that takes longer
   * than `waitMs`; the restart then continues, and the status shows its progress.
   */
  async restart(
    service: string,
    version: string,
    resource: string,
    waitMs: number = REPLY_TIMEOUT_MS,
  ): Promise<number | undefined> {
    const params = { serviceName: service, version, resource };
    return (await this.#admin('restart', params, waitMs, true)) as number | undefined;
  }

  /** Returns the desired state that Consul holds, without deployments from configuration files of managers. */
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

  /** Changes the number of copies and returns the deployment as it is now. */
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

  /** Names of the managers that an operator has drained. */
  drained(): Promise<string[]> {
    return this.#admin('getDrained', {}) as Promise<string[]>;
  }

  /** Says what the route of a service does with a call, and why. */
  explainRoute(imagined: CallSketch): Promise<RouteExplanation> {
    return this.#admin('explainRoute', { imagined }) as Promise<RouteExplanation>;
  }

  /** What the mirror of a service has found. */
  mirrors(serviceName: string): Promise<MirrorReport> {
    return this.#admin('getMirrors', { serviceName }) as Promise<MirrorReport>;
  }

  routes(): Promise<ServiceRoute[]> {
    return this.#admin('getRoutes', {}) as Promise<ServiceRoute[]>;
  }

  /**
   * Sets the weights of a service, and what else the route has; the rest of its route stays. If nothing is set, the
   * route of the configuration applies again.
   * @param force also with versions that do not exist
   */
  async setRoute(serviceName: string, route: Route, force: boolean = false): Promise<void> {
    await this.#admin('setRoute', { route: { serviceName, ...route }, force });
  }

  /** The changes of a route, the newest first. */
  routeHistory(serviceName: string): Promise<ChangeOfRoute[]> {
    return this.#admin('getRouteHistory', { serviceName }) as Promise<ChangeOfRoute[]>;
  }

  /** Restores the route that a change has replaced. @param index of the change; 0 for the last one */
  async undoRoute(serviceName: string, index: number, force: boolean): Promise<void> {
    await this.#admin('undoRoute', { serviceName, index, force });
  }

  /** Creates an admin token and returns its value. The mesh does not keep it. */
  createToken(
    name: string,
    scopes: readonly string[],
    roles: readonly string[],
    expiresInMs?: number,
  ): Promise<string> {
    const expiry = expiresInMs === undefined ? {} : { expiresInMs };
    return this.#admin('createToken', { name, scopes, roles, ...expiry }) as Promise<string>;
  }

  tokens(): Promise<KnownToken[]> {
    return this.#admin('getTokens', {}) as Promise<KnownToken[]>;
  }

  async revokeToken(name: string): Promise<void> {
    await this.#admin('revokeToken', { name });
  }

  accessPolicy(): Promise<PolicyVersion> {
    return this.#admin('getAccessPolicy', {}) as Promise<PolicyVersion>;
  }

  /** Replaces the policy if `expectedVersion` is its current version; '' removes it. */
  setAccessPolicy(text: string, expectedVersion: number): Promise<PolicyVersion> {
    return this.#admin('setAccessPolicy', { text, expectedVersion }) as Promise<PolicyVersion>;
  }

  /** Returns the current policy and earlier ones, the newest first. */
  accessHistory(): Promise<PolicyVersion[]> {
    return this.#admin('getAccessHistory', {}) as Promise<PolicyVersion[]>;
  }

  explainAccess(
    caller: string,
    roles: readonly string[],
    target: string,
    poolRoles: readonly string[],
  ): Promise<{ readonly isAllowed: boolean; readonly why: string }> {
    const asked = { caller, roles, target, poolRoles };
    return this.#admin('explainAccess', asked) as Promise<{ readonly isAllowed: boolean; readonly why: string }>;
  }

  /**
   * Calls a method. `params` is JSON text and is sent unchanged, so that large numbers keep all digits. `waitMs`
   * limits the whole exchange and must be above the timeout of the call.
   */
  async call(
    path: string,
    method: string,
    params: string | undefined,
    headers: Record<string, string>,
    waitMs: number,
  ): Promise<RpcAnswer> {
    const body = `{"jsonrpc":"2.0","id":1,"method":${JSON.stringify(method)}${params === undefined ? '' : `,"params":${params}`}}`;
    const response = await this.#fetch(
      path,
      { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body },
      waitMs,
    );
    const text = await readBody(response, this.url);
    const reply = parseReply(text, response.status, this.url);
    return {
      ...reply,
      version: response.headers.get('katamari-version') ?? '',
      timing: response.headers.get('server-timing') ?? '',
      coverage: response.headers.get('katamari-coverage') ?? '',
      missing: response.headers.get('katamari-missing') ?? '',
    };
  }

  /** Returns the interface of a service, or undefined if the mesh has none. @throws IdlError for an IDL with errors */
  async interfaceOf(service: string, version: string): Promise<Interface | undefined> {
    const found = await this.findIdl(service, version);
    return 'why' in found ? undefined : interfaceIn(found);
  }

  /** Returns the IDL of a service and its version, or the reason why there is none. Version '' means the newest. */
  async findIdl(service: string, version: string): Promise<ServiceIdl | { readonly why: string }> {
    const name = encodeURIComponent(version === '' ? service : `${service}@${version}`);
    const response = await this.#fetch(`/idl/${name}.thrift`, {}, REPLY_TIMEOUT_MS);
    const text = await readBody(response, this.url);
    if (response.ok) {
      const { headers } = response;
      return {
        text,
        version: headers.get('katamari-version') ?? version,
        service: headers.get('katamari-service') ?? service,
      };
    }
    return { why: parseReply(text, response.status, this.url).error?.message ?? `HTTP ${response.status}` };
  }

  /**
   * Calls a method of the admin service for indices. With `canOutlastWait`, a timeout returns undefined instead of an
   * error.
   */
  indices(
    method: string,
    params: Record<string, unknown>,
    waitMs: number = REPLY_TIMEOUT_MS,
    canOutlastWait: boolean = false,
  ): Promise<unknown> {
    return this.#admin(method, params, waitMs, canOutlastWait, 'KatamariIndices');
  }

  /** Calls a method of the admin service for versions. */
  versions(method: string, params: Record<string, unknown>, waitMs: number = REPLY_TIMEOUT_MS): Promise<unknown> {
    return this.#admin(method, params, waitMs, false, 'KatamariVersions');
  }

  /** Calls a method of an admin service. With `canOutlastWait`, a timeout returns undefined instead of an error. */
  async #admin(
    method: string,
    params: Record<string, unknown>,
    waitMs = REPLY_TIMEOUT_MS,
    canOutlastWait = false,
    service = 'Katamari',
  ): Promise<unknown> {
    this.#token ??= readToken(this.#address);
    const { token, from } = this.#token;
    // The deadline of the call must be later than the time that the mesh is asked to wait.
    const headers = { 'katamari-timeout-ms': String(waitMs) };
    const { result, error } = await this.call(
      `/rpc/${service}`,
      method,
      JSON.stringify({ token, ...params }),
      headers,
      waitMs + 1_000,
    );
    if (error === undefined) return result;
    if (canOutlastWait && error.code === TIMEOUT_CODE) return undefined;
    const isRefused = error.data?.['exception'] === 'AdminRefused';
    const why = isRefused ? String(error.data?.['why']) : error.message;
    const hint =
      isRefused && error.data?.['code'] === 'wrong_token'
        ? `; the token came from ${from}. Pass the right one with --token or KATAMARI_TOKEN, or the configuration of that mesh with --config FILE`
        : '';
    throw new ExitError(EXIT.failed, `The mesh at ${this.url} refused ${method}: ${printable(why)}${hint}`);
  }

  async #fetch(path: string, init: RequestInit, waitMs: number): Promise<Response> {
    try {
      const headers = new Headers(init.headers);
      const { bearer } = this.#address;
      if (bearer !== '') headers.set('authorization', `Bearer ${bearer}`);
      return await fetch(new URL(path, this.url), { ...init, headers, signal: AbortSignal.timeout(waitMs) });
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
      'Start one with `katamari up`, or name another mesh with --mesh URL or KATAMARI_URL.',
    error,
  );
}

async function readBody(response: Response, url: string): Promise<string> {
  try {
    return await response.text();
  } catch (error) {
    throw new ExitError(
      EXIT.unreachable,
      `The mesh at ${url} closed the connection during its reply: ${(error as Error).message}`,
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
    `${url} answered with HTTP ${status} and no JSON-RPC ("${begin}"). Is that the JSON-RPC faceplate of a mesh? Its default port is 9080.`,
  );
}

function readToken({ findToken, url }: MeshAddress): AdminToken {
  const { token, from } = findToken();
  if (token !== '') return { token, from };
  try {
    // During a rotation the file has two tokens, one per line.
    const [first = ''] = readFileSync(from, 'utf8').trim().split(/\s+/);
    return { token: first, from };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new ExitError(
      EXIT.failed,
      `Cannot read the admin token of the mesh at ${url}: ${from} ${code === 'ENOENT' ? 'does not exist' : `(${code})`}.\n` +
        'Pass it with --token or KATAMARI_TOKEN, or pass the configuration of that mesh with --config FILE.',
      error,
    );
  }
}

/** Timeout of requests that the mesh answers at once. */
const REPLY_TIMEOUT_MS = 10_000;
const TIMEOUT_CODE = ERROR_TABLE.timeout.jsonRpc;

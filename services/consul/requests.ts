// How a request is sent to Consul's HTTP API, through the `consul` package. Every request is typed,
// has a timeout, can be canceled, and fails with an error that names the address. It keeps no state,
// and sends no write again; ConsulSession and watchPrefix do.

import { EventEmitter } from 'node:events';
import { type ConsulClientOptions, type DocumentSigner, parseTarget, readPem } from './options.ts';
import { describeMismatch } from './responses.ts';
import { adviceFor, codeOf, type ConsulAction, type ConsulTrouble } from './advice.ts';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import Consul from 'consul';
import type { z } from 'zod';

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
export const FRESH = { consistent: true };

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
  /** Undefined for a request that did not go through `call`. */
  readonly ctx?: Context;
  readonly res?: { readonly body?: unknown };
  err?: Error | undefined;
}

interface RawResponse {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string | undefined>>;
}

/** What all requests have in common. ConsulStore and ConsulClient are the requests themselves. */
export class ConsulRequests {
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
  protected errors = 0;

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
    return this.signer?.places ?? [];
  }

  protected get signer(): DocumentSigner | undefined {
    return this.#options.signer;
  }

  /** Returns the numbers of requests sent and failed. */
  stats(): { requests: number; errors: number } {
    return { requests: this.#requests, errors: this.errors };
  }

  /** Returns parameters and timeout of a read: with an index a blocking query, else a consistent read. */
  protected readOptions(index: number, waitMs: number): { wait: object; timeoutMs: number } {
    if (!(index > 0)) return { wait: FRESH, timeoutMs: this.#timeoutMs };
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
  protected async call<T>(
    schema: z.ZodType<T>,
    action: ConsulAction,
    signal: AbortSignal | undefined,
    send: (common: object) => Promise<unknown>,
    timeoutMs: number = this.#timeoutMs,
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
      if (context.mismatch !== '') throw this.notConsul(action.text, context.mismatch);
      const failure = this.failure(action, error);
      if (!failure.isCancelled) this.errors++;
      throw failure;
    } finally {
      this.#inFlight.delete(context);
      signal?.removeEventListener('abort', cancel);
    }
  }

  /** Time limit of a request that does not block. */
  get #timeoutMs(): number {
    return this.#options.timeoutMs ?? TIMEOUT_MS;
  }

  /** Returns the error for a response that Consul never sends. Another server or a proxy has sent it. */
  protected notConsul(what: string, got: string): ConsulError {
    this.errors++;
    return new ConsulError(
      `Cannot ${what} at Consul ${this.address}: got ${got}. Is this address Consul itself, without a proxy that changes responses?`,
      0,
      false,
      undefined,
    );
  }

  protected failure({ text, needs }: ConsulAction, error: unknown): ConsulError {
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
export interface FailedRequest extends Error {
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

// The service object of a client: an object with one function per method. With an IDL it has exactly the methods of
// the interface. Without one it returns a function for any name, and the call fails if there is no such method.

import { LRUCache } from 'lru-cache';
import { encodeStruct, parseIdl, readIdlFile } from '../core/idl/mod.ts';
import { KatamariError } from '../core/mod.ts';
import type { IdlSource, Interface } from '../core/thrift/mod.ts';
import type { Channel } from './channel.ts';
import type { InterfaceCache } from './interfaces.ts';
import { checkMs, type CallOptions, type ServiceOptions, type ClientSettings } from './options.ts';
import type { ClientCall } from './pending-call.ts';
import { prepareMethod, type PreparedMethod } from './prepared-method.ts';
import { RequestHeaders } from './request-headers.ts';

type Caller = (args?: Readonly<Record<string, unknown>>, options?: CallOptions) => Promise<unknown>;

/** Creates the service object. @throws KatamariError bad_request for an invalid option or IDL */
export function serviceObject(
  name: string,
  options: ServiceOptions,
  settings: ClientSettings,
  channel: Channel,
  interfaces: InterfaceCache,
): object {
  const service = new ServiceCalls(name, options, settings, channel, interfaces);
  const { known } = service;
  const functions: Record<string, Caller> = Object.create(null) as Record<string, Caller>;
  const callerOf = (method: string): Caller =>
    (functions[method] ??= (args, given) => service.call(method, args, given));
  if (known !== undefined) {
    for (const method of known.methods.keys()) callerOf(method);
    return Object.freeze(functions);
  }
  return new Proxy(functions, {
    // `await` and JSON.stringify read properties that must not look like methods.
    get: (_, method) => (typeof method === 'string' && !READ_BY_RUNTIMES.has(method) ? callerOf(method) : undefined),
  });
}

class ServiceCalls {
  /** Interface of the IDL that the caller gave; undefined if it gave none. */
  readonly known: Interface | undefined;
  readonly #name: string;
  readonly #options: ServiceOptions;
  readonly #settings: ClientSettings;
  readonly #channel: Channel;
  readonly #interfaces: InterfaceCache;
  readonly #timeoutMs: number;
  readonly #headers: RequestHeaders;
  /** Headers of calls with options of their own. */
  readonly #headersByOptions = new LRUCache<string, RequestHeaders>({ max: HEADERS_KEPT_MAX });
  /** Prepared methods by interface. Calls that request different versions use different interfaces. */
  readonly #methods = new WeakMap<Interface, Map<string, PreparedMethod>>();

  constructor(
    name: string,
    options: ServiceOptions,
    settings: ClientSettings,
    channel: Channel,
    interfaces: InterfaceCache,
  ) {
    if (!/^[A-Za-z_][\w.]*$/.test(name)) {
      throw new KatamariError('bad_request', `${JSON.stringify(name)} is not a valid service name, such as Calculator`);
    }
    this.#name = name;
    this.#options = options;
    this.#settings = settings;
    this.#channel = channel;
    this.#interfaces = interfaces;
    this.#timeoutMs = checkMs('timeoutMs', options.timeoutMs ?? settings.timeoutMs);
    this.#headers = new RequestHeaders(options, settings.token);
    this.known = options.idl === undefined ? undefined : interfaceIn(options.idl, options.includes, name);
  }

  call(
    method: string,
    args: Readonly<Record<string, unknown>> = {},
    given: CallOptions = NO_OPTIONS,
  ): Promise<unknown> {
    const version = given.version ?? this.#options.version ?? '';
    const known = this.known ?? this.#interfaces.known(this.#name, version);
    try {
      const timeoutMs = given.timeoutMs === undefined ? this.#timeoutMs : checkMs('timeoutMs', given.timeoutMs);
      const headers = given === NO_OPTIONS ? this.#headers : this.#headersOf(given);
      if (known !== undefined) {
        const prepared = this.#preparedOf(known, method);
        const body = this.#encode(prepared, args);
        const call = this.#channel.open(prepared.title, headers, timeoutMs, given);
        this.#channel.send(call, prepared, body);
        return call.promise;
      }
      const call = this.#channel.open(`${this.#name}.${method}`, headers, timeoutMs, given);
      void this.#prepare(call, version, method, args);
      return call.promise;
    } catch (error) {
      return Promise.reject(error as KatamariError);
    }
  }

  async #prepare(
    call: ClientCall,
    version: string,
    method: string,
    args: Readonly<Record<string, unknown>>,
  ): Promise<void> {
    try {
      const prepared = this.#preparedOf(await this.#interfaces.of(this.#name, version), method);
      this.#channel.send(call, prepared, this.#encode(prepared, args));
    } catch (error) {
      this.#channel.fail(call, error);
    }
  }

  #preparedOf(known: Interface, name: string): PreparedMethod {
    let methods = this.#methods.get(known);
    if (methods === undefined) {
      methods = new Map();
      this.#methods.set(known, methods);
    }
    let prepared = methods.get(name);
    if (prepared === undefined) {
      const method = known.methods.get(name);
      if (method === undefined) {
        const why = `${this.#name} has no method "${name}"; it has ${[...known.methods.keys()].join(', ')}`;
        throw new KatamariError('no_pool', why, { notRun: true });
      }
      prepared = prepareMethod(this.#name, method, this.#options.i64 ?? 'bigint');
      methods.set(name, prepared);
    }
    return prepared;
  }

  #encode({ method, title }: PreparedMethod, args: Readonly<Record<string, unknown>>): Buffer {
    const body = encodeStruct(method.args, args);
    const { frameBytesMax } = this.#settings;
    if (body.length + HEAD_BYTES_MAX <= frameBytesMax) return body;
    // The mesh would close the connection.
    const why = `The arguments of ${title} have ${body.length} bytes, the limit is ${frameBytesMax} including headers`;
    throw new KatamariError('too_large', why, { notRun: true });
  }

  #headersOf(given: CallOptions): RequestHeaders {
    const { version, key, tags, roles, minCoverage, traceparent, tracestate } = given;
    if (traceparent !== undefined || tracestate !== undefined)
      return new RequestHeaders({ ...this.#options, ...given }, this.#settings.token);
    const isPlain = version === undefined && key === undefined && tags === undefined && roles === undefined;
    if (isPlain && minCoverage === undefined) return this.#headers;
    const name = JSON.stringify([version, key, tags, roles, minCoverage]);
    let headers = this.#headersByOptions.get(name);
    if (headers === undefined) {
      headers = new RequestHeaders({ ...this.#options, ...given }, this.#settings.token);
      this.#headersByOptions.set(name, headers);
    }
    return headers;
  }
}

function interfaceIn(
  idl: string | URL | IdlSource,
  includes: readonly (string | URL)[] | undefined,
  service: string,
): Interface {
  const source = typeof idl === 'string' || idl instanceof URL ? readIdlFile(idl, includes) : idl;
  const { services } = parseIdl(source);
  const iface = services.get(service);
  if (iface !== undefined) return iface;
  const names = [...services.keys()].join(', ') || 'none';
  throw new KatamariError('bad_request', `${source.main} has no service ${service}; it has ${names}`);
}

const READ_BY_RUNTIMES: ReadonlySet<string> = new Set(['then', 'toJSON']);
const NO_OPTIONS: CallOptions = Object.freeze({});
/** Sets of call options for which encoded headers are cached. */
const HEADERS_KEPT_MAX = 256;
/** Maximum bytes of headers, name and sequence id before the arguments. */
const HEAD_BYTES_MAX = 18_432;

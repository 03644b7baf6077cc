// A service as its callers see it: an object with one function for each method. When the interface is known from the
// start it has exactly those;
import { encodeStruct, parseIdl, readIdlFile } from '../core/idl/mod.ts';
import { KatamariError } from '../core/mod.ts';
import type { IdlSource, Interface } from '../core/thrift/mod.ts';
import type { Channel } from './channel.ts';
import type { InterfaceCache } from './interfaces.ts';
import { checkMs, type CallOptions, type ServiceOptions, type ClientSettings } from './options.ts';
import type { ClientCall } from './pending-call.ts';
import { prepareMethod, type PreparedMethod } from './prepared-method.ts';
import { RequestHeaders } from './request-headers.ts';

// else a function for whatever name it is asked for, and the call learns whether there is such a method.

import { LRUCache } from 'lru-cache';
type Caller = (args?: Readonly<Record<string, unknown>>, options?: CallOptions) => Promise<unknown>;

/** The object with the functions. @throws KatamariError bad_request for options or an IDL that cannot be meant */
export function serviceObject(
  name: string,
  options: ServiceOptions,
  settings: ClientSettings,
  office: Channel,
  book: InterfaceCache,
): object {
  const service = new ServiceCalls(name, options, settings, office, book);
  const { known } = service;
  const functions: Record<string, Caller> = Object.create(null) as Record<string, Caller>;
  const callerOf = (method: string): Caller =>
    (functions[method] ??= (args, given) => service.call(method, args, given));
  if (known !== undefined) {
    for (const method of known.methods.keys()) callerOf(method);
    return Object.freeze(functions);
  }
  return new Proxy(functions, {
    // Whoever awaits the object, or prints it, asks for names that no method has.
    get: (_, method) => (typeof method === 'string' && !ASKED_BY_RUNTIMES.has(method) ? callerOf(method) : undefined),
  });
}

class ServiceCalls {
  /** From the IDL that the caller gave. */
  readonly known: Interface | undefined;
  readonly #name: string;
  readonly #options: ServiceOptions;
  readonly #settings: ClientSettings;
  readonly #office: Channel;
  readonly #book: InterfaceCache;
  readonly #timeoutMs: number;
  readonly #wishes: RequestHeaders;
  /** Of calls with options of their own. */
  readonly #otherWishes = new LRUCache<string, RequestHeaders>({ max: WISHES_MAX });
  /** Several when calls ask for several versions. */
  readonly #plans = new WeakMap<Interface, Map<string, PreparedMethod>>();

  constructor(name: string, options: ServiceOptions, settings: ClientSettings, office: Channel, book: InterfaceCache) {
    if (!/^[A-Za-z_][\w.]*$/.test(name)) {
      throw new KatamariError('bad_request', `${JSON.stringify(name)} is no name of a service, such as Calculator`);
    }
    this.#name = name;
    this.#options = options;
    this.#settings = settings;
    this.#office = office;
    this.#book = book;
    this.#timeoutMs = checkMs('timeoutMs', options.timeoutMs ?? settings.timeoutMs);
    this.#wishes = new RequestHeaders(options);
    this.known = options.idl === undefined ? undefined : interfaceIn(options.idl, name);
  }

  call(
    method: string,
    args: Readonly<Record<string, unknown>> = {},
    given: CallOptions = NO_OPTIONS,
  ): Promise<unknown> {
    const version = given.version ?? this.#options.version ?? '';
    const known = this.known ?? this.#book.known(this.#name, version);
    try {
      const timeoutMs = given.timeoutMs === undefined ? this.#timeoutMs : checkMs('timeoutMs', given.timeoutMs);
      const wishes = given === NO_OPTIONS ? this.#wishes : this.#wishesOf(given);
      if (known !== undefined) {
        const plan = this.#planOf(known, method);
        const body = this.#encode(plan, args);
        const call = this.#office.open(plan.title, wishes, timeoutMs, given.signal);
        this.#office.send(call, plan, body);
        return call.promise;
      }
      const call = this.#office.open(`${this.#name}.${method}`, wishes, timeoutMs, given.signal);
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
      const plan = this.#planOf(await this.#book.of(this.#name, version), method);
      this.#office.send(call, plan, this.#encode(plan, args));
    } catch (error) {
      this.#office.fail(call, error);
    }
  }

  #planOf(known: Interface, name: string): PreparedMethod {
    let plans = this.#plans.get(known);
    if (plans === undefined) {
      plans = new Map();
      this.#plans.set(known, plans);
    }
    let plan = plans.get(name);
    if (plan === undefined) {
      const method = known.methods.get(name);
      if (method === undefined) {
        const why = `${this.#name} has no method "${name}"; it has ${[...known.methods.keys()].join(', ')}`;
        throw new KatamariError('no_pool', why, { notRun: true });
      }
      plan = prepareMethod(this.#name, method, this.#options.i64 ?? 'bigint');
      plans.set(name, plan);
    }
    return plan;
  }

  #encode({ method, title }: PreparedMethod, args: Readonly<Record<string, unknown>>): Buffer {
    const body = encodeStruct(method.args, args);
    const { frameBytesMax } = this.#settings;
    if (body.length + HEAD_BYTES_MAX <= frameBytesMax) return body;
    // The mesh would end the connection over it.
    const why = `The arguments of ${title} have ${body.length} bytes, the limit is ${frameBytesMax} with what goes before them`;
    throw new KatamariError('too_large', why, { notRun: true });
  }

  #wishesOf(given: CallOptions): RequestHeaders {
    const { version, key, tags, roles, traceparent, tracestate } = given;
    if (traceparent !== undefined || tracestate !== undefined)
      return new RequestHeaders({ ...this.#options, ...given });
    if (version === undefined && key === undefined && tags === undefined && roles === undefined) return this.#wishes;
    const name = JSON.stringify([version, key, tags, roles]);
    let wishes = this.#otherWishes.get(name);
    if (wishes === undefined) {
      wishes = new RequestHeaders({ ...this.#options, ...given });
      this.#otherWishes.set(name, wishes);
    }
    return wishes;
  }
}

function interfaceIn(idl: string | URL | IdlSource, service: string): Interface {
  const source = typeof idl === 'string' || idl instanceof URL ? readIdlFile(idl) : idl;
  const { services } = parseIdl(source);
  const found = services.get(service);
  if (found !== undefined) return found;
  const there = [...services.keys()].join(', ') || 'none';
  throw new KatamariError('bad_request', `${source.main} has no service ${service}; services there are ${there}`);
}

const ASKED_BY_RUNTIMES: ReadonlySet<string> = new Set(['then', 'toJSON']);
const NO_OPTIONS: CallOptions = Object.freeze({});
/** Different sets of options of single calls that are remembered. */
const WISHES_MAX = 256;
/** Headers, name and sequence ids before the arguments. */
const HEAD_BYTES_MAX = 18_432;

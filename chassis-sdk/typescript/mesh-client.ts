// Sends calls of handlers to other services, over one link to the mesh at KATAMARI_MESH. The link is opened on first
// use and reopened when it breaks. Interfaces of other services are fetched from the mesh and cached for a few
// seconds, so a chassis needs no IDL except its own.

import { connect } from 'node:net';
import { LRUCache } from 'lru-cache';
import { decodeResult, decodeStruct, encodeStruct, parseIdl, valueOfResult } from '../../core/idl/mod.ts';
import { Link, parseLinkAddress } from '../../core/link/mod.ts';
import { systemClock, type Clock, DEFAULT_LIMITS, KatamariError, type MessageLimits } from '../../core/mod.ts';
import { type Call, type Reply, type ReplyInfo, createCall, meshInterface, replyInfoOf } from '../../core/rpc/mod.ts';
import { type Interface, readApplicationException } from '../../core/thrift/mod.ts';

/** What calls of a handler inherit from the call that it runs. */
export type InheritedContext = Pick<Call, 'deadlineMs' | 'traceparent' | 'tracestate' | 'signal'>;

/** Options of `ctx.call`. */
export interface ContextCallOptions {
  /** Exact version, or a range such as `^1.2`. */
  readonly version?: string;
  /** Timeout in ms, if that is less than the remaining time. */
  readonly timeoutMs?: number;
  /**
   * Share of the shards of an index that must be in the answer, from 0 to 1. It precedes the parameter `minCoverage` of
   * a method, and is also for methods without one.
   */
  readonly minCoverage?: number;
  /**
   * Called with facts about the reply, before the call settles with its value or its declared exception: version and
   * coverage of an index. Not called for other errors and for oneway methods. If it throws, the call rejects with that
   * error.
   */
  readonly onReply?: (info: ReplyInfo) => void;
}

export class MeshCaller {
  readonly #address: string;
  readonly #caller: string;
  readonly #limits: MessageLimits;
  readonly #clock: Clock;
  #link: Promise<Link> | undefined;
  readonly #interfaces = new LRUCache<string, Interface>({ max: 100, ttl: INTERFACE_TTL_MS });

  /**
   * @param address value of KATAMARI_MESH; if it is '', every call fails with an error that says so
   * @param caller name of this process, for example `chassis Reformulate@2.0.0/1`
   */
  constructor(address: string, caller: string, limits: MessageLimits = DEFAULT_LIMITS, clock: Clock = systemClock) {
    this.#address = address;
    this.#caller = caller;
    this.#limits = limits;
    this.#clock = clock;
  }

  /**
   * Calls a method of another service and returns its plain value (i64 as bigint).
   * @throws ThriftException for a declared exception, KatamariError for other errors
   */
  async call(
    service: string,
    method: string,
    args: Readonly<Record<string, unknown>>,
    inherited: InheritedContext,
    { version = '', minCoverage, onReply }: Omit<ContextCallOptions, 'timeoutMs'> = {},
  ): Promise<unknown> {
    const known = await this.#interfaceOf(service, version, inherited);
    const found = known.methods.get(method);
    if (found === undefined) {
      throw new KatamariError(
        'no_pool',
        `${service} has no method "${method}"; it has ${[...known.methods.keys()].join(', ')}`,
      );
    }
    const sent = this.#send(
      createCall({
        ...inherited,
        service,
        method,
        version,
        minCoverage,
        oneway: found.oneway,
        args: encodeStruct(found.args, args),
        caller: this.#caller,
      }),
    );
    if (found.oneway) {
      // A oneway call has no reply to wait for. The mesh counts how it ends.
      sent.catch(() => undefined);
      return undefined;
    }
    const reply = await sent;
    const result = decodeStruct(found.result, reply.body);
    if (onReply !== undefined) onReply(replyInfoOf(reply.context.version, reply.context.rule, reply.context.coverage));
    return valueOfResult(found, result);
  }

  close(): void {
    void this.#link?.then(
      (link) => link.close(),
      () => undefined,
    );
  }

  async #interfaceOf(service: string, version: string, inherited: InheritedContext): Promise<Interface> {
    const key = `${service}@${version}`;
    const kept = this.#interfaces.get(key);
    if (kept !== undefined) return kept;
    const describe = meshInterface().methods.get('describe');
    if (describe === undefined) throw new KatamariError('internal', 'idl/chassis.thrift has no katamari.Mesh.describe');
    const reply = await this.#send(
      createCall({
        ...inherited,
        service: 'katamari.Mesh',
        method: 'describe',
        args: encodeStruct(describe.args, { serviceName: service, version }),
      }),
    );
    const result = decodeResult(describe, reply.body);
    if (!result.ok) throw new KatamariError('internal', `katamari.Mesh.describe threw ${result.exception}`);
    const text = result.value as { idlMain: string; idlFiles: Record<string, string>; idlService?: string };
    const { idlMain: main, idlFiles: files, idlService = service } = text;
    const found = parseIdl({ main, files }).services.get(idlService);
    if (found === undefined)
      throw new KatamariError('internal', `The mesh sent an IDL for ${service} that does not declare it`);
    this.#interfaces.set(key, found);
    return found;
  }

  async #send(call: Call): Promise<Reply> {
    if (this.#address === '') {
      throw new KatamariError(
        'no_pool',
        'KATAMARI_MESH is not set: only a chassis that a mesh has started can call other services',
      );
    }
    this.#link ??= this.#connect();
    const link = await this.#link;
    const reply = await link.dispatch(this.#clock, ({ method }) =>
      call.service === 'katamari.Mesh' ? `katamari.Mesh:${method}` : method,
    )(call);
    if (!reply.isException) return reply;
    throw new KatamariError('internal', readApplicationException(reply.body).message);
  }

  #connect(): Promise<Link> {
    return new Promise((resolve, reject) => {
      const socket = connect(parseLinkAddress(this.#address));
      const onError = (error: Error): void => {
        this.#link = undefined;
        reject(
          new KatamariError('resource_failed', `The mesh at ${this.#address} cannot be reached: ${error.message}`, {
            notRun: true,
          }),
        );
      };
      socket.once('error', onError);
      socket.once('connect', () => {
        socket.off('error', onError);
        const onClose = (): void => {
          this.#link = undefined;
        };
        resolve(
          new Link(socket, {
            peer: 'The mesh',
            limits: this.#limits,
            onClose,
          }),
        );
      });
    });
  }
}

const INTERFACE_TTL_MS = 5_000;

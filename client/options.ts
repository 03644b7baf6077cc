// Options of a client, a service and a call. They are checked here; an invalid option is refused before anything is
// sent, with an error that names the option.

import type { ConnectionOptions } from 'node:tls';
import type { LinkAddress } from '../core/link/mod.ts';
import { DEFAULT_LIMITS, KatamariError, parseAddress } from '../core/mod.ts';
import type { ReplyInfo } from '../core/rpc/mod.ts';
import type { IdlSource } from '../core/thrift/mod.ts';

/** TLS options of node:tls. Without `ca`, the runtime's certificate authorities are trusted. */
export type ClientTls = Pick<ConnectionOptions, 'ca' | 'cert' | 'key' | 'passphrase' | 'servername'>;

export interface ConnectOptions {
  /** Thrift ports of the mesh, `host:port` or `unix:PATH`. With several, the client fails over to the next. */
  readonly addresses: string | readonly string[];
  readonly tls?: ClientTls | boolean;
  /**
   * Bearer token that each call shows. A function is asked for each call, for tokens that are renewed. Use TLS with
   * it: a token is sent as it is.
   */
  readonly token?: string | (() => string);
  /** Timeout of a call in ms, including connecting and retries. Default 10,000. */
  readonly timeoutMs?: number;
  /** False: calls are never retried. Default true. */
  readonly retries?: boolean;
  /** Calls in flight on the connection; further calls wait. Default 256, the pipeline limit of a faceplate. */
  readonly callsMax?: number;
  /**
   * Calls that may wait for a connection or for room on it. Further calls are refused with `overloaded`. Default
   * 10,000.
   */
  readonly waitingMax?: number;
  /** Bytes of one message, in either direction. Default 16 MiB. */
  readonly frameBytesMax?: number;
  /** Timeout for opening a connection, including TLS, in ms. Default 5,000. */
  readonly connectMs?: number;
  /** A connection that was idle for this many ms is replaced before the next call. Default 60,000. */
  readonly idleMs?: number;
}

export interface ServiceOptions {
  /** The interface: path or URL of a .thrift file, or its text. Without it, the client fetches it from the mesh. */
  readonly idl?: string | URL | IdlSource;
  /** Folders for files that the .thrift file includes and that are not relative to it. */
  readonly includes?: readonly (string | URL)[];
  /** Exact version, or a range such as `^1.2`. Without it, the route of the service decides. */
  readonly version?: string;
  readonly timeoutMs?: number;
  /** Preferences: the pool with the most of these tags is used. */
  readonly tags?: readonly string[];
  /** Isolation: only pools with exactly these roles are used. */
  readonly roles?: readonly string[];
  /** Calls with the same key go to the same version. */
  readonly key?: string;
  /**
   * Share of the shards of an index that must be in the answer, from 0 to 1. It precedes the parameter `minCoverage` of
   * a method, and is also for methods without one.
   */
  readonly minCoverage?: number;
  /** Type of i64 values in replies. Default bigint. */
  readonly i64?: 'bigint' | 'number';
}

export interface CallOptions {
  readonly timeoutMs?: number;
  /**
   * Cancels the call when aborted: it rejects with `cancelled` at once. If the mesh has started the call, it runs to
   * its end and the reply is dropped.
   */
  readonly signal?: AbortSignal;
  readonly version?: string;
  readonly tags?: readonly string[];
  readonly roles?: readonly string[];
  readonly key?: string;
  readonly minCoverage?: number;
  /** W3C trace context, passed to the chassis. */
  readonly traceparent?: string;
  readonly tracestate?: string;
  /**
   * Called with facts about the reply, before the call settles with its value or its declared exception: version,
   * coverage of an index, tries. Not called for other errors and for oneway methods. If it throws, the call rejects
   * with that error.
   */
  readonly onReply?: (info: ClientReplyInfo) => void;
}

/** What `onReply` of a call gets. */
export interface ClientReplyInfo extends ReplyInfo {
  /** How often the client sent the call: 1, and one more for each retry. */
  readonly tries: number;
  /** Address of the faceplate that replied, as in `addresses`. */
  readonly address: string;
}

/** An untyped service: any method, with arguments by name. */
export type AnyService = Readonly<
  Record<string, (args?: Readonly<Record<string, unknown>>, options?: CallOptions) => Promise<unknown>>
>;

/** The validated options of a client, with defaults. */
export interface ClientSettings {
  readonly addresses: readonly DialAddress[];
  readonly tls: ClientTls | undefined;
  /** Returns '' for none. */
  readonly token: () => string;
  readonly timeoutMs: number;
  readonly retries: boolean;
  readonly callsMax: number;
  readonly waitingMax: number;
  readonly frameBytesMax: number;
  readonly connectMs: number;
  readonly idleMs: number;
}

/** An address to dial, and its text as the caller gave it, for messages. */
export interface DialAddress {
  readonly text: string;
  readonly at: LinkAddress;
}

/** Validates the options and adds defaults. @throws KatamariError bad_request */
export function settingsOf(options: ConnectOptions): ClientSettings {
  const { addresses, tls = false, token = '' } = options;
  const list = typeof addresses === 'string' ? [addresses] : addresses;
  if (!Array.isArray(list) || list.length === 0) {
    throw new KatamariError('bad_request', "addresses: expected at least one, such as '127.0.0.1:9090'");
  }
  return {
    addresses: list.map(addressOf),
    tls: tls === false ? undefined : tls === true ? {} : tls,
    token: typeof token === 'function' ? token : () => token,
    retries: options.retries ?? true,
    timeoutMs: checkMs('timeoutMs', options.timeoutMs ?? TIMEOUT_MS),
    callsMax: checkCount('callsMax', options.callsMax ?? DEFAULT_LIMITS.pipelineMax),
    waitingMax: checkCount('waitingMax', options.waitingMax ?? WAITING_MAX),
    frameBytesMax: checkCount('frameBytesMax', options.frameBytesMax ?? DEFAULT_LIMITS.frameBytesMax),
    connectMs: checkMs('connectMs', options.connectMs ?? CONNECT_MS),
    idleMs: checkMs('idleMs', options.idleMs ?? IDLE_MS),
  };
}

/** Returns `value` if it is a valid timeout in ms. @throws KatamariError bad_request */
export function checkMs(name: string, value: unknown): number {
  if (typeof value === 'number' && value > 0 && value <= MS_MAX) return value;
  throw new KatamariError('bad_request', `${name}: expected milliseconds above 0, up to 24 days, got ${String(value)}`);
}

function checkCount(name: string, value: unknown): number {
  if (Number.isSafeInteger(value) && (value as number) > 0) return value as number;
  throw new KatamariError('bad_request', `${name}: expected a whole number above 0, got ${String(value)}`);
}

function addressOf(text: unknown): DialAddress {
  if (typeof text === 'string') {
    const at = text.startsWith('unix:') ? { path: text.slice('unix:'.length) } : parseAddress(text);
    if (at !== undefined && !('path' in at && at.path === '')) return { text, at };
  }
  throw new KatamariError('bad_request', `addresses: expected host:port or unix:PATH, got ${JSON.stringify(text)}`);
}

const TIMEOUT_MS = 10_000;
const WAITING_MAX = 10_000;
const CONNECT_MS = 5_000;
const IDLE_MS = 60_000;
/** The longest delay of a timer. On every runtime, a longer one fires at once. */
const MS_MAX = 2 ** 31 - 1;

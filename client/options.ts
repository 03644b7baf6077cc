// What callers may say: once for a mesh, once for a service, or for one call. Checked here, in words that name the
// option; a call with an option that cannot be meant is refused before anything is sent.

import type { LinkAddress } from '../core/link/mod.ts';
import { DEFAULT_LIMITS, KatamariError, parseAddress } from '../core/mod.ts';
import type { IdlSource } from '../core/thrift/mod.ts';
import type { ConnectionOptions } from 'node:tls';
/** As node:tls takes them; without `ca` the authorities that the runtime trusts. */
export type ClientTls = Pick<ConnectionOptions, 'ca' | 'cert' | 'key' | 'passphrase' | 'servername'>;

export interface ConnectOptions {
  /** Thrift ports of the mesh, `host:port` (or `unix:PATH`): one, or several for when one does not answer. */
  readonly addresses: string | readonly string[];
  readonly tls?: ClientTls | boolean;
  /** For a call, waiting for a connection and for other tries included; 10,000 unless told. */
  readonly timeoutMs?: number;
  /** False: nothing is ever sent twice. */
  readonly retries?: boolean;
  /** Calls under way on the connection; others wait. 256 unless told, as many as a faceplate reads. */
  readonly callsMax?: number;
  /**
   * Calls that may wait for a connection or for room on it; 10,000 unless told. Others are refused with `overloaded`.
   */
  readonly waitingMax?: number;
  /** Bytes of one message, in either direction; 16 MiB unless told. */
  readonly frameBytesMax?: number;
  /** For opening a connection, TLS included; 5,000 unless told. */
  readonly connectMs?: number;
  /** A connection that was not used for so long is not trusted with the next call; 60,000 unless told. */
  readonly idleMs?: number;
}

export interface ServiceOptions {
  /** The interface: path or URL of a .thrift file, or its text. Without it the mesh is asked. */
  readonly idl?: string | URL | IdlSource;
  /** Exact, or a range such as `^1.2`; without it the mesh's route chooses. */
  readonly version?: string;
  readonly timeoutMs?: number;
  /** Preferences: the pool that has most of them is used. */
  readonly tags?: readonly string[];
  /** A wall: pools with exactly these. */
  readonly roles?: readonly string[];
  /** Calls with the same key go to the same version. */
  readonly key?: string;
  /** What i64 values in answers are: bigint unless told. */
  readonly i64?: 'bigint' | 'number';
}

export interface CallOptions {
  readonly timeoutMs?: number;
  /**
   * Aborted: the call rejects with `cancelled` at once. What the mesh has begun is finished there, and its answer
   * dropped.
   */
  readonly signal?: AbortSignal;
  readonly version?: string;
  readonly tags?: readonly string[];
  readonly roles?: readonly string[];
  readonly key?: string;
  /** W3C trace context, handed on to the chassis. */
  readonly traceparent?: string;
  readonly tracestate?: string;
}

/** A service without types: any method, arguments by name. */
export type AnyService = Readonly<
  Record<string, (args?: Readonly<Record<string, unknown>>, options?: CallOptions) => Promise<unknown>>
>;

/** All options of a mesh, checked. */
export interface ClientSettings {
  readonly addresses: readonly DialAddress[];
  readonly tls: ClientTls | undefined;
  readonly timeoutMs: number;
  readonly retries: boolean;
  readonly callsMax: number;
  readonly waitingMax: number;
  readonly frameBytesMax: number;
  readonly connectMs: number;
  readonly idleMs: number;
}

/** Where to dial: a parsed address, and its text as the caller gave it, for messages. */
export interface DialAddress {
  readonly text: string;
  readonly at: LinkAddress;
}

/** @throws KatamariError bad_request */
export function settingsOf(options: ConnectOptions): ClientSettings {
  const { addresses, tls = false } = options;
  const list = typeof addresses === 'string' ? [addresses] : addresses;
  if (!Array.isArray(list) || list.length === 0) {
    throw new KatamariError('bad_request', "addresses: expected at least one, such as '127.0.0.1:9090'");
  }
  return {
    addresses: list.map(addressOf),
    tls: tls === false ? undefined : tls === true ? {} : tls,
    retries: options.retries ?? true,
    timeoutMs: checkMs('timeoutMs', options.timeoutMs ?? TIMEOUT_MS),
    callsMax: checkCount('callsMax', options.callsMax ?? DEFAULT_LIMITS.pipelineMax),
    waitingMax: checkCount('waitingMax', options.waitingMax ?? WAITING_MAX),
    frameBytesMax: checkCount('frameBytesMax', options.frameBytesMax ?? DEFAULT_LIMITS.frameBytesMax),
    connectMs: checkMs('connectMs', options.connectMs ?? CONNECT_MS),
    idleMs: checkMs('idleMs', options.idleMs ?? IDLE_MS),
  };
}

/** @throws KatamariError bad_request */
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
  throw new KatamariError('bad_request', `addresses: expected host:port, got ${JSON.stringify(text)}`);
}

const TIMEOUT_MS = 10_000;
const WAITING_MAX = 10_000;
const CONNECT_MS = 5_000;
const IDLE_MS = 60_000;
/** Longer timers fire at once, on every runtime. */
const MS_MAX = 2 ** 31 - 1;

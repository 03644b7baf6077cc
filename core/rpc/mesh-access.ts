// A faceplate's access to the mesh: it can send calls and read a directory of the pools. The router implements the
// directory; its methods return at once and change nothing.

import type { KatamariError } from '../mod.ts';
import type { HeadersIn, Interface, Method } from '../thrift/mod.ts';
import type { Call, Dispatch, Send } from './call.ts';
import type { Authenticator, CallerIdentity } from './caller-identity.ts';

/** How a chassis describes itself. Chassis with equal details and equal interface form a pool. */
export interface PoolDetails {
  readonly service: string;
  readonly version: string;
  /** Isolation: only calls with exactly these roles reach the pool. */
  readonly roles: readonly string[];
  /** Preference: of matching pools, the one that shares the most tags with the call wins. */
  readonly tags: readonly string[];
  /** Other details by key. */
  readonly more: Readonly<Record<string, string>>;
}

/** Whether a service is one of the mesh itself, which every faceplate serves to owners of admin tokens. */
export function isAdminService(service: string): boolean {
  return service === 'Katamari' || service === 'KatamariIndices' || service === 'KatamariVersions';
}

/** Whether a service is one of the mesh itself, for owners of admin tokens or for everybody. */
export function isMeshService(service: string): boolean {
  return isAdminService(service) || service === 'katamari.Mesh';
}

/** A snapshot of a pool. */
export interface PoolView {
  /** `Service@version`, with a suffix when several pools share both. */
  readonly id: string;
  readonly details: PoolDetails;
  readonly interface: Interface;
  /** Resources that can take a call now. */
  readonly free: number;
  /** Resources that are alive, whether free or busy. */
  readonly alive: number;
  /** Calls that wait in the queue. */
  readonly queued: number;
}

/** A pool with the reason for which the route of its service has chosen it. */
export interface ChosenPool extends PoolView {
  /** Name of the rule; absent for the weights or the wish of the caller. It goes into the call as `rule`. */
  readonly rule?: string;
  /** The arguments by its interface, if the route of its service had them encoded to find a sticky key. */
  readonly args?: Uint8Array;
}

/** The fields of a call that select its pool. */
export type PoolQuery = Pick<Call, 'service' | 'method' | 'version' | 'roles' | 'tags' | 'details' | 'key'> & {
  /** Who makes the call; an anonymous caller by default. */
  readonly identity?: CallerIdentity;
  /** Headers of the request, for the rules of routes. */
  readonly headers?: HeadersIn;
  /** The arguments, in which the route of the service may find a sticky key. */
  readonly args?: Uint8Array;
  /** Encodes the arguments for that, if the caller of `choose` needs the pool to encode them. */
  readonly encoder?: ArgumentEncoder;
};

/** Encodes the arguments of a call by the interface of a pool. */
export interface ArgumentEncoder {
  /** Returns the argument struct in strict binary. @throws KatamariError bad_request */
  encode(method: Method, pool: PoolView): Uint8Array;
}

/** A call that waits until its service has a copy. Either `resume` or `fail` is called, once. */
export interface CallWithoutPool {
  readonly deadlineMs: number;
  readonly signal: AbortSignal | undefined;
  readonly doNotQueue: boolean;
  /** Called when the pools have changed: choose again. */
  resume(): void;
  fail(error: KatamariError): void;
}

export interface Directory {
  /** Returns the currently known pools, sorted by service, then version. */
  pools(): readonly PoolView[];
  /**
   * Returns the pool to which a call would be routed now, by details, roles, tags, then its route. A
   * faceplate that needs the interface to encode arguments calls this first, then sends the call with that pool's
   * exact version.
   * @throws KatamariError `no_pool`, with `facts.unknownMethod` when no service of the mesh has the method; `denied`
   * when the caller may not call it.
   */
  choose(query: PoolQuery): ChosenPool;
  /** Whether a caller may call a method of a pool. Without an access policy, every accepted caller may. */
  mayCall(identity: CallerIdentity, pool: PoolView, method: string): boolean;
  /**
   * Lets a call for which `choose` threw `no_pool` wait for the first copy of its service, if that is deployed. The
   * wait ends at the deadline. If the copies cannot start, or too many calls wait, it fails at once.
   * @returns false when the service is not deployed: `call` is not used, and `no_pool` is the answer
   */
  waitForCopy(query: PoolQuery, call: CallWithoutPool): boolean;
}

/** The access of a faceplate to the mesh. */
export interface MeshAccess {
  readonly dispatch: Dispatch;
  /** Like `dispatch`, without a promise: for faceplates that pass bytes through. */
  readonly send: Send;
  readonly directory: Directory;
  /** Returns the global timeout in ms, which an operator can change at run time. */
  timeoutMs(): number;
  /** Verifies tokens of callers. Without it, every caller is accepted as anonymous. */
  readonly authenticator?: Authenticator | undefined;
  /** The identity of a caller about whom a faceplate says nothing; default anonymous. */
  readonly anonymous?: CallerIdentity;
}

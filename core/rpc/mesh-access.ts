// What a faceplate may know of the mesh: which pools there are, and which of them a call would meet.
// The router implements it; faceplates and the admin service only read it. Nothing here waits or changes anything.

import type { Interface } from '../thrift/mod.ts';
import type { Call, Dispatch, Send } from './call.ts';

/** What a chassis says it is. Equal details and equal interface make a pool. */
export interface PoolDetails {
  readonly service: string;
  readonly version: string;
  /** A wall: calls with other roles never get here. */
  readonly roles: readonly string[];
  /** A preference. */
  readonly tags: readonly string[];
  /** Any other key. */
  readonly more: Readonly<Record<string, string>>;
}

/** A pool as seen from outside, at this moment. */
export interface PoolView {
  /** `Service@version`, with a suffix when several pools share both. */
  readonly id: string;
  readonly details: PoolDetails;
  readonly interface: Interface;
  /** Resources that can take a call now. */
  readonly free: number;
  /** Resources that are alive: free and busy. */
  readonly alive: number;
  /** Calls waiting. */
  readonly queued: number;
}

/** What picks the pool of a call. */
export type PoolQuery = Pick<Call, 'service' | 'method' | 'version' | 'roles' | 'tags' | 'details' | 'key'>;

export interface Directory {
  /** Every pool known now, ordered by service, then version. */
  pools(): readonly PoolView[];
  /**
   * Returns the pool that a call would go to now, by details, roles, tags, then the route's weights. A faceplate that
   * needs the interface to encode the arguments calls this first, then sends the call with the exact version of that
   * pool.
   * @throws KatamariError `no_pool`, with `facts.unknownMethod` when no service of the mesh has the method.
   */
  choose(query: PoolQuery): PoolView;
}

/** The mesh as a faceplate gets it. */
export interface MeshAccess {
  readonly dispatch: Dispatch;
  /** The same, for faceplates that pass bytes through. */
  readonly send: Send;
  readonly directory: Directory;
  /** Global timeout in ms; changes while running. */
  timeoutMs(): number;
}

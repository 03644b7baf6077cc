// What the readiness check expects of a new process, and what it learns about it.

import { KatamariError, type Clock } from '../../core/mod.ts';
import type { PoolDetails } from '../../core/rpc/mod.ts';
import type { Interface } from '../../core/thrift/mod.ts';
import type { Deployment } from '../mesh/mod.ts';
import type { ResourceLink } from './resource.ts';

// What the readiness check expects of a new process and what it finds out.

/** What a chassis turned out to be. */
export interface ReadyChassis {
  readonly details: PoolDetails;
  readonly interface: Interface;
  readonly places: number;
  /** Calls it takes beyond these and keeps in line. */
  readonly ahead: number;
  readonly link: ResourceLink;
  /** Asks it whether it is well, and rejects when it is not; undefined when there is nothing to ask. */
  readonly isWell: (() => Promise<unknown>) | undefined;
}

/** What the deployment says; the chassis may not contradict it. */
export type ExpectedChassis = Pick<
  Deployment,
  'service' | 'version' | 'roles' | 'tags' | 'more' | 'idl' | 'transport' | 'protocol' | 'healthCheck' | 'concurrency'
>;

export interface ReadinessOptions {
  readonly name: string;
  /** `unix:PATH` or `tcp:HOST:PORT` where it listens. */
  readonly address: string;
  readonly expected: ExpectedChassis;
  readonly frameBytesMax: number;
  readonly clock: Clock;
  /** Aborted when the process ends or the start takes too long. */
  readonly signal: AbortSignal;
  readonly onLinkClosed: (error: KatamariError) => void;
}

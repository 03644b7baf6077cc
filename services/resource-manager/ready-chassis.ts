// What the readiness check expects of a new process, and what it finds out about it.

import type { Clock, KatamariError, MessageLimits } from '../../core/mod.ts';
import type { Call, PoolDetails, Reply } from '../../core/rpc/mod.ts';
import type { Interface } from '../../core/thrift/mod.ts';
import type { Deployment } from '../mesh/mod.ts';
import type { ResourceLink } from './resource.ts';

/** What the readiness check found out about a chassis. */
export interface ReadyChassis {
  readonly details: PoolDetails;
  readonly interface: Interface;
  /** Calls that it runs at the same time. */
  readonly concurrency: number;
  /** Calls that it buffers beyond these. */
  readonly ahead: number;
  readonly link: ResourceLink;
  /** Checks the health of the chassis; rejects when it is not healthy. undefined when there is no check. */
  readonly checkHealth: (() => Promise<unknown>) | undefined;
  /** Whether it is a content server. */
  readonly holdsShards: boolean;
  /** Calls the chassis beside the calls of its pool; undefined for a plain server. */
  readonly dispatch: ((call: Call) => Promise<Reply>) | undefined;
}

/** What the deployment says about the chassis. The chassis must not contradict it. */
export type ExpectedChassis = Pick<
  Deployment,
  'service' | 'version' | 'roles' | 'tags' | 'more' | 'idl' | 'transport' | 'protocol' | 'healthCheck' | 'concurrency'
>;

export interface ReadinessOptions {
  readonly name: string;
  /** `unix:PATH` or `tcp:HOST:PORT` where the process listens. */
  readonly address: string;
  readonly expected: ExpectedChassis;
  readonly limits: MessageLimits;
  readonly clock: Clock;
  /** Aborted when the process ends or the start timeout passes. */
  readonly signal: AbortSignal;
  /** Called when the link of a chassis with a kit has closed. */
  readonly onLinkClosed: (error: KatamariError) => void;
  /** Called when a plain server has closed a connection or accepted one again. @param hasLostCalls with calls on it */
  readonly onConnectionsChanged: (hasLostCalls: boolean) => void;
  /** Called when a plain server has accepted no connection for too long. */
  readonly onUnreachable: (why: string) => void;
}

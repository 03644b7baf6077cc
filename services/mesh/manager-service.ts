// The control service of a resource manager (idl/manager.thrift), server and client. Status, events and commands of
// operators travel over the link between faceplate and manager, so they work without Consul.

import { parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import { KatamariError, type Clock } from '../../core/mod.ts';
import {
  callControl,
  dispatchOf,
  serveHandlers,
  type EventKind,
  type MeshEvent,
  type MeshStatus,
  type Send,
} from '../../core/rpc/mod.ts';
import { ThriftException, type Interface } from '../../core/thrift/mod.ts';
import type { EventLog } from './event-log.ts';
import type { Peer } from './peer.ts';
import {
  thriftVersionReport,
  versionReportOfThrift,
  type ThriftVersionReport,
  type VersionReport,
} from './version-count.ts';
import type { VersionReports } from './version-reports.ts';
import { statusOfThrift, thriftStatus, type ThriftStatus } from './thrift-status.ts';

/** Shards of one index version that a manager serves; see idl/manager.thrift. */
export interface Holding {
  /** `name@version` */
  readonly indexVersion: string;
  /** `0-31,64` */
  readonly places: string;
  readonly serviceName: string;
  readonly serviceVersion: string;
  /** SHA-256 of the list of all shards of the version. */
  readonly manifest: string;
}

/** A shard that a manager is to serve and does not, because something failed. */
export interface UnservedShard {
  readonly indexVersion: string;
  readonly place: number;
  readonly why: string;
}

/** All holdings of a manager at one moment. */
export interface Holdings {
  readonly seq: number;
  readonly start: string;
  readonly holdings: readonly Holding[];
  readonly failed: readonly UnservedShard[];
}

/** A shard on a manager; see idl/manager.thrift. */
export interface ReplicaFacts {
  readonly shard: string;
  readonly state: string;
  readonly bytes: number;
  readonly bytesDone: number;
  readonly entries: number;
  readonly why: string;
  readonly tries: number;
  readonly nextTryInMs: number;
}

/** A check of the files of a shard on a manager; see idl/manager.thrift. */
export interface CheckFacts {
  readonly shard: string;
  readonly state: string;
  readonly bytes: number;
  readonly bytesDone: number;
  readonly why: string;
  readonly replica: string;
}

/** Which shards of an index to check; '' for all versions, and for all shards. */
export interface CheckTarget {
  readonly index: string;
  readonly version: string;
  readonly shard: string;
}

/** The shards of a source; see idl/manager.thrift. */
export interface SourceFacts {
  readonly shards: readonly { readonly name: string; readonly bytes: number; readonly digest: string }[];
  readonly warnings: readonly string[];
}

export interface ManagerActions {
  readonly status: () => MeshStatus;
  readonly events: EventLog;
  /** Name of this process. `events` returns only the events of this process; every other process returns its own. */
  readonly name: string;
  /** @param by the process that asks, and for whom */
  readonly roll: (service: string, version: string, by: string) => Promise<number>;
  readonly restart: (resource: string, by: string) => Promise<void>;
  readonly holdings: (start: string, afterSeq: number, waitMs: number) => Promise<Holdings>;
  /** @param index name of an index; '' for all */
  readonly replicas: (index: string) => readonly ReplicaFacts[];
  /** Starts to check files. The same id again starts nothing. */
  readonly verify: (id: string, target: CheckTarget) => readonly CheckFacts[];
  readonly verification: (id: string) => readonly CheckFacts[];
  readonly versions: VersionReports;
  /** Rejects with an error that says what is wrong with the source. */
  readonly inspect: (source: string) => Promise<SourceFacts>;
}

/** Serves `katamari.Manager`; forwards all other calls to `send`. */
export function withManagerService(actions: ManagerActions, send: Send): Send {
  const { status, events, name, roll, restart, holdings, replicas, verify, verification, inspect, versions } = actions;
  const serve = serveHandlers<string>({
    interface: managerInterface(),
    i64: 'number',
    contextOf: ({ caller }) => caller,
    handlers: {
      status: () => thriftStatus(status()),
      events: ({ afterSeq, waitMs }: { afterSeq: number; waitMs: number }) =>
        events.next(afterSeq, waitMs, ({ process, kind }) => process === name && !isLoggedEverywhere(kind)),
      roll: ({ serviceName, version }: { serviceName: string; version: string }, by) => roll(serviceName, version, by),
      restart: ({ resource }: { resource: string }, by) => restart(resource, by),
      holdings: ({ start, afterSeq, waitMs }: { start: string; afterSeq: number; waitMs: number }) =>
        holdings(start, afterSeq, waitMs),
      replicas: ({ index }: { index: string }) => replicas(index),
      verify: ({ id, ...target }: CheckTarget & { id: string }) => verify(id, target),
      verification: ({ id }: { id: string }) => verification(id),
      observe: ({ report }: { report: ThriftVersionReport }) => versions.tell(versionReportOfThrift(report)),
      observations: ({ serviceName }: { serviceName: string }) => versions.read(serviceName).map(thriftVersionReport),
      inspect: ({ source }: { source: string }) =>
        inspect(source).catch((error: Error) => {
          throw new ThriftException('ManagerRefused', { why: error.message });
        }),
    },
  });
  return (call, sink) => (call.service === SERVICE ? serve : send)(call, sink);
}

/** Client of the control service of one manager. */
export class ManagerClient {
  readonly #peer: Peer;
  readonly #clock: Clock;

  constructor(peer: Peer, clock: Clock) {
    this.#peer = peer;
    this.#clock = clock;
  }

  async status(): Promise<MeshStatus> {
    return statusOfThrift((await this.#call('status', {}, STATUS_MS)) as ThriftStatus);
  }

  events(afterSeq: number, waitMs: number): Promise<readonly MeshEvent[]> {
    return this.#call('events', { afterSeq, waitMs }, waitMs + ANSWER_MS) as Promise<readonly MeshEvent[]>;
  }

  /** The holdings; waits up to `waitMs` while they are those of `start` and `afterSeq`. */
  holdings(start: string, afterSeq: number, waitMs: number): Promise<Holdings> {
    return this.#call('holdings', { start, afterSeq, waitMs }, waitMs + ANSWER_MS) as Promise<Holdings>;
  }

  replicas(index: string): Promise<readonly ReplicaFacts[]> {
    return this.#call('replicas', { index }, ANSWER_MS) as Promise<readonly ReplicaFacts[]>;
  }

  verify(id: string, target: CheckTarget): Promise<readonly CheckFacts[]> {
    return this.#call('verify', { id, ...target }, ANSWER_MS) as Promise<readonly CheckFacts[]>;
  }

  verification(id: string): Promise<readonly CheckFacts[]> {
    return this.#call('verification', { id }, ANSWER_MS) as Promise<readonly CheckFacts[]>;
  }

  /** Tells the manager what this process has counted of a service. */
  async observe(report: VersionReport): Promise<void> {
    await this.#call('observe', { report: thriftVersionReport(report) }, ANSWER_MS);
  }

  /** @param service '' for all */
  async observations(service: string): Promise<readonly VersionReport[]> {
    const reports = await this.#call('observations', { serviceName: service }, ANSWER_MS);
    return (reports as readonly ThriftVersionReport[]).map(versionReportOfThrift);
  }

  /** @throws KatamariError bad_request that says what is wrong with the source */
  inspect(source: string): Promise<SourceFacts> {
    return this.#call('inspect', { source }, INSPECT_MS) as Promise<SourceFacts>;
  }

  /** @param by who asks, for the audit log of the manager */
  roll(serviceName: string, version: string, by: string, waitMs: number): Promise<number> {
    return this.#call('roll', { serviceName, version }, waitMs, by) as Promise<number>;
  }

  async restart(resource: string, by: string, waitMs: number): Promise<void> {
    await this.#call('restart', { resource }, waitMs, by);
  }

  async #call(
    name: string,
    params: Readonly<Record<string, unknown>>,
    waitMs: number,
    caller = 'a faceplate',
  ): Promise<unknown> {
    const dispatch = dispatchOf((call, sink) => this.#peer.send(call, sink, `${SERVICE}:${name}`));
    const what = { service: SERVICE, method: name, deadlineMs: this.#clock.nowMs() + waitMs, caller };
    const answer = await callControl(dispatch, managerInterface(), what, params);
    if (answer.kind === 'failed') throw new KatamariError('internal', answer.message);
    if (answer.kind === 'declared') throw new KatamariError('bad_request', String(answer.fields['why']));
    return answer.value;
  }
}

/** Whether every process logs events of this kind itself. Gathering them would duplicate them. */
function isLoggedEverywhere(kind: EventKind): boolean {
  return LOGGED_EVERYWHERE.has(kind);
}

function managerInterface(): Interface {
  known ??= parseIdl(readIdlFile(new URL('../../idl/manager.thrift', import.meta.url))).services.get('Manager');
  if (known === undefined) throw new KatamariError('internal', 'idl/manager.thrift has no service Manager');
  return known;
}

const LOGGED_EVERYWHERE: ReadonlySet<EventKind> = new Set([
  'manager_joined',
  'manager_left',
  'link_lost',
  'link_found',
  'leader_changed',
  'settings_changed',
  'routes_changed',
  'rollout_changed',
  'rollout_reverted',
]);
const SERVICE = 'katamari.Manager';
/** Parsed at first use. */
let known: Interface | undefined;
const STATUS_MS = 2_000;
const ANSWER_MS = 5_000;
/** The manager gives up after a minute. */
const INSPECT_MS = 65_000;

// Status and events of a process, as read by `/status`, `katamari status`, the dashboard and the metrics. Plain data
// without bigint, so it is safe to serialize as JSON. `idl/katamari.thrift` defines the same structs for the admin
// service.

/**
 * State of a resource.
 * - starting: its process was launched and is not ready yet.
 * - idle: ready and in its pool, without calls.
 * - busy: in its pool, at its concurrency limit.
 * - draining: finishes its calls, takes no new ones, then stops.
 * - stopping: its process is being ended (SIGTERM, then SIGKILL).
 * - backing_off: it crashed or failed to start, and waits before the next start.
 * - failed: every start would fail; it is not started again until the deployment or a file that it uses changes.
 */
export const RESOURCE_STATES = ['starting', 'idle', 'busy', 'draining', 'stopping', 'backing_off', 'failed'] as const;
export type ResourceState = (typeof RESOURCE_STATES)[number];

/** Why a chassis process ended or was replaced. */
export const RESTART_REASONS = [
  'crashed',
  'start_failed',
  'hung',
  'ping_failed',
  'protocol',
  'retired',
  'age',
  'calls',
  'memory',
  'rolling',
  'operator',
] as const;
export type RestartReason = (typeof RESTART_REASONS)[number];

export interface ResourceStatus {
  /** `Service@version/index`, for example `Calculator@1.0.0/2`. */
  readonly name: string;
  readonly state: ResourceState;
  readonly pid: number;
  /** Calls that it is running. */
  readonly inFlight: number;
  readonly callsServed: number;
  /** Time since its process was launched, in ms; 0 without a process. */
  readonly ageMs: number;
  readonly rssBytes: number;
  /** How often its process was replaced, for any reason. */
  readonly restarts: number;
  /** What is wrong or what happened last, as text; '' for nothing. */
  readonly note: string;
}

/** A call that has cost a copy its connection or its life; see `refused_as_poison`. */
export interface SuspectCall {
  readonly method: string;
  /** Caller without its port. */
  readonly caller: string;
  /** Hash of the arguments and their number of bytes. */
  readonly shape: string;
  /** Copies that it has certainly cost, and copies that it or a neighbor has cost. */
  readonly losses: number;
  readonly doubts: number;
  /** How much longer it is refused, in ms; 0 when it may run. */
  readonly refusedForMs: number;
  /** Calls that were refused. */
  readonly refused: number;
}

export interface PoolStatus {
  readonly id: string;
  readonly service: string;
  readonly version: string;
  readonly roles: readonly string[];
  readonly tags: readonly string[];
  readonly interfaceId: string;
  readonly manager: string;
  /** Desired number of resources. */
  readonly wanted: number;
  /** Idle and busy resources. */
  readonly alive: number;
  readonly free: number;
  readonly queued: number;
  readonly queueMax: number;
  /** Share of the service's calls that this version gets, 0..1. */
  readonly weight: number;
  readonly calls: number;
  readonly errors: number;
  /** Calls per second over the last 10 s. */
  readonly ratePerS: number;
  /** Percentiles of service time and queue time over the last 10 s, in ms; null without calls. */
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
  readonly queueP99Ms: number | null;
  readonly restartsByReason: Readonly<Partial<Record<RestartReason, number>>>;
  readonly resources: readonly ResourceStatus[];
  /** Absent in the status of a manager of an older version. */
  readonly suspects?: readonly SuspectCall[];
  /** What is wrong with the pool as a whole; '' for nothing. */
  readonly note: string;
}

/**
 * State of a process of the mesh, as seen from the process that reports it.
 * - up: it answers.
 * - draining: it is shutting down, or an operator drained it.
 * - unreachable: it is registered in Consul, but its link does not answer.
 */
export type ProcessState = 'up' | 'draining' | 'unreachable';

/** One process of the mesh. */
export interface ProcessStatus {
  readonly name: string;
  readonly role: 'master' | 'manager' | 'faceplate';
  readonly machine: string;
  /** Address of its stats faceplate, `http://host:port`; '' for none. */
  readonly stats: string;
  readonly state: ProcessState;
  /** Relative share of the copies that a resource manager gets; 0 for other roles. */
  readonly capacity: number;
  /** Live resources of a resource manager; 0 for other roles. */
  readonly resources: number;
  /** Whether it is the leading master. */
  readonly isLeader: boolean;
}

export interface MeshStatus {
  readonly mesh: string;
  /** Name of this process. */
  readonly name: string;
  readonly version: string;
  readonly runtime: string;
  readonly pid: number;
  readonly uptimeMs: number;
  readonly isReady: boolean;
  readonly isDraining: boolean;
  /** Why the process is not ready; '' if it is ready. */
  readonly note: string;
  readonly roles: readonly string[];
  readonly timeoutMs: number;
  readonly rssBytes: number;
  readonly connections: Readonly<Record<string, number>>;
  readonly listeners: readonly { readonly name: string; readonly address: string }[];
  readonly calls: {
    readonly accepted: number;
    readonly replied: number;
    readonly failed: number;
    readonly refused: number;
    readonly timed_out: number;
    readonly cancelled: number;
    readonly inFlight: number;
  };
  readonly pools: readonly PoolStatus[];
  /** The known processes of the mesh, sorted by role, then name. */
  readonly processes: readonly ProcessStatus[];
  /** Name of the leading master ('' for none) and its term. */
  readonly leader: string;
  readonly term: number;
}

export const EVENT_KINDS = [
  'resource_starting',
  'resource_ready',
  'resource_ended',
  'resource_backing_off',
  'resource_failed',
  'resource_refused',
  'pool_ready',
  'pool_empty',
  'pool_gone',
  'call_refused',
  'copies_disagree',
  'shard_failed',
  'shard_damaged',
  'shard_restored',
  'index_incomplete',
  'index_ready',
  'rolling_started',
  'rolling_done',
  'settings_changed',
  'routes_changed',
  'rollout_changed',
  'rollout_reverted',
  'credentials_changed',
  'policy_changed',
  'access_denied',
  'rate_limited',
  'leader_changed',
  'manager_joined',
  'manager_left',
  'link_lost',
  'link_found',
  'assigned',
  'order_refused',
  'deployment_changed',
  'tokens_changed',
  'drained',
  'consul_lost',
  'consul_found',
  'audit_failed',
  'audit_restored',
  'assignments_failed',
  'defect',
  'mesh_ready',
  'mesh_draining',
] as const;
export type EventKind = (typeof EVENT_KINDS)[number];

/** An event, kept in a ring buffer and shown by `katamari events`. */
export interface MeshEvent {
  /** Increments by one per event. A reader requests all events after the last one that it has. */
  readonly seq: number;
  /** Unix time in ms. */
  readonly atMs: number;
  /** Name of the process in which it happened. */
  readonly process: string;
  readonly kind: EventKind;
  /** The pool, resource or setting that the event concerns. */
  readonly subject: string;
  readonly text: string;
  /** Last lines of output of a chassis that crashed or failed to start. */
  readonly lines: readonly string[];
}

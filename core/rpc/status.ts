// What a process tells about itself to people and programs: `/status`, `katamari status`, the dashboard and the
// metrics all read these shapes. Plain data, JSON-safe, no bigint. `idl/katamari.thrift` has the same structs for the
// admin service.

/**
 * Where a resource is in its life.
 * - starting: its process was launched and does not answer yet.
 * - idle: introduced, in its pool, free. - busy: in its pool, every place taken.
 * - draining: takes no new call, finishes what it has, then stops. - stopping: was told to end (SIGTERM, then
 *   SIGKILL).
 * - backing_off: died or failed its start; waits before the next one.
 * - failed: refused for good (its interface clashes with its pool's) until somebody restarts it.
 */
export const RESOURCE_STATES = ['starting', 'idle', 'busy', 'draining', 'stopping', 'backing_off', 'failed'] as const;
export type ResourceState = (typeof RESOURCE_STATES)[number];

/** Why a chassis process was ended or replaced. */
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
  /** Calls under way in it. */
  readonly inFlight: number;
  readonly callsServed: number;
  /** Since its process was launched, in ms; 0 when there is none. */
  readonly ageMs: number;
  readonly rssBytes: number;
  /** Times its place was filled anew, by any reason. */
  readonly restarts: number;
  /** What is wrong or what happened last, for people; '' when nothing did. */
  readonly note: string;
}

export interface PoolStatus {
  readonly id: string;
  readonly service: string;
  readonly version: string;
  readonly roles: readonly string[];
  readonly tags: readonly string[];
  readonly interfaceId: string;
  readonly manager: string;
  readonly wanted: number;
  /** Idle and busy. */
  readonly alive: number;
  readonly free: number;
  readonly queued: number;
  readonly queueMax: number;
  /** Share of the service's calls that this version gets, 0..1. */
  readonly weight: number;
  readonly calls: number;
  readonly errors: number;
  /** Calls a second over the last 10 s. */
  readonly ratePerS: number;
  /** Service time and queue time over the last 10 s, in ms; null when there was no call. */
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
  readonly queueP99Ms: number | null;
  readonly restartsByReason: Readonly<Partial<Record<RestartReason, number>>>;
  readonly resources: readonly ResourceStatus[];
  /** What is wrong with the pool as a whole; '' when nothing is. */
  readonly note: string;
}

/**
 * How a process of the mesh stands, as seen from the one that is asked.
 * - up: it answers. - draining: it is leaving, or was told to run nothing. - unreachable: Consul knows it, its link
 *   does not answer.
 */
export type ProcessState = 'up' | 'draining' | 'unreachable';

/** One process of the mesh. */
export interface ProcessStatus {
  readonly name: string;
  readonly role: 'master' | 'manager' | 'faceplate';
  readonly machine: string;
  /** Its stats faceplate, `http://host:port`; '' for none. */
  readonly stats: string;
  readonly state: ProcessState;
  /** Of managers: relative share of copies, and resources that live; else 0. */
  readonly capacity: number;
  readonly resources: number;
  /** Of masters: whether it leads. */
  readonly isLeader: boolean;
}

export interface MeshStatus {
  readonly mesh: string;
  /** This process. */
  readonly name: string;
  readonly version: string;
  readonly runtime: string;
  readonly pid: number;
  readonly uptimeMs: number;
  readonly isReady: boolean;
  readonly isDraining: boolean;
  /** Why it is not ready; '' when it is. */
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
  /** Every process of the mesh that this one knows of, by role, then name. */
  readonly processes: readonly ProcessStatus[];
  /** Name of the master that leads, '' for none, and its term. */
  readonly leader: string;
  readonly term: number;
}

export const EVENT_KINDS = [
  'resource_starting',
  'resource_ready',
  'resource_ended',
  'resource_backing_off',
  'resource_refused',
  'pool_ready',
  'pool_empty',
  'pool_gone',
  'rolling_started',
  'rolling_done',
  'settings_changed',
  'routes_changed',
  'leader_changed',
  'manager_joined',
  'manager_left',
  'link_lost',
  'link_found',
  'assigned',
  'order_refused',
  'deployment_changed',
  'drained',
  'consul_lost',
  'consul_found',
  'mesh_ready',
  'mesh_draining',
] as const;
export type EventKind = (typeof EVENT_KINDS)[number];

/** One thing that happened, kept in a ring and handed to `katamari events`. */
export interface MeshEvent {
  /** Grows by one; a reader asks for everything after the last one it saw. */
  readonly seq: number;
  /** Unix time in ms. */
  readonly atMs: number;
  /** Name of the process in which it happened. */
  readonly process: string;
  readonly kind: EventKind;
  /** Pool or resource or setting it is about. */
  readonly subject: string;
  readonly text: string;
  /** Last lines of output of a chassis that ended badly. */
  readonly lines: readonly string[];
}

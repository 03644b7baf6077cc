// What the roles of a process are plugged into: what all of them share, and the list of what was opened and must be
// closed.

import type { LinkSecurity } from '../../core/link/mod.ts';
import type { Clock } from '../../core/mod.ts';
import type { Send, MeshEvent, MeshStatus, StatsTable } from '../../core/rpc/mod.ts';
import type { Config, Role } from '../config/mod.ts';
import type { ConsulClient } from '../consul/mod.ts';
import type { EventLog, Fleet, Reachability, Router, SharedState } from '../mesh/mod.ts';

export interface MeshHooks {
  readonly onEvent: (event: MeshEvent) => void;
  /** A line that a chassis printed. */
  readonly onLine?: (resource: string, line: string) => void;
}

/** In which order the parts of a process end; those of one phase end together. */
export const PHASES = ['master', 'fronts', 'link', 'manager', 'inside', 'fleet', 'presence', 'consul'] as const;

/** Something that was opened and must be closed. */
export interface Component {
  readonly phase: (typeof PHASES)[number];
  drain?(): Promise<void>;
  close(): Promise<void> | void;
}

/** A listener of this process. */
export interface Listener {
  readonly name: string;
  readonly address: string;
  connections(): number;
}

/** What the roles are plugged into. */
export interface ProcessBase {
  readonly config: Config;
  readonly hooks: MeshHooks;
  readonly roles: readonly Role[];
  readonly clock: Clock;
  readonly events: EventLog;
  readonly book: StatsTable;
  readonly router: Router;
  readonly client: ConsulClient;
  readonly reachability: Reachability;
  readonly shared: SharedState;
  readonly fleet: Fleet;
  readonly security: LinkSecurity | undefined;
  /** Host under which others reach this process. */
  readonly advertised: string;
  opened(part: Component, front?: Listener): void;
  /** Pools of this process have changed. */
  poolsChanged(): void;
  /** Of this process. */
  status(): MeshStatus;
  /** A Send with books, for fronts that have none of their own. */
  counted(name: string, send: Send): Send;
}

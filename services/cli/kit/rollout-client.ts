// Rollouts of the admin service for versions (idl/versions.thrift) for commands.

import type { AdminClient } from './admin-client.ts';

export interface PlannedRollout {
  readonly serviceName: string;
  readonly toVersion: string;
  /** '' for the version with the highest weight. */
  readonly fromVersion: string;
  readonly steps: readonly number[];
  readonly holdMs: number;
  readonly keepMs: number;
  readonly startMs: number;
  readonly guards: readonly string[];
  readonly copiesFollow: boolean;
}

export interface RolloutSummary {
  readonly plan: PlannedRollout;
  readonly startedBy: string;
  readonly startedAtMs: number;
  readonly state: 'RUNNING' | 'PAUSED' | 'DONE' | 'REVERTED' | 'ABORTED';
  readonly reason: string;
  readonly step: number;
  readonly isHolding: boolean;
  readonly share: number;
  readonly sinceMs: number;
  readonly waitsFor: string;
  readonly guards: readonly { readonly guard: string; readonly isViolated: boolean; readonly text: string }[];
  readonly passed: readonly { readonly share: number; readonly atMs: number; readonly verdicts: readonly string[] }[];
  readonly calls: number;
  readonly badCalls: number;
  readonly leader: string;
  readonly notes: readonly string[];
}

export type RolloutChange = 'PAUSE' | 'RESUME' | 'PROMOTE' | 'ABORT';

export class RolloutClient {
  readonly #client: AdminClient;

  constructor(client: AdminClient) {
    this.#client = client;
  }

  /** @param force also if callers of the old version cannot call the new one */
  start(plan: PlannedRollout, force: boolean): Promise<RolloutSummary> {
    return this.#client.versions('startRollout', { plan, force }, WAIT_MS) as Promise<RolloutSummary>;
  }

  /** The last rollout of a service, or the one under way. */
  async find(serviceName: string): Promise<RolloutSummary | undefined> {
    const found = (await this.#client.versions('getRollouts', { serviceName }, WAIT_MS)) as RolloutSummary[];
    return found[0];
  }

  change(serviceName: string, action: RolloutChange): Promise<RolloutSummary> {
    return this.#client.versions('changeRollout', { serviceName, action }, WAIT_MS) as Promise<RolloutSummary>;
  }
}

/** The mesh asks all managers. */
const WAIT_MS = 30_000;

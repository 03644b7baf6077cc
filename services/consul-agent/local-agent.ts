// The services and checks of this agent: keeps their definitions, runs the checks, and copies changes to the catalog,
// which has all nodes. A change of status is copied at once. A change of the output alone is copied after five
// minutes, as in Consul, so that a check that prints the time does not wake every watch.

import type { Clock } from '../../core/mod.ts';
import type { CheckStatus } from './catalog-table.ts';
import { runCheck, type CheckPlan, type CheckRun } from './checks.ts';
import { Refusal } from './go-compat.ts';
import type { AgentState } from './state.ts';

/** Definition of a service. Field names are those of the API. */
export interface LocalService {
  readonly ID: string;
  readonly Service: string;
  readonly Tags: readonly string[];
  readonly Meta: Readonly<Record<string, string>>;
  readonly Port: number;
  readonly Address: string;
  readonly TaggedAddresses?: Readonly<Record<string, unknown>>;
  readonly Weights: { readonly Passing: number; readonly Warning: number };
  readonly EnableTagOverride: boolean;
}

export interface LocalCheck {
  readonly CheckID: string;
  readonly Name: string;
  readonly Notes: string;
  readonly ServiceID: string;
  readonly Type: string;
  readonly plan: CheckPlan;
  /** The service is deregistered after its check has been critical for this time; 0 means never. */
  readonly deregisterAfterMs: number;
}

/** Records of local definitions in the journal. */
export type LocalRecord =
  | { readonly local: 'service'; readonly service: LocalService }
  | { readonly local: 'service-delete'; readonly id: string }
  | { readonly local: 'check'; readonly check: LocalCheck }
  | { readonly local: 'check-delete'; readonly id: string };

interface RunningCheck {
  readonly check: LocalCheck;
  status: CheckStatus;
  output: string;
  run: CheckRun;
  stopDeregistration: (() => void) | undefined;
  stopOutput: (() => void) | undefined;
}

export interface LocalAgentOptions {
  readonly node: string;
  readonly state: AgentState;
  readonly clock: Clock;
  readonly random: () => number;
  readonly onRecord: (record: LocalRecord) => void;
  /** Limit of services, and of checks. */
  readonly entriesMax: number;
}

const OUTPUT_DELAY_MS = 300_000;

export class LocalAgent {
  readonly #options: LocalAgentOptions;
  readonly #services = new Map<string, LocalService>();
  readonly #checks = new Map<string, RunningCheck>();
  #isStarted = false;

  constructor(options: LocalAgentOptions) {
    this.#options = options;
  }

  services(): LocalService[] {
    return [...this.#services.values()].sort((a, b) => (a.ID < b.ID ? -1 : 1));
  }
  service(id: string): LocalService | undefined {
    return this.#services.get(id);
  }
  hasCheck(id: string): boolean {
    return this.#checks.has(id);
  }

  /** Returns the checks as `/v1/agent/checks` shows them. */
  checks(): Record<string, unknown>[] {
    const running = [...this.#checks.values()].sort((a, b) => (a.check.CheckID < b.check.CheckID ? -1 : 1));
    return running.map(({ check, status, output }) => ({
      Node: this.#options.node,
      CheckID: check.CheckID,
      Name: check.Name,
      Status: status,
      Notes: check.Notes,
      Output: output,
      ServiceID: check.ServiceID,
      ServiceName: this.#services.get(check.ServiceID)?.Service ?? '',
      ServiceTags: this.#services.get(check.ServiceID)?.Tags ?? [],
      Type: check.Type,
      Definition: {},
      CreateIndex: 0,
      ModifyIndex: 0,
    }));
  }

  putService(service: LocalService): void {
    if (!this.#services.has(service.ID) && this.#services.size >= this.#options.entriesMax) {
      throw new Refusal(
        429,
        `Cannot register service "${service.ID}": ${this.#services.size} are registered, limit is ${this.#options.entriesMax}`,
      );
    }
    this.#services.set(service.ID, service);
    this.#options.onRecord({ local: 'service', service });
    this.#options.state.putService(this.#options.node, {
      ...service,
      Meta: Object.keys(service.Meta).length === 0 ? null : service.Meta,
    });
  }

  /**
   * Registers a check. An existing check keeps its status, so that a process that registers again at each start does
   * not make it flap.
   */
  putCheck(check: LocalCheck, status: CheckStatus, output: string): void {
    const before = this.#checks.get(check.CheckID);
    if (before === undefined && this.#checks.size >= this.#options.entriesMax) {
      throw new Refusal(
        429,
        `Cannot register check "${check.CheckID}": ${this.#checks.size} are registered, limit is ${this.#options.entriesMax}`,
      );
    }
    if (before !== undefined) this.#stop(before);
    this.#options.onRecord({ local: 'check', check });
    this.#start(check, before?.status ?? status, before?.output ?? output);
  }

  deleteService(id: string): boolean {
    if (!this.#services.has(id)) return false;
    for (const running of this.#checks.values()) {
      if (running.check.ServiceID === id) this.deleteCheck(running.check.CheckID);
    }
    this.#services.delete(id);
    this.#options.onRecord({ local: 'service-delete', id });
    this.#options.state.deleteService(this.#options.node, id);
    return true;
  }

  deleteCheck(id: string): boolean {
    const running = this.#checks.get(id);
    if (running === undefined) return false;
    this.#stop(running);
    this.#checks.delete(id);
    this.#options.onRecord({ local: 'check-delete', id });
    this.#options.state.deleteCheck(this.#options.node, id);
    return true;
  }

  /** Records the status that a client reports for its TTL check. @throws Refusal if the check has no TTL */
  beat(id: string, status: CheckStatus, output: string): void {
    const running = this.#checks.get(id);
    if (running?.check.plan.ttlMs === undefined)
      throw new Refusal(500, `CheckID ${JSON.stringify(id)} does not have associated TTL`);
    running.run.beat(output);
    this.#report(running, status, output);
  }

  *records(): Iterable<LocalRecord> {
    for (const service of this.#services.values()) yield { local: 'service', service };
    for (const { check } of this.#checks.values()) yield { local: 'check', check };
  }

  /** Restores a record of the journal. Checks run only after `start`. */
  restore(record: LocalRecord): void {
    switch (record.local) {
      case 'service':
        this.#services.set(record.service.ID, record.service);
        break;
      case 'service-delete':
        this.#services.delete(record.id);
        break;
      case 'check': {
        const idle: CheckRun = { beat() {}, stop() {} };
        const running = {
          check: record.check,
          status: 'critical' as const,
          output: '',
          run: idle,
          stopDeregistration: undefined,
          stopOutput: undefined,
        };
        this.#checks.set(record.check.CheckID, running);
        break;
      }
      case 'check-delete':
        this.#checks.delete(record.id);
        break;
    }
  }

  /**
   * Starts the restored checks with their last status in the catalog. An outdated status is corrected within the
   * interval of the check.
   */
  start(): void {
    if (this.#isStarted) return;
    this.#isStarted = true;
    for (const { check } of this.#checks.values()) {
      const seen = this.#options.state.catalog.check(this.#options.node, check.CheckID);
      this.#start(check, seen?.Status ?? 'critical', seen?.Output ?? '');
    }
  }

  close(): void {
    for (const running of this.#checks.values()) this.#stop(running);
  }

  #start(check: LocalCheck, status: CheckStatus, output: string): void {
    const report = (next: CheckStatus, text: string): void => this.#report(running, next, text);
    const run = runCheck(check.plan, this.#options.clock, this.#options.random, report);
    const running: RunningCheck = { check, status, output, run, stopDeregistration: undefined, stopOutput: undefined };
    this.#checks.set(check.CheckID, running);
    this.#publish(running);
    this.#watchForDeregistration(running);
  }

  #stop(running: RunningCheck): void {
    running.run.stop();
    running.stopDeregistration?.();
    running.stopOutput?.();
    running.stopOutput = undefined;
    running.stopDeregistration = undefined;
  }

  #report(running: RunningCheck, status: CheckStatus, output: string): void {
    if (running.status === status && running.output === output) return;
    const isOnlyOutput = running.status === status;
    running.status = status;
    running.output = output;
    if (isOnlyOutput) {
      running.stopOutput ??= this.#options.clock.after(OUTPUT_DELAY_MS, () => this.#publish(running));
      return;
    }
    this.#publish(running);
    this.#watchForDeregistration(running);
  }

  #publish(running: RunningCheck): void {
    running.stopOutput?.();
    running.stopOutput = undefined;
    const { check, status, output } = running;
    const { CheckID, Name, Notes, ServiceID, Type } = check;
    const { node, state } = this.#options;
    state.putCheck({
      Node: node,
      CheckID,
      Name,
      Status: status,
      Notes,
      Output: output,
      ServiceID,
      Type,
      Definition: {},
    });
  }

  #watchForDeregistration(running: RunningCheck): void {
    const { check, status } = running;
    if (status !== 'critical') {
      running.stopDeregistration?.();
      running.stopDeregistration = undefined;
    } else if (check.deregisterAfterMs > 0 && check.ServiceID !== '') {
      running.stopDeregistration ??= this.#options.clock.after(check.deregisterAfterMs, () =>
        this.deleteService(check.ServiceID),
      );
    }
  }
}

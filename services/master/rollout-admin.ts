// The methods of the admin service for rollouts, in the shapes of idl/versions.thrift. What a rollout would do next,
// and what its guards see, is worked out here from the same facts as the leader has.

import { KatamariError } from '../../core/mod.ts';
import type { Interface } from '../../core/thrift/mod.ts';
import { ConsulError } from '../consul/mod.ts';
import {
  formatGuard,
  isActive,
  parseGuard,
  weightsFor,
  type ManagerRecord,
  type ObservedVersions,
  type Rollout,
  type RolloutPlan,
  type Routes,
} from '../mesh/mod.ts';
import { inSlices } from '../verdict/mod.ts';
import { refused, type AdminMethod, type TokenArgs } from './admin-guard.ts';
import { checkCallers, checkGuards, checkSteps, checkVersions, versionBefore } from './rollout-checks.ts';
import { judgeRollout, type RolloutVerdict } from './rollout-judge.ts';
import { nextMove, type VersionCopies } from './rollout-move.ts';
import type { RolloutAction, RolloutStore } from './rollout-store.ts';
import { scalableCopies, type StoredRollout } from './rollout-write.ts';
import { livingCopies } from './rollouts.ts';
import type { KnownVersions } from './route-check.ts';
import type { DeploymentStore } from './deployment-store.ts';

export interface RolloutActions {
  readonly rollouts: RolloutStore;
  readonly routes: () => Routes;
  readonly observe: (service: string) => Promise<ObservedVersions>;
  readonly deployments: DeploymentStore;
  /** The interface of a version that has a pool. */
  readonly interfaceOf: (service: string, version: string) => Interface | undefined;
  readonly managers: () => Iterable<ManagerRecord>;
}

/** Struct RolloutPlan. */
interface ThriftRolloutPlan {
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

interface StartArgs extends TokenArgs {
  readonly plan: ThriftRolloutPlan;
  readonly force: boolean;
}

interface ServiceArgs extends TokenArgs {
  readonly serviceName: string;
}

/** @param known returns what a service has in the mesh */
export function rolloutMethods(
  actions: RolloutActions,
  known: (service: string) => Promise<KnownVersions>,
): Readonly<Record<string, AdminMethod>> {
  const admin = new RolloutAdmin(actions, known);
  return {
    startRollout: {
      scope: 'operate',
      subject: ({ plan }: StartArgs) => `${plan.serviceName}@${plan.toVersion}`,
      act: async ({ plan, force }: StartArgs, { caller, note }) => {
        note(null, plan);
        return await admin.start(plan, force, caller.name);
      },
    },
    getRollouts: { scope: 'read', act: ({ serviceName }: ServiceArgs) => admin.list(serviceName) },
    changeRollout: {
      scope: 'operate',
      subject: ({ serviceName }: ServiceArgs) => serviceName,
      act: async ({ serviceName, action }: ServiceArgs & { action: number }, { caller, note }) => {
        const wanted = ACTIONS[action - 1];
        if (wanted === undefined) throw refused('invalid', `there is no action ${action}, expected 1 to 4`);
        note(undefined, { action: wanted });
        return await admin.change(serviceName, wanted, caller.name);
      },
    },
  };
}

class RolloutAdmin {
  readonly #actions: RolloutActions;
  readonly #known: (service: string) => Promise<KnownVersions>;

  constructor(actions: RolloutActions, known: (service: string) => Promise<KnownVersions>) {
    this.#actions = actions;
    this.#known = known;
  }

  async start(given: ThriftRolloutPlan, isForced: boolean, by: string): Promise<unknown> {
    const { rollouts, routes, observe, interfaceOf, managers } = this.#actions;
    const { serviceName: service, toVersion: to, copiesFollow } = given;
    const { steps, holdMs, keepMs, startMs } = given;
    const guards = given.guards.map(parseGuard);
    const known = await this.#known(service);
    const route = routes().get(service);
    const from = given.fromVersion === '' ? versionBefore(service, to, route, known) : given.fromVersion;
    const copies = copiesFollow ? 'follow' : 'fixed';
    const plan: RolloutPlan = { service, to, from, steps, holdMs, keepMs, startMs, guards, copies };
    checkSteps(plan);
    checkVersions(plan, known);
    checkGuards(plan, route);
    if (!isForced) checkCallers(plan, interfaceOf(service, from), interfaceOf(service, to));
    const deployed = await this.#actions.deployments.list();
    const countOf = (version: string): number => {
      const found = deployed.find((one) => one.service === service && one.version === version);
      return found?.perManager === true || found === undefined
        ? livingCopies(managers(), service, version).alive
        : found.count;
    };
    const copiesBefore = { from: countOf(from), to: countOf(to) };
    if (copies === 'fixed' && copiesBefore.to === 0)
      throw refused(
        'invalid',
        `${service}@${to} has no copies; scale it first, or let the copies follow the share (--copies follow)`,
      );
    const nowMs = Date.now();
    const mirrors = guards.some(({ metric }) => metric === 'diff') ? (await observe(service)).mirrors.counts : [];
    const own = mirrors.filter((one) => one.serviceName === service && one.version === to);
    const { index: _index, by: _by, atMs: _atMs, splitIndex = 0, ...routeBefore } = route ?? { weights: {} };
    const rollout: Rollout = {
      ...plan,
      by,
      startedAtMs: nowMs,
      state: 'running',
      reason: '',
      phase: 'scaling',
      step: 0,
      sinceMs: nowMs,
      splitIndex,
      share: 0,
      routeBefore,
      copiesBefore,
      mirrorBefore: {
        equal: own.reduce((sum, { equal }) => sum + equal, 0),
        different: own.reduce((sum, { different }) => sum + different, 0),
      },
      passed: [],
      calls: 0,
      badCalls: 0,
      isSettled: false,
    };
    const heaviest = Math.max(...steps.flatMap((share) => Object.values(weightsFor(rollout, share))));
    if (heaviest > WEIGHT_MAX)
      throw refused('invalid', `the weights of the route of ${service} are too large to be split; set smaller ones`);
    await rollouts.start(rollout);
    return await this.#status(rollout);
  }

  /** @param service '' for all */
  async list(service: string): Promise<readonly unknown[]> {
    try {
      const all = await this.#actions.rollouts.list();
      return await Promise.all(
        all.filter((one) => service === '' || one.service === service).map((one) => this.#status(one)),
      );
    } catch (error) {
      if (!(error instanceof ConsulError)) throw error;
      const why = `Consul does not answer (${error.message}). Rollouts stand still where they are until it does, and routes stay as they are`;
      throw refused('consul_failed', why);
    }
  }

  async change(service: string, action: RolloutAction, by: string): Promise<unknown> {
    const { rollouts } = this.#actions;
    const before = await rollouts.read(service);
    const verdict = before === undefined ? undefined : await this.#verdictOf(before.rollout);
    const changed = await rollouts.change(service, action, by, (stored) => ({
      to: this.#copiesOf(stored, stored.rollout.to),
      verdict,
    }));
    return await this.#status(changed);
  }

  /** Struct RolloutStatus. */
  async #status(rollout: Rollout): Promise<unknown> {
    const { rollouts } = this.#actions;
    const verdict = await this.#verdictOf(rollout);
    const [stored, leader] = await Promise.all([rollouts.read(rollout.service), rollouts.leader()]);
    const { state, phase, step, share, reason, passed, sinceMs, by, startedAtMs } = rollout;
    const isCounting = isActive(rollout) && share > 0;
    return {
      plan: thriftPlan(rollout),
      startedBy: by,
      startedAtMs,
      state: STATES[state],
      isHolding: phase === 'holding',
      step,
      share,
      reason,
      sinceMs,
      waitsFor: stored === undefined ? '' : this.#waitsFor(stored, verdict, leader),
      guards: rollout.guards.map((guard, at) => {
        const seen = verdict?.guards[at];
        return {
          guard: formatGuard(guard),
          isViolated: seen?.isViolated ?? false,
          text: seen?.text ?? (isCounting ? 'cannot be read' : ''),
        };
      }),
      passed,
      calls: rollout.calls + (isCounting ? (verdict?.calls ?? 0) : 0),
      badCalls: rollout.badCalls + (isCounting ? (verdict?.badCalls ?? 0) : 0),
      leader,
      notes: stored === undefined ? [] : this.#notes(stored),
    };
  }

  async #verdictOf(rollout: Rollout): Promise<RolloutVerdict | undefined> {
    if (!isActive(rollout) || rollout.share === 0) return undefined;
    try {
      return await inSlices(judgeRollout(rollout, await this.#actions.observe(rollout.service)));
    } catch (error) {
      if (error instanceof KatamariError) return undefined;
      throw error;
    }
  }

  #copiesOf(stored: StoredRollout, version: string): VersionCopies {
    const living = livingCopies(this.#actions.managers(), stored.rollout.service, version);
    return { desired: scalableCopies(stored, version), ...living };
  }

  #waitsFor(stored: StoredRollout, verdict: RolloutVerdict | undefined, leader: string): string {
    const { rollout, route } = stored;
    if (leader === '' && !rollout.isSettled) return NO_LEADER;
    const [from, to] = [this.#copiesOf(stored, rollout.from), this.#copiesOf(stored, rollout.to)];
    // Only the leader knows for how long copies have been up.
    const facts = { nowMs: Date.now(), route, from, to, upForMs: 0, goneForMs: 0, verdict };
    const move = nextMove(rollout, facts);
    return move.kind === 'wait' ? move.why : 'the leader makes the next move';
  }

  #notes(stored: StoredRollout): readonly string[] {
    const { rollout } = stored;
    if (rollout.copies === 'fixed' || rollout.isSettled) return [];
    return [rollout.from, rollout.to]
      .filter((version) => scalableCopies(stored, version) === undefined)
      .map(
        (version) =>
          `${version} is not a deployment of the mesh with a number of copies in all, so its copies stay as they are`,
      );
  }
}

function thriftPlan({ service, to, from, steps, holdMs, keepMs, startMs, guards, copies }: Rollout): ThriftRolloutPlan {
  const times = { holdMs, keepMs, startMs };
  const names = { serviceName: service, toVersion: to, fromVersion: from };
  return { ...names, steps, ...times, guards: guards.map(formatGuard), copiesFollow: copies === 'follow' };
}

/** Values of the enum RolloutState. */
const STATES: Readonly<Record<Rollout['state'], number>> = { running: 1, paused: 2, done: 3, reverted: 4, aborted: 5 };
/** Values of the enum RolloutAction, from 1. */
const ACTIONS: readonly RolloutAction[] = ['pause', 'resume', 'promote', 'abort'];
/** A weight is an i32 in Thrift. */
const WEIGHT_MAX = 2_147_483_647;
const NO_LEADER = 'no master leads, so it stands still where it is';

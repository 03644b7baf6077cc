// Carries out the rollouts of the mesh while this master leads. It looks once a second, and at changes: it reads the
// rollout and its route from Consul, asks for the counts of the calls, and makes the next move (rollout-move.ts) in one
// fenced transaction. It keeps nothing that a new leader would miss. Without Consul or without a leader, a rollout
// stands still where it is, and the route stays as it is.

import { Backoff, mustNotFail, type Clock } from '../../core/mod.ts';
import type { AuditLog } from '../audit/mod.ts';
import { ConsulError, pause, type ConsulClient } from '../consul/mod.ts';
import { isActive, type EventLog, type ManagerRecord, type ObservedVersions, type Rollout } from '../mesh/mod.ts';
import { inSlices } from '../verdict/mod.ts';
import type { Election } from './election.ts';
import type { MeshView } from './mesh-view.ts';
import { judgeRollout, type RolloutVerdict } from './rollout-judge.ts';
import { neededCopies, nextMove, type RolloutFacts, type VersionCopies } from './rollout-move.ts';
import { readRollout, scalableCopies, stepsOf, type StoredRollout } from './rollout-write.ts';

/** Returns how the calls of the versions of a service have ended, over all processes. */
export type ObserveVersions = (service: string) => Promise<ObservedVersions>;

export interface RolloutLeaderOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  /** Name of this process. */
  readonly name: string;
  readonly election: Election;
  readonly events: EventLog;
  readonly audit?: AuditLog | undefined;
  readonly clock: Clock;
  readonly view: Pick<MeshView, 'rollouts' | 'managers'>;
  /** The term of this process while it leads and knows the state of the mesh. */
  readonly term: () => number | undefined;
  /** Without it, rollouts with guards hold their first step. */
  readonly observe?: ObserveVersions | undefined;
  readonly onError: (error: ConsulError) => void;
}

/** Since when the new version of a rollout has its copies, or has none: times of the clock. */
interface CopiesSeen {
  readonly upSinceMs: number | undefined;
  readonly goneSinceMs: number | undefined;
}

export class RolloutLeader {
  readonly #options: RolloutLeaderOptions;
  readonly #backoff = new Backoff({ firstMs: BACKOFF_FIRST_MS, maxMs: LOOK_MS * 5, random: Math.random });
  readonly #seen = new Map<string, CopiesSeen>();
  readonly #end = new AbortController();
  #look = new AbortController();
  #running: Promise<void> | undefined;

  constructor(options: RolloutLeaderOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running ??= this.#run();
    mustNotFail('rollouts', this.#running);
  }

  /** Called when rollouts, managers or the leader may have changed. */
  wake(): void {
    this.#look.abort();
  }

  async close(): Promise<void> {
    this.#end.abort();
    this.wake();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, view, term: termOf, onError } = this.#options;
    const { signal } = this.#end;
    while (!signal.aborted) {
      this.#look = new AbortController();
      let lookMs = IDLE_MS;
      try {
        const open = [...view.rollouts.values()].filter(({ isSettled }) => !isSettled);
        const term = termOf();
        if (term !== undefined && open.length > 0) {
          lookMs = LOOK_MS;
          for (const { service } of open) if (!(await this.#carryOut(term, service))) lookMs = 0;
        }
        this.#backoff.reset();
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof ConsulError)) throw error;
        onError(error);
        lookMs = this.#backoff.next();
      }
      await pause(clock, lookMs, this.#look.signal);
      // Changes that arrive together are handled in one pass.
      await pause(clock, BATCH_MS, signal);
    }
  }

  /** Makes the next move of a rollout. Returns false if another one may be due at once. */
  async #carryOut(term: number, service: string): Promise<boolean> {
    const { client, mesh, election } = this.#options;
    const { signal } = this.#end;
    const observed = await this.#observe(service);
    const stored = await readRollout(client, mesh, service, signal);
    if (stored === undefined || stored instanceof Error || stored.rollout.isSettled) return true;
    const verdict = observed === undefined ? undefined : await inSlices(judgeRollout(stored.rollout, observed));
    const facts = this.#factsOf(stored, verdict);
    const move = nextMove(stored.rollout, facts);
    if (move.kind === 'wait') return true;
    const { steps, rollout } = await stepsOf(move, stored, { client, mesh, by: 'leader', nowMs: facts.nowMs });
    const outcome = await election.write(term, steps, signal);
    // After a conflict, the next look decides from what Consul has then.
    if (outcome.kind !== 'done') return outcome.kind === 'stale';
    this.#report(stored.rollout, rollout, move.text);
    return false;
  }

  async #observe(service: string): Promise<ObservedVersions | undefined> {
    const rollout = this.#options.view.rollouts.get(service);
    if (rollout === undefined || !isActive(rollout) || rollout.share === 0) return undefined;
    try {
      return await this.#options.observe?.(service);
    } catch {
      // The status says that the guards cannot be read.
      return undefined;
    }
  }

  #factsOf(stored: StoredRollout, verdict: RolloutVerdict | undefined): RolloutFacts {
    const { rollout, route } = stored;
    const { clock, view } = this.#options;
    const copiesOf = (version: string): VersionCopies => ({
      desired: scalableCopies(stored, version),
      ...livingCopies(view.managers.values(), rollout.service, version),
    });
    const [from, to] = [copiesOf(rollout.from), copiesOf(rollout.to)];
    const nowMs = clock.nowMs();
    const before = this.#seen.get(rollout.service);
    const upSinceMs = to.alive < neededCopies(rollout, to) ? undefined : (before?.upSinceMs ?? nowMs);
    const goneSinceMs = to.alive > 0 ? undefined : (before?.goneSinceMs ?? nowMs);
    this.#seen.set(rollout.service, { upSinceMs, goneSinceMs });
    return {
      nowMs: Date.now(),
      route,
      from,
      to,
      upForMs: upSinceMs === undefined ? 0 : nowMs - upSinceMs,
      goneForMs: goneSinceMs === undefined ? 0 : nowMs - goneSinceMs,
      verdict,
    };
  }

  #report(before: Rollout, after: Rollout, text: string): void {
    const { events, audit, name } = this.#options;
    if (text !== '')
      events.add(after.state === 'reverted' ? 'rollout_reverted' : 'rollout_changed', after.service, text);
    if (after.isSettled) this.#seen.delete(after.service);
    audit?.record({
      who: 'leader',
      from: name,
      action: 'rollout',
      subject: `${after.service}@${after.to}`,
      result: 'done',
      before: progressOf(before),
      after: progressOf(after),
    });
  }
}

function progressOf({ state, phase, step, share, reason }: Rollout): unknown {
  return { state, phase, step, share, reason };
}

/** The living copies of a version on all managers, and why none can start. */
export function livingCopies(
  managers: Iterable<ManagerRecord>,
  service: string,
  version: string,
): Pick<VersionCopies, 'alive' | 'failure'> {
  let alive = 0;
  const failures: string[] = [];
  const isOwn = (one: { readonly service: string; readonly version: string }): boolean =>
    one.service === service && one.version === version;
  for (const { pools, starting } of managers) {
    for (const pool of pools) if (isOwn(pool)) alive += pool.alive;
    for (const one of starting) if (isOwn(one)) failures.push(one.failure);
  }
  // One manager may be able to start what another one cannot.
  const hasFailed = failures.length > 0 && failures.every((failure) => failure !== '');
  return { alive, failure: hasFailed ? (failures[0] as string) : '' };
}

const LOOK_MS = 1_000;
/** Without a rollout, only a change ends the pause. */
const IDLE_MS = 3_600_000;
const BATCH_MS = 50;
const BACKOFF_FIRST_MS = 100;

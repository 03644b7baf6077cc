// Rollouts in Consul, as the admin service starts and changes them. The leader carries them out. An abort is made here,
// with the same check-and-set as a move of the leader, so that it works without one.

import { KatamariError } from '../../core/mod.ts';
import type { ConsulClient } from '../consul/mod.ts';
import {
  isActive,
  keysOf,
  LEADER,
  readEntry,
  readRecord,
  ROLLOUT,
  rolloutName,
  type EventLog,
  type Keys,
  type Rollout,
} from '../mesh/mod.ts';
import { endRollout, hasOwnRoute, splitOf, type RolloutMove, type VersionCopies } from './rollout-move.ts';
import type { RolloutVerdict } from './rollout-judge.ts';
import { readRollout, scalableCopies, stepsOf, type StoredRollout } from './rollout-write.ts';

export interface RolloutStoreOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  readonly events: EventLog;
}

/**
 * - pause: the share stays until it is resumed.
 * - resume: goes on with the present step.
 * - promote: goes to the last step without holding those between.
 * - abort: gives the calls back to the old version.
 */
export type RolloutAction = 'pause' | 'resume' | 'promote' | 'abort';

/** Each method also throws ConsulError if Consul does not answer or refuses. */
export class RolloutStore {
  readonly #options: RolloutStoreOptions;
  readonly #keys: Keys;

  constructor(options: RolloutStoreOptions) {
    this.#options = options;
    this.#keys = keysOf(options.mesh);
  }

  /** The last rollout of each service, or the one under way. */
  async list(): Promise<readonly Rollout[]> {
    const { entries } = await this.#options.client.list(this.#keys.rollouts);
    return entries.map((entry) => readEntry(ROLLOUT, entry)).filter((one): one is Rollout => !(one instanceof Error));
  }

  /** The rollout of a service with its route and deployments. */
  async read(service: string): Promise<StoredRollout | undefined> {
    const { client, mesh } = this.#options;
    const stored = await readRollout(client, mesh, service);
    if (!(stored instanceof Error)) return stored;
    throw new KatamariError(
      'bad_request',
      `The rollout of ${service} in Consul is invalid (${stored.message}); delete the key ${this.#keys.rollouts}${service}`,
    );
  }

  /** Name of the master that leads; '' if none does. */
  async leader(): Promise<string> {
    const entry = await this.#options.client.get(this.#keys.leader);
    const record = entry === undefined || entry.session === '' ? undefined : readRecord(LEADER, entry.value);
    return record === undefined || record instanceof Error ? '' : record.name;
  }

  /** @throws KatamariError bad_request while another rollout of the service is under way */
  async start(rollout: Rollout): Promise<void> {
    const { client, events } = this.#options;
    const { service } = rollout;
    const key = this.#keys.rollouts + service;
    const entry = await client.get(key);
    const before = entry === undefined ? undefined : readEntry(ROLLOUT, entry);
    if (before !== undefined && !(before instanceof Error) && isActive(before))
      throw new KatamariError(
        'bad_request',
        `The rollout of ${rolloutName(before)} is ${before.state}; wait for its end, or end it with --promote or --abort`,
      );
    if (!(await client.put(key, JSON.stringify(rollout), { cas: entry?.modifyIndex ?? 0 }))) throw overtaken(service);
    events.add('rollout_changed', service, `${rolloutName(rollout)} begins, by ${rollout.by}`);
  }

  /**
   * @param by name of the admin token
   * @param facts what is known of the new version, for an abort
   * @throws KatamariError no_pool without a rollout, bad_request if it has ended
   */
  async change(
    service: string,
    action: RolloutAction,
    by: string,
    facts: (stored: StoredRollout) => { readonly to: VersionCopies; readonly verdict: RolloutVerdict | undefined },
  ): Promise<Rollout> {
    const { client, mesh, events } = this.#options;
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const stored = await this.read(service);
      if (stored === undefined)
        throw new KatamariError(
          'no_pool',
          `${service} has no rollout; begin one with katamari rollout ${service} VERSION`,
        );
      const nowMs = Date.now();
      const move = moveOf(stored, action, by, nowMs, facts);
      const { steps, rollout } = await stepsOf(move, stored, { client, mesh, by, nowMs });
      if (!(await client.transact(steps)).isDone) continue;
      events.add('rollout_changed', service, move.text);
      return rollout;
    }
    throw overtaken(service);
  }
}

function moveOf(
  stored: StoredRollout,
  action: RolloutAction,
  by: string,
  nowMs: number,
  factsOf: Parameters<RolloutStore['change']>[3],
): Exclude<RolloutMove, { kind: 'wait' }> {
  const { rollout, route } = stored;
  const { service, to, state, steps, step, holdMs, phase } = rollout;
  if (!isActive(rollout))
    throw new KatamariError('bad_request', `The rollout of ${rolloutName(rollout)} has ended: it is ${state}`);
  const record = (next: Rollout, what: string): Exclude<RolloutMove, { kind: 'wait' }> => ({
    kind: 'record',
    next,
    text: `${service} ${to} ${what} by ${by}`,
  });
  switch (action) {
    case 'pause':
      if (state === 'paused') return record(rollout, 'is paused');
      return record({ ...rollout, state: 'paused', reason: `by ${by}`, sinceMs: nowMs }, 'paused');
    case 'resume':
      if (state === 'running') return record(rollout, 'is running');
      return record(resumed(stored, nowMs), 'resumed');
    case 'promote': {
      const last = steps.length - 1;
      // The last step has no next one to go to, so its hold ends.
      if (step === last && phase === 'holding' && hasOwnRoute(rollout, route))
        return record({ ...resumed(stored, nowMs), sinceMs: nowMs - holdMs }, 'promoted');
      return record({ ...resumed(stored, nowMs), step: last, phase: 'scaling' }, 'promoted');
    }
    case 'abort': {
      const { to: copies, verdict } = factsOf(stored);
      const scalable = { ...copies, desired: scalableCopies(stored, to) };
      const move = endRollout(rollout, { nowMs, route, verdict, to: scalable }, 'aborted', `by ${by}`);
      if (move.kind === 'wait') throw new KatamariError('internal', 'An abort is always a change');
      return move;
    }
  }
}

/** A rollout that runs again. If somebody has changed the route, it takes that as the one to go on from. */
function resumed({ rollout, route }: StoredRollout, nowMs: number): Rollout {
  const running: Rollout = { ...rollout, state: 'running', reason: '', sinceMs: nowMs };
  if (hasOwnRoute(rollout, route)) return running;
  const base = rollout.share > 0 || route === undefined ? {} : { routeBefore: route };
  return { ...running, ...base, phase: 'scaling', splitIndex: splitOf(route) };
}

function overtaken(service: string): KatamariError {
  return new KatamariError(
    'bad_request',
    `The rollout of ${service} was changed by another client at the same time; look at it again, and try again`,
  );
}

const ATTEMPTS_MAX = 10;

// Counts denied calls and refused tokens for the metrics, and tells of them and of exceeded quotas in events. Clients
// choose what is denied, so only some events a minute are written; the counters have all.

import { systemClock, type Clock } from '../../core/mod.ts';
import { callerKeyOf, type Call, type CallerIdentity } from '../../core/rpc/mod.ts';
import { shownName, type DenialReason, type EventLog } from '../mesh/mod.ts';
import { describeQuota, type QuotaRule } from './quota-rule.ts';
import type { QuotaLimit } from './quotas.ts';

export class Denials {
  /** By reason; `token` counts requests whose token or certificate was refused. */
  readonly counts: Record<DenialReason | 'token', number> = { policy: 0, unauthenticated: 0, token: 0 };
  readonly #events: Pick<EventLog, 'add'>;
  readonly #clock: Clock;
  #windowMs = -Infinity;
  readonly #told = new Set<string>();

  constructor(events: Pick<EventLog, 'add'>, clock: Clock = systemClock) {
    this.#events = events;
    this.#clock = clock;
  }

  readonly denied = (identity: CallerIdentity, target: string, reason: DenialReason): void => {
    this.counts[reason]++;
    const why =
      reason === 'policy' ? 'the policy does not allow it' : 'anonymous callers of other machines are refused';
    this.#tell('access_denied', `${identity.name} ${target}`, why);
  };

  readonly tokenRefused = (): void => {
    this.counts.token++;
  };

  readonly limited = (call: Call, quota: QuotaRule, limit: QuotaLimit): void => {
    const who = quota.isShared ? 'its callers' : callerKeyOf(call);
    this.#tell('rate_limited', `${who} ${quota.name}`, `reached its ${limit}: ${describeQuota(quota)}`);
  };

  #tell(kind: 'access_denied' | 'rate_limited', about: string, why: string): void {
    const nowMs = this.#clock.nowMs();
    if (nowMs - this.#windowMs >= WINDOW_MS) {
      this.#windowMs = nowMs;
      this.#told.clear();
    }
    if (this.#told.size >= EVENTS_MAX) return;
    const subject = shownName(about);
    if (this.#told.has(subject)) return;
    this.#told.add(subject);
    this.#events.add(kind, subject, this.#told.size === EVENTS_MAX ? `${why}; more are only counted` : why);
  }
}

const WINDOW_MS = 60_000;
/** Events in one window. */
const EVENTS_MAX = 20;

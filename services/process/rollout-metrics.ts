// The metrics of rollouts, which every master has. A mesh that never had a rollout has none of them.

import type { MetricFamily } from '../../faceplates/stats/mod.ts';
import type { Rollout } from '../mesh/mod.ts';

export function rolloutFamilies(rollouts: Iterable<Rollout>): readonly MetricFamily[] {
  const last = [...rollouts].slice(0, SERIES_MAX);
  if (last.length === 0) return [];
  const labelsOf = ({ service, from, to }: Rollout): Record<string, string> => ({ service, from, to });
  return [
    {
      name: 'katamari_rollout_share',
      type: 'gauge',
      help: 'Share of the calls, 0 to 1, that the last rollout of a service has given to the new version.',
      samples: last.map((one) => ({ labels: labelsOf(one), value: one.share / 100 })),
    },
    {
      name: 'katamari_rollout_state',
      type: 'gauge',
      help: '1 with the state of the last rollout of a service: running, paused, done, reverted or aborted.',
      samples: last.map((one) => ({ labels: { ...labelsOf(one), state: one.state }, value: 1 })),
    },
  ];
}

const SERIES_MAX = 1_000;

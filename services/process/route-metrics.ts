// The metrics of routes. A mesh without rules has none of them.

import type { MetricFamily } from '../../faceplates/stats/mod.ts';
import type { Router } from '../mesh/mod.ts';

export function routeFamilies(router: Router): readonly MetricFamily[] {
  const counts = router.ruleCounts();
  if (counts.length === 0) return [];
  return [
    {
      name: 'katamari_route_calls_total',
      type: 'counter',
      help: 'Calls that a rule of a route led to a version; rule fallback: the version of the call had nobody alive.',
      samples: counts.map(({ service, version, rule, calls }) => ({
        labels: { service, version, rule },
        value: calls,
      })),
    },
  ];
}

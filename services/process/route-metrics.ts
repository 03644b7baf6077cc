// The metrics of routes. A mesh without rules, mirrors and a log of assignments has none of them.

import type { MetricFamily } from '../../faceplates/stats/mod.ts';
import type { Router } from '../mesh/mod.ts';

export function routeFamilies(router: Router): readonly MetricFamily[] {
  return [...ruleFamilies(router), ...mirrorFamilies(router), ...assignmentFamilies(router)];
}

function assignmentFamilies({ assignments }: Router): readonly MetricFamily[] {
  if (assignments === undefined) return [];
  return [
    {
      name: 'katamari_assignment_lines_total',
      type: 'counter',
      help: 'Lines of the log of assignments: written, or dropped because the file could not be written in time.',
      samples: Object.entries(assignments.counts).map(([result, value]) => ({ labels: { result }, value })),
    },
  ];
}

function mirrorFamilies(router: Router): readonly MetricFamily[] {
  const { counts } = router.mirrorReport();
  if (counts.length === 0) return [];
  return [
    {
      name: 'katamari_mirror_calls_total',
      type: 'counter',
      help: 'Calls that the mirror of a route takes, by version that gets the copies, and by the comparison of the answers.',
      samples: counts.flatMap(({ serviceName, version, method, ...results }) =>
        Object.entries(results).map(([result, value]) => ({
          labels: { service: serviceName, version, method, result },
          value,
        })),
      ),
    },
  ];
}

function ruleFamilies(router: Router): readonly MetricFamily[] {
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

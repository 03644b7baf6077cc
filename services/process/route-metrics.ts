// The metrics of routes. A mesh without rules, mirrors, copies of calls and a log of assignments has none of them.

import type { MetricFamily } from '../../faceplates/stats/mod.ts';
import type { Router } from '../mesh/mod.ts';

export function routeFamilies(router: Router): readonly MetricFamily[] {
  return [...ruleFamilies(router), ...mirrorFamilies(router), ...copyFamilies(router), ...assignmentFamilies(router)];
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

function copyFamilies(router: Router): readonly MetricFamily[] {
  const counts = router.robustCounts();
  const family = (name: string, help: string, of: 'hedges' | 'majorities', label: string): readonly MetricFamily[] => {
    const used = counts.filter((count) => Object.values(count[of]).some((calls) => calls > 0));
    if (used.length === 0) return [];
    const samples = used.flatMap(({ service, version, method, ...count }) =>
      Object.entries(count[of]).map(([result, value]) => ({
        labels: { service, version, method, [label]: result },
        value,
      })),
    );
    return [{ name, type: 'counter', help, samples }];
  };
  return [
    ...family(
      'katamari_hedged_calls_total',
      'Calls of which a second copy was sent, by the copy that answered first.',
      'hedges',
      'winner',
    ),
    ...family(
      'katamari_majority_calls_total',
      'Calls that were sent to several copies at once, by what their answers were.',
      'majorities',
      'result',
    ),
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

// The guards of a rollout: what a new version must not exceed, as people write it. `errors +0.5pt`, `p99 x1.3`,
// `queue p99 x2`, `diff < 1%`.

import { KatamariError } from '../../core/mod.ts';
import { suggest } from '../../core/idl/mod.ts';
import { z } from 'zod';

/** What the guards compare. */
export const GUARD_METRICS = ['errors', 'p50', 'p90', 'p99', 'queue p50', 'queue p90', 'queue p99', 'diff'] as const;
export type GuardMetric = (typeof GUARD_METRICS)[number];

export interface RolloutGuard {
  readonly metric: GuardMetric;
  /**
   * The most that the new version may have: points of the error rate more than the old one, times the latency of the
   * old one, or percent of the compared answers.
   */
  readonly max: number;
}

/** A guard in Consul. */
export const ROLLOUT_GUARD: z.ZodType<RolloutGuard> = z.object({
  metric: z.enum(GUARD_METRICS),
  max: z.number().min(0),
});

/** @throws KatamariError bad_request that says what was found and expected, with an example */
export function parseGuard(text: string): RolloutGuard {
  const [, word = '', rest = ''] = /^\s*((?:queue\s+)?[^\s+<>=]*)\s*(.*?)\s*$/s.exec(text.slice(0, TEXT_MAX)) ?? [];
  const metric = word.replace(/\s+/, ' ').toLowerCase();
  if (!isGuardMetric(metric)) {
    const like = suggest(metric, GUARD_METRICS);
    throw wrong(text, `unknown metric ${JSON.stringify(metric)}${like.replace(/\?$/, '')}`, EXAMPLES.errors);
  }
  const { form, least, most, range } = FORMS[kindOf(metric)];
  const example = exampleOf(metric);
  const [, number] = form.exec(rest) ?? [];
  if (number === undefined) throw wrong(text, `found ${JSON.stringify(rest)} after ${metric}`, example);
  const max = Number(number);
  if (max < least || max > most) throw wrong(text, `${number} is not ${range}`, example);
  return { metric, max };
}

/** The guard as `parseGuard` reads it. */
export function formatGuard({ metric, max }: RolloutGuard): string {
  switch (kindOf(metric)) {
    case 'errors':
      return `errors +${max}pt`;
    case 'diff':
      return `diff < ${max}%`;
    case 'quantile':
      return `${metric} x${max}`;
  }
}

/** The quantile of a guard, and of which time. */
export function quantileOf(metric: GuardMetric): { readonly q: number; readonly of: 'durations' | 'queueing' } {
  return { q: Number(metric.slice(-2)) / 100, of: metric.startsWith('queue') ? 'queueing' : 'durations' };
}

type GuardKind = 'errors' | 'quantile' | 'diff';

function kindOf(metric: GuardMetric): GuardKind {
  return metric === 'errors' || metric === 'diff' ? metric : 'quantile';
}

function isGuardMetric(text: string): text is GuardMetric {
  return (GUARD_METRICS as readonly string[]).includes(text);
}

function exampleOf(metric: GuardMetric): string {
  const kind = kindOf(metric);
  return kind === 'quantile' ? `${metric} x1.3` : EXAMPLES[kind];
}

function wrong(text: string, what: string, example: string): KatamariError {
  const shown = JSON.stringify(text.slice(0, TEXT_MAX));
  return new KatamariError('bad_request', `Cannot read the guard ${shown}: ${what}; expected one such as '${example}'`);
}

const EXAMPLES = { errors: 'errors +0.5pt', diff: 'diff < 1%' };
const FORMS: Readonly<Record<GuardKind, { form: RegExp; least: number; most: number; range: string }>> = {
  errors: {
    form: /^\+\s*(\d{1,3}(?:\.\d{1,6})?)\s*(?:pt|pts|points?)$/i,
    least: 0,
    most: 100,
    range: '0 to 100 points',
  },
  quantile: { form: /^[x×]\s*(\d{1,6}(?:\.\d{1,6})?)$/i, least: 1, most: 1_000, range: '1 to 1000 times' },
  diff: { form: /^<\s*(\d{1,3}(?:\.\d{1,6})?)\s*%$/, least: 0.000_001, most: 100, range: 'above 0 and at most 100 %' },
};
const TEXT_MAX = 100;

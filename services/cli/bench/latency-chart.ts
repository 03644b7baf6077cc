// Text chart of the latencies of a bench: one bar each for the calls that took up to 1 ms, 2 ms, 5 ms and so on.
// Two versions share the same steps. A step with few calls never rounds to an empty bar.

import { paint, type Terminal } from '../kit/terminal.ts';
import type { LatencyHistogram } from './histogram.ts';
import type { Tally } from './tally.ts';

export function drawLatencyChart(
  terminal: Terminal,
  measured: readonly { readonly version: string; readonly sum: Tally }[],
): string[] {
  const latencies = measured.map(({ sum }) => sum.latencies);
  const steps = stepsOf(latencies);
  const labels = steps.map((step) => `${step} ms`);
  const labelWidth = Math.max(...labels.map(({ length }) => length));
  const columns = terminal.isScreen ? terminal.columns() : PIPE_COLUMNS;
  const each = Math.floor((columns - LEAD.length - labelWidth) / measured.length);
  const places = Math.max(5, Math.min(BAR_PLACES_MAX, each - SHARE_WIDTH - 4));
  const shares = latencies.map((of) => sharesOf(of, steps));
  const most = Math.max(...shares.flat());
  const heads = measured.map(({ version }) => `  ${version.padEnd(places + SHARE_WIDTH + 2)}`);
  const head = `${' '.repeat(LEAD.length + labelWidth)}${heads.join('')}`.trimEnd();
  const lines = steps.map((_, row) => {
    const bars = shares.map((of) => {
      const share = of[row] ?? 0;
      const text = share === 0 ? '' : share < 0.0005 ? '<0.1 %' : `${(share * 100).toFixed(1)} %`;
      return `  ${bar(terminal, share / most, places)}  ${text.padStart(SHARE_WIDTH)}`;
    });
    return `${LEAD}${(labels[row] as string).padStart(labelWidth)}${bars.join('')}`.trimEnd();
  });
  return ['Latency of answered calls', ...(measured.length > 1 ? [head] : []), ...lines];
}

/** Returns the steps 1, 2, 5, 10 ... ms that cover all latencies. */
export function stepsOf(latencies: readonly LatencyHistogram[]): number[] {
  const some = latencies.filter(({ count }) => count > 0);
  if (some.length === 0) return [];
  const least = Math.min(...some.map((one) => one.percentileMs(0)));
  const most = Math.max(...some.map(({ maxMs }) => maxMs));
  const first = Math.max(
    0,
    STEPS.findIndex((step) => step >= least),
  );
  const last = STEPS.findIndex((step) => step >= most);
  return STEPS.slice(first, last === -1 ? STEPS.length : last + 1);
}

/** Returns the share of the calls between each step and the previous one. */
function sharesOf(latencies: LatencyHistogram, steps: readonly number[]): number[] {
  const upTo = steps.map((step) => latencies.countUpTo(step));
  return upTo.map((calls, row) => (latencies.count === 0 ? 0 : (calls - (upTo[row - 1] ?? 0)) / latencies.count));
}

function bar(terminal: Terminal, share: number, places: number): string {
  const [full, little] = terminal.hasUnicode ? ['█', '▏'] : ['#', '.'];
  const length = Math.round(share * places);
  const text = length === 0 && share > 0 ? little : full.repeat(length);
  return paint(terminal, 'cyan', text) + ' '.repeat(places - Array.from(text).length);
}

const LEAD = '  up to ';
const STEPS: readonly number[] = [
  0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000,
  100_000, 200_000, 500_000, 1_000_000, 3_000_000,
];
const SHARE_WIDTH = 7;
const BAR_PLACES_MAX = 40;
const PIPE_COLUMNS = 100;

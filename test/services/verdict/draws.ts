// Draws for simulated experiments on two versions, from a seeded generator.

import { Random } from '../../kit/tools/random.ts';

/** An experiment that goes on in steps: the calls of each version so far, and the hits among them. */
export interface Experiment {
  readonly first: { calls: number; hits: number };
  readonly second: { calls: number; hits: number };
}

/** Returns the hits among n calls. Skips from hit to hit, so rare hits cost little. */
export function drawHits(random: Random, n: number, rate: number): number {
  const log = Math.log1p(-rate);
  let hits = 0;
  for (let at = 0; ; hits++) {
    at += 1 + Math.floor(Math.log(1 - random.next()) / log);
    if (at > n) return hits;
  }
}

/** Yields an experiment after every `step` calls. The second version gets `share` of the calls. */
export function* experiments(
  random: Random,
  rates: readonly [first: number, second: number],
  { share, step, calls }: { readonly share: number; readonly step: number; readonly calls: number },
): Generator<Experiment, void> {
  const [first, second] = [
    { calls: 0, hits: 0 },
    { calls: 0, hits: 0 },
  ];
  for (let n = step; n <= calls; n += step) {
    const ofSecond = Math.round(n * share) - second.calls;
    second.calls += ofSecond;
    first.calls += step - ofSecond;
    first.hits += drawHits(random, step - ofSecond, rates[0]);
    second.hits += drawHits(random, ofSecond, rates[1]);
    yield { first, second };
  }
}

/** Draws from a table of values, which stands for a distribution and is quick. */
export class ValueTable {
  readonly #values: Float64Array;

  constructor(random: Random, draw: (random: Random) => number) {
    this.#values = Float64Array.from({ length: 4_096 }, () => draw(random));
  }

  draw(random: Random): number {
    return this.#values[random.below(this.#values.length)] as number;
  }
}

/** A value with a normal logarithm: its quantiles are `median` times e to the power of spread * z. */
export function logNormal(random: Random, median: number, spread: number): number {
  const z = Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
  return median * Math.exp(spread * z);
}

/** Part of the runs in which a look at the experiment sees a difference. */
export function partOf(runs: number, isSeen: () => boolean): number {
  let seen = 0;
  for (let run = 0; run < runs; run++) if (isSeen()) seen++;
  return seen / runs;
}

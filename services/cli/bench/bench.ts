// `katamari bench Service.method ...`: generates load on one method through the Thrift port, like any client, and
// reports throughput, latency and failures. The steps: read the plan (plan.ts), find the mesh (target.ts), encode the
// calls (calls.ts), run rounds of load (round.ts), report (report.ts). All steps run in this process; the report
// warns if this process was the bottleneck.

import { formatAddress } from '../../../core/mod.ts';
import { EXIT, type ExitCode } from '../../config/mod.ts';
import { connect, type CliContext } from '../kit/context.ts';
import { paint } from '../kit/terminal.ts';
import { buildFrames, readPayloads } from './calls.ts';
import { checkTally } from './checks.ts';
import { Connections } from './connections.ts';
import { GeneratorWatch } from './generator.ts';
import { readPoolSums, timesBetween, type PoolSums } from './mesh-times.ts';
import { paceOf, readPlan, type BenchOptions, type BenchPlan } from './plan.ts';
import { PreciseTimer } from './precise-timer.ts';
import { BenchProgress } from './progress.ts';
import { describePlan, formatResult, resultAsJson, type MeasuredRound } from './report.ts';
import { runRound } from './round.ts';
import { Tally } from './tally.ts';
import { findTarget, type BenchTarget } from './target.ts';

export async function runBench(
  context: CliContext,
  targetText: string,
  args: readonly string[],
  options: BenchOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const plan = readPlan(targetText, options);
  const target = await findTarget(context, connect(context, options), plan, options);
  const payloads = await readPayloads(context, args, options.from);
  const frames = target.methods.map((method, index) =>
    buildFrames(plan, plan.versions[index] as string, method, payloads),
  );
  const facts = {
    plan,
    mesh: target.mesh,
    thrift: formatAddress(target.thrift),
  };
  const isJson = options.json === true;
  const stop = new AbortController();
  context.onStopSignal(() => (stop.signal.aborted ? context.exitNow(130) : stop.abort()));
  const connections = await Connections.open(target.thrift, plan.connections);
  try {
    const timer = await PreciseTimer.start(paceOf(plan.load).periodMs);
    try {
      if (!isJson) terminal.write(`${describePlan(facts).join('\n')}\n\n`);
      const bench = new Bench(context, { plan, target, frames, connections, timer, stop, isJson });
      const measured = await bench.run();
      const checks = measured.flatMap(({ version, sum }) =>
        checkTally(plan.checks, measured.length > 1 ? version : '', sum),
      );
      const generator = bench.watch.figures();
      const result = { ...facts, measured, generator, checks, endedEarly: bench.hasEndedEarly };
      if (isJson) terminal.write(`${JSON.stringify(resultAsJson(result), null, 2)}\n`);
      else terminal.write(`${formatResult(terminal, result).join('\n')}\n`);
      const wrong = checks.filter(({ holds }) => !holds).map(({ text }) => text);
      if (measured.some(({ sum }) => sum.answered === 0)) wrong.push('No call was answered');
      for (const text of wrong) terminal.writeError(`${paint(terminal, 'red', 'katamari:')} ${text}.\n`);
      return wrong.length === 0 ? EXIT.done : EXIT.failed;
    } finally {
      await timer.close();
    }
  } finally {
    connections.close();
  }
}

interface BenchParts {
  readonly plan: BenchPlan;
  readonly target: BenchTarget;
  /** Frames for each version of the plan. */
  readonly frames: readonly (readonly Buffer[])[];
  readonly connections: Connections;
  readonly timer: PreciseTimer;
  readonly stop: AbortController;
  readonly isJson: boolean;
}

/** Results of the rounds so far. */
interface VersionResults extends MeasuredRound {
  readonly rounds: Tally[];
}

/** Runs all rounds. */
class Bench {
  readonly watch: GeneratorWatch;
  readonly #parts: BenchParts;
  readonly #progress: BenchProgress;
  readonly #measured: readonly VersionResults[];
  /** Whether a round ended early, because the user stopped it or the mesh was gone. */
  hasEndedEarly = false;

  constructor({ terminal }: CliContext, parts: BenchParts) {
    const { versions, seconds, warmUpSeconds, rounds } = parts.plan;
    this.#parts = parts;
    this.watch = new GeneratorWatch(parts.timer);
    const totalMs = versions.length * (seconds + rounds * warmUpSeconds) * 1_000;
    this.#progress = new BenchProgress(terminal, !parts.isJson, totalMs);
    this.#measured = versions.map((version) => ({ version, sum: new Tally(), rounds: [] }));
  }

  async run(): Promise<readonly MeasuredRound[]> {
    const order = this.#measured.map((_, index) => index);
    try {
      for (let round = 0; round < this.#parts.plan.rounds && !this.hasEndedEarly; round++) {
        // The versions go first in turn, so that a steady drift of the machine affects both alike.
        for (const index of round % 2 === 0 ? order : order.toReversed()) {
          if (!this.hasEndedEarly) await this.#round(index);
        }
      }
    } finally {
      this.#progress.clear();
    }
    return this.#measured;
  }

  async #round(index: number): Promise<void> {
    const { plan, target, frames, connections, timer, stop } = this.#parts;
    const { sum, rounds, version } = this.#measured[index] as VersionResults;
    const tally = new Tally();
    const measuredMs = (plan.seconds * 1_000) / plan.rounds;
    const warmUpMs = plan.warmUpSeconds * 1_000;
    const sumsOf = (): Promise<PoolSums | undefined> => readPoolSums(target.statsUrls, plan.service, version);
    let before: Promise<PoolSums | undefined> = Promise.resolve(undefined);
    this.#progress.begin({ version: plan.versions.length === 1 ? '' : version, warmUpMs, measuredMs, tally });
    await runRound({
      load: plan.load,
      warmUpMs,
      measuredMs,
      answerMsMax: (plan.timeoutMs ?? target.timeoutMs ?? ANSWER_MS_MAX) + SETTLE_MS,
      frames: frames[index] as readonly Buffer[],
      connections,
      timer,
      tally,
      onMeasured: () => {
        before = sumsOf();
        this.watch.begin();
      },
      onStopped: () => this.watch.end(),
      signal: stop.signal,
    });
    this.#progress.end();
    const began = await before;
    tally.meshTimes = timesBetween(began, began === undefined ? undefined : await sumsOf());
    this.hasEndedEarly = tally.measuredMs < measuredMs - 1;
    rounds.push(tally);
    sum.add(tally);
  }
}

/** Default if the mesh does not report its timeout. */
const ANSWER_MS_MAX = 60_000;
/** Added to the timeout of the mesh for the network. */
const SETTLE_MS = 3_000;

// `katamari bench Service.method ...`: load on one method through the Thrift port, as any client of the mesh would
// make it, and what became of it. Plans (bench-plan.ts), finds the mesh (bench-target.ts), makes the calls as bytes
// (bench-calls.ts), runs rounds of load (bench-round.ts) and tells (bench-report.ts). Everything is in this one
// process, and it says when that was too little.

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
  surroundings: CliContext,
  targetText: string,
  args: readonly string[],
  options: BenchOptions,
): Promise<ExitCode> {
  const { terminal } = surroundings;
  const plan = readPlan(targetText, options);
  const target = await findTarget(surroundings, connect(surroundings, options), plan, options);
  const payloads = await readPayloads(surroundings, args, options.from);
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
  surroundings.onStopSignal(() => (stop.signal.aborted ? surroundings.exitNow(130) : stop.abort()));
  const connections = await Connections.open(target.thrift, plan.connections);
  try {
    const pacemaker = await PreciseTimer.start(paceOf(plan.load).periodMs);
    try {
      if (!isJson) terminal.write(`${describePlan(facts).join('\n')}\n\n`);
      const bench = new Bench(surroundings, { plan, target, frames, connections, pacemaker, stop, isJson });
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
      await pacemaker.close();
    }
  } finally {
    connections.close();
  }
}

interface BenchParts {
  readonly plan: BenchPlan;
  readonly target: BenchTarget;
  /** For each version of the plan. */
  readonly frames: readonly (readonly Buffer[])[];
  readonly connections: Connections;
  readonly pacemaker: PreciseTimer;
  readonly stop: AbortController;
  readonly isJson: boolean;
}

/** The rounds so far. */
interface Growing extends MeasuredRound {
  readonly rounds: Tally[];
}

/** All rounds. */
class Bench {
  readonly watch: GeneratorWatch;
  readonly #parts: BenchParts;
  readonly #progress: BenchProgress;
  readonly #measured: readonly Growing[];
  /** A round was shorter than planned: by the user, or because the mesh has gone. */
  hasEndedEarly = false;

  constructor({ terminal }: CliContext, parts: BenchParts) {
    const { versions, seconds, warmUpSeconds, rounds } = parts.plan;
    this.#parts = parts;
    this.watch = new GeneratorWatch(parts.pacemaker);
    const totalMs = versions.length * (seconds + rounds * warmUpSeconds) * 1_000;
    this.#progress = new BenchProgress(terminal, !parts.isJson, totalMs);
    this.#measured = versions.map((version) => ({ version, sum: new Tally(), rounds: [] }));
  }

  async run(): Promise<readonly MeasuredRound[]> {
    const order = this.#measured.map((_, index) => index);
    try {
      for (let round = 0; round < this.#parts.plan.rounds && !this.hasEndedEarly; round++) {
        // First one, then the other begins: what grows steadily in the machine hits both alike.
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
    const { plan, target, frames, connections, pacemaker, stop } = this.#parts;
    const { sum, rounds, version } = this.#measured[index] as Growing;
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
      pacemaker,
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

/** For a mesh that does not say how long its calls may take. */
const ANSWER_MS_MAX = 60_000;
/** The mesh answers a call at its deadline; this is for the way. */
const SETTLE_MS = 1_000;

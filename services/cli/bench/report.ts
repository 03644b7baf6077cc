// Report of a bench: a table with one column for each version and their ratio, a chart of the latencies, the
// failures with their messages, and whether the figures are reliable. With --json the same as one document.

import { formatTable, paint, printable, wrapped, type Column, type Terminal } from '../kit/terminal.ts';
import type { CheckResult } from './checks.ts';
import { count, latency, percent, rate } from './figures.ts';
import type { GeneratorFigures } from './generator.ts';
import { drawLatencyChart, stepsOf } from './latency-chart.ts';
import type { BenchPlan } from './plan.ts';
import type { Tally } from './tally.ts';

export interface BenchResult {
  readonly plan: BenchPlan;
  readonly mesh: string;
  readonly thrift: string;
  /** In the order of the plan's versions. */
  readonly measured: readonly MeasuredRound[];
  readonly generator: GeneratorFigures;
  readonly checks: readonly CheckResult[];
  /** Whether the user stopped it or the mesh was gone. */
  readonly endedEarly: boolean;
}

export interface MeasuredRound {
  /** '' if the route chose the version. */
  readonly version: string;
  readonly sum: Tally;
  readonly rounds: readonly Tally[];
}

/** Describes the plan before the run. */
export function describePlan({ plan, mesh, thrift }: Pick<BenchResult, 'plan' | 'mesh' | 'thrift'>): string[] {
  const { service, method, versions, load, seconds, warmUpSeconds, connections, rounds } = plan;
  const [version = ''] = versions;
  const name = `${service}${versions.length > 1 || version === '' ? '' : `@${version}`}.${method}`;
  const where = `${mesh === '' ? '' : `mesh ${printable(mesh)} at `}${thrift}`;
  const how =
    load.kind === 'open'
      ? `${rate(load.ratePerS)} calls/s, open loop`
      : `${count(load.concurrency)} ${load.concurrency === 1 ? 'caller' : 'callers'}, closed loop`;
  const turns = versions.length > 1 ? ` for each of ${versions.join(' and ')} in ${rounds} alternating rounds` : '';
  const over = `${count(connections)} ${connections === 1 ? 'connection' : 'connections'}`;
  return [`${name} on ${where}`, `${how}, over ${over}`, `${seconds} s${turns}, after ${warmUpSeconds} s of warm-up`];
}

/** Formats the result as text. */
export function formatResult(terminal: Terminal, result: BenchResult): string[] {
  const { measured, checks, endedEarly, generator } = result;
  const lines: string[] = [];
  if (endedEarly) lines.push(paint(terminal, 'yellow', 'Ended early; the figures cover the completed part only.'), '');
  lines.push(...formatTable(terminal, columnsOf(result), rowsOf(result)));
  if (measured.some(({ sum }) => sum.answered > 0)) lines.push('', ...drawLatencyChart(terminal, measured));
  const say = (text: string): void => void lines.push(...wrapped(terminal, text));
  lines.push('');
  for (const note of notesOn(result)) say(note);
  const { cpu, lagP99Ms, lagMaxMs, warning } = generator;
  say(
    `This command used ${percent(cpu)} of a core; its timer was late by p99 ${latency(lagP99Ms)} ms, max ${latency(lagMaxMs)} ms.`,
  );
  if (warning !== '') lines.push(...wrapped(terminal, warning).map((line) => paint(terminal, 'yellow', line)));
  for (const { text } of checks.filter(({ holds }) => holds)) say(`${paint(terminal, 'green', 'ok')} ${text}.`);
  return lines;
}

/** A row of the table. */
interface Row {
  readonly name: string;
  readonly text: (tally: Tally) => string;
  /** Value for the ratio of two versions; omitted where a ratio has no meaning. */
  readonly figure?: (tally: Tally) => number | undefined;
  readonly isBad?: boolean;
}

function rowsOf({ plan: { load }, measured }: BenchResult): Row[] {
  const sums = measured.map(({ sum }) => sum);
  const some = (figure: (tally: Tally) => number): boolean => sums.some((sum) => figure(sum) > 0);
  const plain = (name: string, figure: (tally: Tally) => number, isBad = false): Row[] =>
    some(figure) ? [{ name, text: (tally) => count(figure(tally)), isBad }] : [];
  const codes = [...new Set(sums.flatMap(({ failures }) => [...failures.keys()]))];
  return [
    { name: 'calls', text: ({ calls }) => count(calls) },
    ...(load.kind === 'open' ? [{ name: 'target, calls/s', text: () => rate(load.ratePerS) }] : []),
    { name: 'achieved, calls/s', text: ({ ratePerS }) => rate(ratePerS), figure: ({ ratePerS }) => ratePerS },
    { name: 'answered', text: ({ answered }) => count(answered) },
    ...plain('  by a declared exception', ({ declared }) => declared),
    {
      name: 'failed',
      text: ({ failed, calls }) => (failed === 0 ? '0' : `${count(failed)} (${percent(failed / calls)})`),
      isBad: some(({ failed }) => failed),
    },
    ...codes.flatMap((code) => plain(`  ${code}`, ({ failures }) => failures.get(code)?.count ?? 0, true)),
    ...plain('sent late, too many in flight', ({ heldBack }) => heldBack),
    ...plain('unfinished', ({ unfinished }) => unfinished),
    ...plain('connections lost', ({ connectionsLost }) => connectionsLost, true),
    ...PERCENTILES.map(([name, figure]) => milliseconds(name, figure)),
    milliseconds('in queue, mean ms', ({ meshTimes }) => meshTimes?.queueMs),
    milliseconds('in service, mean ms', ({ meshTimes }) => meshTimes?.serviceMs),
  ];
}

function milliseconds(name: string, figure: (tally: Tally) => number | undefined): Row {
  const text = (tally: Tally): string => {
    const ms = figure(tally);
    return ms === undefined ? '-' : latency(ms);
  };
  return { name, text, figure };
}

function ofAnswered(figure: (tally: Tally) => number): (tally: Tally) => number | undefined {
  return (tally) => (tally.answered === 0 ? undefined : figure(tally));
}

const PERCENTILES: readonly (readonly [string, (tally: Tally) => number | undefined])[] = [
  ['p50 ms', ofAnswered(({ latencies }) => latencies.percentileMs(50))],
  ['p90 ms', ofAnswered(({ latencies }) => latencies.percentileMs(90))],
  ['p99 ms', ofAnswered(({ latencies }) => latencies.percentileMs(99))],
  ['p99.9 ms', ofAnswered(({ latencies }) => latencies.percentileMs(99.9))],
  ['max ms', ofAnswered(({ latencies }) => latencies.maxMs)],
];

function columnsOf({ measured }: BenchResult): Column<Row>[] {
  const values = measured.map(({ version, sum }): Column<Row> => ({
    head: version === '' ? 'VALUE' : version,
    isNumber: true,
    text: ({ text }) => text(sum),
    color: ({ isBad }) => (isBad === true && sum.failed > 0 ? 'red' : undefined),
  }));
  const [one, other] = measured;
  const compared: Column<Row>[] =
    one === undefined || other === undefined
      ? []
      : [
          { head: 'RATIO', isNumber: true, text: (row) => ratioText(ratioOf(row, one.sum, other.sum)) },
          { head: 'IN ROUNDS', isNumber: true, dropOrder: 1, text: (row) => spreadText(row, one, other) },
        ];
  return [{ head: 'FIGURE', text: ({ name }) => name }, ...values, ...compared];
}

/** Ratio of the second to the first. */
function ratioOf({ figure }: Row, one: Tally, other: Tally): number | undefined {
  const [a, b] = [figure?.(one), figure?.(other)];
  return a === undefined || b === undefined || a === 0 ? undefined : b / a;
}

function ratioText(ratio: number | undefined): string {
  return ratio === undefined ? '' : ratio.toFixed(2);
}

function spreadText(row: Row, one: MeasuredRound, other: MeasuredRound): string {
  const ratios = one.rounds.flatMap((round, index) => {
    const beside = other.rounds[index];
    return (beside === undefined ? undefined : ratioOf(row, round, beside)) ?? [];
  });
  return ratios.length < 2 ? '' : `${ratioText(Math.min(...ratios))} to ${ratioText(Math.max(...ratios))}`;
}

function notesOn({ plan: { load, connections }, measured }: BenchResult): string[] {
  const notes: string[] = [];
  for (const { version, sum } of measured) {
    const of = measured.length > 1 ? `${version}: ` : '';
    for (const [code, { message }] of sum.failures)
      if (message !== '') notes.push(`${of}${code}, for example: ${printable(message)}`);
    if (sum.heldBack > 0 && load.kind === 'open') {
      notes.push(
        `${of}${count(sum.heldBack)} calls were sent up to ${latency(sum.heldBackMsMax)} ms late, because ${count(load.inFlightMax)} calls were in flight (--in-flight-max). Their latency counts from when they were due.`,
      );
    }
    if (sum.peakInFlight > connections) {
      notes.push(
        `${of}up to ${count(sum.peakInFlight)} calls were in flight on ${count(connections)} connections, where replies keep the order of the calls (head-of-line blocking); use more --connections.`,
      );
    }
  }
  return notes;
}

/** The result as a JSON document. Latencies in ms, shares from 0 to 1. */
export function resultAsJson(result: BenchResult): unknown {
  const { plan, mesh, thrift, measured, generator, checks, endedEarly } = result;
  const { service, method, load, connections, seconds, warmUpSeconds } = plan;
  const steps = stepsOf(measured.map(({ sum }) => sum.latencies));
  const [one, other] = measured;
  return {
    mesh,
    thrift,
    method: `${service}.${method}`,
    load,
    connections,
    seconds,
    warmUpSeconds,
    endedEarly,
    versions: measured.map(({ version, sum, rounds }) => ({
      version,
      ...tallyAsJson(sum),
      latencyDistribution: steps.map((upToMs) => ({ upToMs, calls: sum.latencies.countUpTo(upToMs) })),
      ...(rounds.length > 1 ? { rounds: rounds.map(tallyAsJson) } : {}),
    })),
    ...(one === undefined || other === undefined
      ? {}
      : {
          ratios: Object.fromEntries(
            [['ratePerS', ({ ratePerS }: Tally) => ratePerS] as const, ...PERCENTILES].map(([name, figure]) => [
              name.replace(' ms', ''),
              ratioOf({ name, text: () => '', figure }, one.sum, other.sum) ?? null,
            ]),
          ),
        }),
    generator,
    checks,
  };
}

function tallyAsJson(tally: Tally): Record<string, unknown> {
  const { calls, answered, declared, failed, failures, heldBack, heldBackMsMax, unfinished, connectionsLost } = tally;
  return {
    calls,
    answered,
    declaredExceptions: declared,
    failed,
    errors: Object.fromEntries([...failures].map(([code, found]) => [code, found.count])),
    heldBack,
    heldBackMsMax,
    underWayMax: tally.peakInFlight,
    unfinished,
    connectionsLost,
    ratePerS: tally.ratePerS,
    measuredMs: tally.measuredMs,
    latencyMs: {
      mean: tally.latencies.meanMs,
      ...Object.fromEntries(PERCENTILES.map(([name, figure]) => [name.replace(' ms', ''), figure(tally) ?? null])),
    },
    mesh: tally.meshTimes ?? null,
  };
}

// `katamari rollout` gives a version the calls of another one in steps, while guards watch it. Its form is that of
// `katamari route`: a service alone shows what is there, a version begins a rollout, and an option changes it.

import { KatamariError, parseDuration, sleep } from '../../../core/mod.ts';
import { ExitError, EXIT, type ExitCode } from '../../config/mod.ts';
import { formatGuard, parseGuard } from '../../mesh/mod.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { RolloutClient, type PlannedRollout, type RolloutChange, type RolloutSummary } from '../kit/rollout-client.ts';
import {
  formatBar,
  formatTable,
  LiveLines,
  paint,
  printable,
  wrapped,
  type Color,
  type Column,
  type Terminal,
} from '../kit/terminal.ts';

export interface RolloutOptions extends ClientOptions {
  readonly from?: string | undefined;
  /** Percentages, comma separated. */
  readonly steps: string;
  readonly hold: string;
  readonly keep: string;
  readonly startWithin: string;
  readonly guard?: readonly string[] | undefined;
  /** `follow` or `fixed` */
  readonly copies: string;
  /** Also if callers of the old version cannot call the new one. */
  readonly force?: boolean | undefined;
  readonly pause?: boolean | undefined;
  readonly resume?: boolean | undefined;
  readonly promote?: boolean | undefined;
  readonly abort?: boolean | undefined;
  /** Show the progress until it ends. */
  readonly watch?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/** The exit code is 1 if the rollout was reverted or aborted while it was watched. */
export async function runRollout(
  context: CliContext,
  service: string,
  version: string | undefined,
  options: RolloutOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const changes = CHANGES.filter((name) => options[name] === true);
  const [change, other] = [...(version === undefined ? [] : [version]), ...changes.map((name) => `--${name}`)];
  if (other !== undefined) throw new ExitError(EXIT.usage, `Found both ${change} and ${other}, expected one of them`);
  const plan = version === undefined ? undefined : readPlan(service, version, options);
  const client = new RolloutClient(connect(context, options));
  const [wanted] = changes;
  let status: RolloutSummary | undefined;
  if (plan !== undefined) status = await client.start(plan, options.force === true);
  else if (wanted !== undefined) status = await client.change(service, wanted.toUpperCase() as RolloutChange);
  else status = await client.find(service);
  if (status === undefined) {
    terminal.write(
      `${printable(service)} has no rollout. Begin one with katamari rollout ${printable(service)} VERSION.\n`,
    );
    return EXIT.failed;
  }
  if (options.watch === true) return await watch(terminal, client, service, status, options.json === true);
  terminal.write(
    options.json === true ? `${JSON.stringify(status)}\n` : `${formatRollout(terminal, status).join('\n')}\n`,
  );
  return EXIT.done;
}

/** Shows the progress until the rollout ends. Without a terminal, it prints a line for each change. */
async function watch(
  terminal: Terminal,
  client: RolloutClient,
  service: string,
  first: RolloutSummary,
  isJson: boolean,
): Promise<ExitCode> {
  const live = new LiveLines(terminal);
  let printed = '';
  let status = first;
  let silentSinceMs: number | undefined;
  for (;;) {
    if (isJson) terminal.write(`${JSON.stringify(status)}\n`);
    else if (terminal.isScreen) live.draw(formatRollout(terminal, status));
    else {
      const line = progressLine(status);
      if (line !== printed) terminal.write(`${line}\n`);
      printed = line;
    }
    if (isEnded(status)) break;
    await sleep(POLL_MS);
    try {
      status = (await client.find(service)) ?? status;
      silentSinceMs = undefined;
    } catch (error) {
      // A faceplate that restarts, or Consul that is away, does not end the rollout.
      silentSinceMs ??= performance.now();
      if (performance.now() - silentSinceMs > SILENT_MS) throw error;
    }
  }
  if (!isJson) {
    live.clear();
    terminal.write(`${formatRollout(terminal, status).join('\n')}\n`);
  }
  return status.state === 'DONE' ? EXIT.done : EXIT.failed;
}

function readPlan(service: string, version: string, options: RolloutOptions): PlannedRollout {
  const { from = '', copies } = options;
  if (copies !== 'follow' && copies !== 'fixed')
    throw new ExitError(EXIT.usage, `--copies: found ${JSON.stringify(copies)}, expected follow or fixed`);
  return {
    serviceName: service,
    toVersion: version,
    fromVersion: from,
    steps: options.steps.split(',').map(readShare),
    holdMs: readDuration('--hold', options.hold),
    keepMs: readDuration('--keep', options.keep),
    startMs: readDuration('--start-within', options.startWithin),
    guards: (options.guard ?? []).map(readGuard),
    copiesFollow: copies === 'follow',
  };
}

function readShare(text: string): number {
  const [, share] = /^\s*(\d{1,3}(?:\.\d{1,2})?)\s*%?\s*$/.exec(text) ?? [];
  if (share !== undefined) return Number(share);
  throw new ExitError(
    EXIT.usage,
    `--steps: found ${JSON.stringify(text)}, expected percentages that rise to 100, such as 1,5,25,50,100`,
  );
}

function readDuration(flag: string, text: string): number {
  const parsed = parseDuration(text);
  if (parsed.ok) return parsed.value;
  throw new ExitError(EXIT.usage, `${flag}: found ${JSON.stringify(text)}, expected ${parsed.expected}`);
}

function readGuard(text: string): string {
  try {
    return formatGuard(parseGuard(text));
  } catch (error) {
    if (error instanceof KatamariError) throw new ExitError(EXIT.usage, `--guard: ${error.message}`, error);
    throw error;
  }
}

/** `Search 1.9.0 -> 2.0.0: running, 25 %, step 3 of 5: holds 25 % for 1m 3s more` */
function progressLine(status: RolloutSummary): string {
  const { plan, step, share, calls, badCalls, reason, isHolding, waitsFor } = status;
  const head = `${nameOf(plan)}: ${status.state.toLowerCase()}`;
  if (isEnded(status))
    return printable(`${head}${reason === '' ? '' : `: ${reason}`}; ${callsText(plan, calls, badCalls)}`);
  const what = isHolding ? 'holds' : waitsFor;
  return printable(`${head}, ${share} %, step ${step + 1} of ${plan.steps.length}: ${reason === '' ? what : reason}`);
}

function formatRollout(terminal: Terminal, status: RolloutSummary): string[] {
  const { plan, share, state, reason, guards, calls, badCalls, notes, waitsFor } = status;
  const { leader, startedBy, startedAtMs } = status;
  const bar = formatBar(terminal, share, 100, BAR_WIDTH);
  const began = `Began at ${new Date(startedAtMs).toISOString()}, by ${startedBy}`;
  const seen = guards.filter(({ text }) => text !== '');
  return [
    `${printable(nameOf(plan))}  ${bar}  ${share} %  ${paint(terminal, COLORS[state], state.toLowerCase())}`,
    ...(reason === '' ? [] : wrapped(terminal, printable(`${reason}.`))),
    '',
    ...formatTable(
      terminal,
      COLUMNS,
      plan.steps.map((_, at) => stepLine(status, at)),
    ),
    ...(seen.length === 0 ? [] : ['', ...formatTable(terminal, GUARD_COLUMNS, seen)]),
    '',
    printable(`${callsText(plan, calls, badCalls)}.`),
    ...notes.map((note) => printable(`${note}.`)),
    printable(`${began}; ${isEnded(status) || leader === '' ? waitsFor : `${leader} carries it out`}.`),
  ].map((line) => line.trimEnd());
}

interface StepLine {
  readonly share: number;
  readonly state: string;
  readonly what: string;
}

function stepLine(status: RolloutSummary, at: number): StepLine {
  const { plan, passed, step, waitsFor } = status;
  const share = plan.steps[at] ?? 0;
  const held = passed.find((one) => one.share === share);
  if (held !== undefined) return { share, state: 'held', what: held.verdicts.join('; ') };
  if (at !== step) return { share, state: at < step ? 'left out' : '-', what: '' };
  if (isEnded(status)) return { share, state: status.state.toLowerCase(), what: '' };
  return { share, state: status.isHolding ? 'holding' : 'scaling', what: waitsFor };
}

function nameOf({ serviceName, fromVersion, toVersion }: PlannedRollout): string {
  return `${serviceName} ${fromVersion} -> ${toVersion}`;
}

function callsText({ toVersion }: PlannedRollout, calls: number, badCalls: number): string {
  const [bad, all] = [badCalls.toLocaleString('en-US'), calls.toLocaleString('en-US')];
  return `${bad} of ${all} calls of ${toVersion} went wrong`;
}

function isEnded({ state }: RolloutSummary): boolean {
  return state !== 'RUNNING' && state !== 'PAUSED';
}

const CHANGES = ['pause', 'resume', 'promote', 'abort'] as const;
const COLORS: Readonly<Record<RolloutSummary['state'], Color>> = {
  RUNNING: 'cyan',
  PAUSED: 'yellow',
  DONE: 'green',
  REVERTED: 'red',
  ABORTED: 'yellow',
};
const COLUMNS: readonly Column<StepLine>[] = [
  { head: 'STEP', isNumber: true, text: ({ share }) => `${share} %` },
  { head: 'STATE', text: ({ state }) => state },
  { head: 'NOTE', text: ({ what }) => what },
];
const GUARD_COLUMNS: readonly Column<RolloutSummary['guards'][number]>[] = [
  { head: 'GUARD', text: ({ guard }) => guard },
  { head: 'SEEN', text: ({ text }) => text, color: ({ isViolated }) => (isViolated ? 'red' : undefined) },
];
const BAR_WIDTH = 30;
const POLL_MS = 1_000;
/** The mesh may be out of reach for so long while a rollout is watched. */
const SILENT_MS = 60_000;

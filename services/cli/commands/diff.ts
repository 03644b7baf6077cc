// `katamari diff` shows how the answers of the version that gets copies of calls differ from those that callers got:
// counts by method, the paths that differ, and the last such calls.

import { EXIT, ExitError, type ExitCode } from '../../config/mod.ts';
import type { MirrorCount, MirrorDifference, MirrorPathCount, MirrorReport } from '../../mesh/mod.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { formatTable, printable, type Column } from '../kit/terminal.ts';

export interface DiffOptions extends ClientOptions {
  /** Number of calls to show. */
  readonly calls?: string | undefined;
  readonly json?: boolean | undefined;
}

export async function runDiff(context: CliContext, service: string, options: DiffOptions): Promise<ExitCode> {
  const { terminal } = context;
  const calls = options.calls ?? String(CALLS_SHOWN);
  if (!/^\d{1,4}$/.test(calls))
    throw new ExitError(EXIT.usage, `--calls: found ${JSON.stringify(calls)}, expected a whole number`);
  const client = connect(context, options);
  const report = await client.mirrors(service);
  if (options.json === true) {
    terminal.write(`${JSON.stringify({ service, ...report })}\n`);
    return EXIT.done;
  }
  for (const name of report.missing) terminal.writeError(`${printable(name)} could not be asked.\n`);
  if (report.counts.length === 0) {
    const route = (await client.routes()).find(({ serviceName }) => serviceName === service);
    const why =
      route?.mirror === undefined
        ? `${service} has no mirror. Set one: katamari route ${service} --mirror VERSION`
        : `No call of ${service} was mirrored to ${route.mirror.to} yet.`;
    terminal.write(`${printable(why)}\n`);
    return EXIT.done;
  }
  const lines = [
    ...formatTable(terminal, COLUMNS, report.counts),
    ...pathLines(report),
    ...callLines(report, Number(calls)),
  ];
  terminal.write(`${lines.join('\n')}\n`);
  return EXIT.done;
}

/** `hits[].score of search differs in 37 of 40` */
function pathLines({ counts, paths }: MirrorReport): string[] {
  const compared = ({ method, version }: MirrorPathCount): number => {
    const count = counts.find((one) => one.method === method && one.version === version);
    return count === undefined ? 0 : count.equal + count.different;
  };
  const lines = [...paths]
    .sort((a, b) => b.calls - a.calls)
    .map((one) => printable(`${one.path} of ${one.method} differs in ${one.calls} of ${compared(one)}`));
  return lines.length === 0 ? [] : ['', ...lines];
}

/** The last calls whose answers differ, the latest last. */
function callLines({ differences }: MirrorReport, max: number): string[] {
  return (max === 0 ? [] : differences.slice(-max)).flatMap((one) => ['', ...callBlock(one)].map(printable));
}

function callBlock(one: MirrorDifference): string[] {
  const { atMs, method, parameters, version, answer, mirrorVersion, mirrorAnswer, places } = one;
  return [
    `${new Date(atMs).toISOString()} ${method} ${parameters}`,
    `  ${version}: ${answer}`,
    `  ${mirrorVersion}: ${mirrorAnswer}`,
    ...places.map((place) => `  ${place.at}: ${place.answer || 'nothing'}, then ${place.mirrorAnswer || 'nothing'}`),
  ];
}

const COLUMNS: readonly Column<Readonly<MirrorCount>>[] = [
  { head: 'METHOD', text: ({ method }) => method },
  { head: 'MIRROR', text: ({ version }) => version },
  { head: 'EQUAL', isNumber: true, text: ({ equal }) => String(equal) },
  { head: 'DIFFERENT', isNumber: true, text: ({ different }) => String(different) },
  { head: 'FAILED', isNumber: true, text: ({ failed }) => String(failed) },
  { head: 'SKIPPED', isNumber: true, text: ({ skipped }) => String(skipped) },
];
const CALLS_SHOWN = 3;

// `katamari events` prints the events of the mesh, oldest first. `--follow` continues with new events. If the events
// come from several processes, a column names the process.

import { EXIT, type ExitCode, ExitError } from '../../config/mod.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { formatEvent } from '../kit/event-lines.ts';
import { printable } from '../kit/terminal.ts';

export interface EventsOptions extends ClientOptions {
  readonly follow?: boolean | undefined;
  readonly after?: string | undefined;
  readonly last?: string | undefined;
  readonly json?: boolean | undefined;
}

export async function runEvents(context: CliContext, options: EventsOptions): Promise<ExitCode> {
  const { terminal } = context;
  let afterSeq = readCount(options.after, '--after') ?? 0;
  const last = readCount(options.last, '--last');
  const client = connect(context, options);
  let waitMs = 0;
  const processes = new Set<string>();
  do {
    const events = await client.events(afterSeq, waitMs);
    for (const { process } of events) processes.add(process);
    // Print the process only if there are several.
    const processWidth = processes.size > 1 ? Math.max(...[...processes].map((name) => printable(name).length)) : 0;
    // --last limits past events, never new ones.
    const selected = waitMs === 0 && last !== undefined ? (last === 0 ? [] : events.slice(-last)) : events;
    for (const event of selected) {
      const lines =
        options.json === true ? [JSON.stringify(event)] : formatEvent(terminal, event, OUTPUT_LINES_MAX, processWidth);
      terminal.write(`${lines.join('\n')}\n`);
    }
    if (events.length === 0 && waitMs === 0 && options.follow !== true && options.json !== true)
      terminal.writeError('No events.\n');
    afterSeq = events.at(-1)?.seq ?? afterSeq;
    waitMs = FOLLOW_WAIT_MS;
  } while (options.follow === true);
  return EXIT.done;
}

function readCount(text: string | undefined, flag: string): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new ExitError(EXIT.usage, `${flag}: found ${JSON.stringify(text)}, expected a whole number`);
}

const OUTPUT_LINES_MAX = 50;
/** Length of one long poll; shorter than the idle timeout of common proxies. */
const FOLLOW_WAIT_MS = 20_000;

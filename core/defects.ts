// Errors that nobody handles: defects of this program or of code that users add. A process that serves calls records
// them and goes on (services/process/defects.ts). A part without which it would not do its work must not end: that is
// a fatal defect, after which the process drains and exits, so that its supervisor starts it again.

/** A part without which this process does not do its work has ended with an error. */
export class FatalDefect extends Error {
  override readonly name = 'FatalDefect';
}

/**
 * Runs a part of the process that must not fail. Its rejection becomes an unhandled rejection with a FatalDefect, which
 * the process handles.
 * @param part completes the sentence `... has failed`
 */
export function mustNotFail(part: string, work: Promise<unknown>): void {
  void work.catch((error: unknown) => {
    throw new FatalDefect(`${part} has failed: ${messageOf(error)}`, { cause: error });
  });
}

/** Reports an error as uncaught, without an effect on the caller: for a listener that throws in a loop that goes on. */
export function reportDefect(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

/** Names a defect by its type and place, for example `TypeError at line.ts:12`. The same defect has the same name. */
export function nameDefect(error: unknown): string {
  const cause = error instanceof FatalDefect ? error.cause : error;
  if (!(cause instanceof Error)) return `thrown ${typeof cause}`;
  const place = FRAME.exec((cause.stack ?? '').replace(cause.message, ''));
  return place === null ? cause.name : `${cause.name} at ${place[1]}:${place[2]}`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** File name and line of the first frame with a path: `at f (file:///srv/line.ts:12:3)`. */
const FRAME = /^[ \t]*at .*?\/([^/\s():]+):(\d+)(?::\d+)?\)?$/m;

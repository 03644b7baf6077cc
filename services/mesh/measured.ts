// A Dispatch with its books: every call is entered once when it comes and once when it settles. For the fronts that have no books of
// their own: calls from chassis into the mesh, and the manager's port.

import {
  asKatamariError,
  type Call,
  type CallStats,
  type Clock,
  type Directory,
  type Dispatch,
  type StatsBook,
} from '../../chassis-sdk/internal.ts';

export function measured(
  dispatch: Dispatch,
  book: StatsBook,
  faceplate: string,
  directory: Directory,
  clock: Clock,
): Dispatch {
  return async (call) => {
    const startedMs = clock.nowMs();
    const stats = statsOf(call, book, faceplate, directory);
    stats.accept();
    try {
      const reply = await dispatch(call);
      if (reply.isException) stats.exceptions++;
      stats.settle('ok', clock.nowMs() - startedMs, reply.context.queueUs);
      return reply;
    } catch (thrown) {
      const error = asKatamariError(thrown);
      stats.settle(error.code, clock.nowMs() - startedMs, 0);
      throw error;
    }
  };
}

/** Names that nobody here knows are entered under '-': a stranger cannot make the book grow. */
function statsOf(call: Call, book: StatsBook, faceplate: string, directory: Directory): CallStats {
  const isKnown = directory
    .pools()
    .some(({ details, interface: { methods } }) => details.service === call.service && methods.has(call.method));
  return isKnown ? book.of(faceplate, call.service, call.method) : book.of(faceplate, '-', '-');
}

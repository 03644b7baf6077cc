// Waits for a fact, with a time limit.

/**
 * Polls `check` until it returns a truthy value, and returns that value. Rejects with `what` after `withinMs`.
 * @param everyMs pause between two polls; a longer one for a check that takes time from what is measured meanwhile
 */
export async function until<T>(
  what: string | (() => string),
  check: () => T | Promise<T>,
  withinMs: number = WITHIN_MS,
  everyMs: number = EVERY_MS,
): Promise<NonNullable<T>> {
  const end = performance.now() + withinMs;
  for (;;) {
    const seen = await check();
    if (seen) return seen as NonNullable<T>;
    if (performance.now() > end)
      throw new Error(`Waited ${withinMs} ms for ${typeof what === 'string' ? what : what()}`);
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}

/** No test waits so long on a machine that has time; on a busy one, a process may take ten times as long. */
const WITHIN_MS = 30_000;
const EVERY_MS = 10;

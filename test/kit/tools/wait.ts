// Waits for a fact, with a time limit.

/** Polls `check` until it returns a truthy value, and returns that value. Rejects with `what` after `withinMs`. */
export async function until<T>(
  what: string | (() => string),
  check: () => T | Promise<T>,
  withinMs = 10_000,
): Promise<NonNullable<T>> {
  const end = performance.now() + withinMs;
  for (;;) {
    const seen = await check();
    if (seen) return seen as NonNullable<T>;
    if (performance.now() > end)
      throw new Error(`Waited ${withinMs} ms for ${typeof what === 'string' ? what : what()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

// A verdict takes up to a tenth of a second. A process that also serves calls works on it in slices of a few
// milliseconds: it is a generator, which yields between them and returns the result.

export type Slices<Result> = Generator<void, Result, void>;

/** Does all of the work now. */
export function atOnce<Result>(work: Slices<Result>): Result {
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
  }
}

/** Does the work in turns of at most some SLICE_MS, and lets the event loop go on in between. */
export async function inSlices<Result>(work: Slices<Result>): Promise<Result> {
  for (;;) {
    const endMs = performance.now() + SLICE_MS;
    do {
      const step = work.next();
      if (step.done === true) return step.value;
    } while (performance.now() < endMs);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const SLICE_MS = 2;

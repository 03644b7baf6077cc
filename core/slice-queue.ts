// Does long work in slices, so that it never holds the event loop: between two turns of a few milliseconds, the loop
// serves everything else. Owners (connections) take turns, so the work of one does not wait for all work of another;
// the jobs of one owner are done in order.

export class SliceQueue {
  /** The jobs of each owner. The first owner is next; after its turn it goes to the end. */
  readonly #jobs = new Map<object, (() => boolean)[]>();
  #isScheduled = false;

  /** Adds a job. It is called until it returns true, and must not throw; each call should take about a millisecond. */
  add(owner: object, job: () => boolean): void {
    const jobs = this.#jobs.get(owner);
    if (jobs === undefined) this.#jobs.set(owner, [job]);
    else jobs.push(job);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled || this.#jobs.size === 0) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      const endMs = performance.now() + TURN_MS;
      do this.#step();
      while (this.#jobs.size > 0 && performance.now() < endMs);
      this.#schedule();
    });
  }

  #step(): void {
    for (const [owner, jobs] of this.#jobs) {
      // The job may add another one for its owner, at the end.
      if ((jobs[0] as () => boolean)()) jobs.shift();
      this.#jobs.delete(owner);
      if (jobs.length > 0) this.#jobs.set(owner, jobs);
      return;
    }
  }
}

/** Longest turn, in ms, plus one slice. */
const TURN_MS = 5;

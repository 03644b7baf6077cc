// Limits how many refusals the audit log takes, so that nobody can flood it: per minute some for each code and
// source, and some for each code in all. The rest is counted, and one line for each code says how many were left out.

/** What was left out in one window. */
export interface Suppressed {
  readonly code: string;
  readonly count: number;
  readonly sinceMs: number;
}

export class RefusalLimiter {
  /** Refusals in this window by code, then by source. */
  readonly #counts = new Map<string, { total: number; suppressed: number; readonly sources: Map<string, number> }>();
  #sinceMs = Number.NEGATIVE_INFINITY;

  /**
   * Counts a refusal and returns whether it gets a line. A new window begins only after `takeSuppressed`, or when the
   * last one left out nothing.
   */
  admits(code: string, source: string, nowMs: number): boolean {
    if (nowMs - this.#sinceMs >= WINDOW_MS && !this.hasSuppressed) this.#begin(nowMs);
    let ofCode = this.#counts.get(code);
    if (ofCode === undefined) this.#counts.set(code, (ofCode = { total: 0, suppressed: 0, sources: new Map() }));
    const known = ofCode.sources.has(source) || ofCode.sources.size < SOURCES_MAX ? source : '';
    const ofSource = ofCode.sources.get(known) ?? 0;
    if (ofSource >= LINES_PER_SOURCE_MAX || ofCode.total >= LINES_PER_CODE_MAX) {
      ofCode.suppressed++;
      return false;
    }
    ofCode.sources.set(known, ofSource + 1);
    ofCode.total++;
    return true;
  }

  get hasSuppressed(): boolean {
    for (const { suppressed } of this.#counts.values()) if (suppressed > 0) return true;
    return false;
  }

  /** Returns what was left out, and begins a new window. */
  takeSuppressed(nowMs: number): Suppressed[] {
    const sinceMs = this.#sinceMs;
    const found = [...this.#counts].map(([code, { suppressed: count }]) => ({ code, count, sinceMs }));
    this.#begin(nowMs);
    return found.filter(({ count }) => count > 0);
  }

  #begin(nowMs: number): void {
    this.#counts.clear();
    this.#sinceMs = nowMs;
  }
}

export const WINDOW_MS = 60_000;
const LINES_PER_SOURCE_MAX = 10;
const LINES_PER_CODE_MAX = 100;
/** Further sources of one window share one count. */
const SOURCES_MAX = 1_000;

// Counts the calls that rules of routes have led.

/** Calls of one rule that went to one version. */
export interface RuleCount {
  readonly service: string;
  readonly version: string;
  /** Name of the rule, or `fallback`. */
  readonly rule: string;
  calls: number;
}

export class RuleCounts {
  readonly #counts = new Map<string, RuleCount>();

  add(service: string, version: string, rule: string): void {
    const key = `${service}@${version} ${rule}`;
    const known = this.#counts.get(key);
    if (known !== undefined) known.calls++;
    // Routes may change for ever.
    else if (this.#counts.size < COUNTS_MAX) this.#counts.set(key, { service, version, rule, calls: 1 });
  }

  read(): readonly Readonly<RuleCount>[] {
    return [...this.#counts.values()];
  }
}

const COUNTS_MAX = 1_000;

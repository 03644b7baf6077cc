// Runs the checks of `katamari conform` group by group and reports each result at once. After a failure the next
// check gets a new process. If a failure would repeat in every later check, those checks are skipped.

import { ExitError, EXIT, didYouMean } from '../../config/mod.ts';
import { CheckFailed, CheckSkipped } from './check-result.ts';
import { DETAILS, START } from './details.ts';
import type { ConformReport, Result } from './report.ts';
import { SHUTDOWN } from './shutdown-checks.ts';
import type { Check, CheckGroup, TestContext } from './test-context.ts';
import { PeerClosed } from './test-link.ts';

export class TestRun {
  readonly results: Result[] = [];
  readonly #report: ConformReport | undefined;
  readonly #only: readonly string[];
  readonly #known: string[] = [];
  /** Reasons to skip all further checks. */
  readonly #gates: string[] = [];

  constructor(report: ConformReport | undefined, only: readonly string[]) {
    this.#report = report;
    this.#only = only;
  }

  warn(text: string): void {
    this.#report?.warning(text);
  }

  /** Validates --only. @throws ExitError usage if it names an unknown check */
  checkOnly(extra: readonly Check[]): void {
    const known = [...this.#known, ...extra.map(({ id }) => id)];
    const unknown = this.#only.find((id) => !known.includes(id));
    if (unknown === undefined || extra.length === 0) return;
    throw new ExitError(
      EXIT.usage,
      `--only: unknown check ${JSON.stringify(unknown)}${didYouMean(unknown, known) || `; the checks are ${known.join(', ')}`}`,
    );
  }

  /** Runs the checks of a group, one after the other. */
  async runGroup({ title, checks }: CheckGroup, test: TestContext): Promise<void> {
    this.#known.push(...checks.map(({ id }) => id));
    // Always run Start and Details: the other checks need the details and the interface.
    const selected =
      [START.title, DETAILS.title].includes(title) || this.#only.length === 0
        ? checks
        : checks.filter(({ id }) => this.#only.includes(id));
    if (selected.length === 0) return;
    let hasTitle = false;
    for (const check of selected) {
      const result = await this.#runCheck(check, test);
      this.results.push(result);
      if (result.verdict === 'skipped') continue;
      if (!hasTitle) this.#report?.title(title);
      hasTitle = true;
      this.#report?.result(result);
    }
  }

  /** Reports the skipped checks, grouped by reason. */
  reportSkipped(): void {
    const skipped = this.results.filter(({ verdict }) => verdict === 'skipped');
    if (skipped.length > 0) this.#report?.title('Skipped');
    for (const why of new Set(skipped.map(({ note }) => note))) {
      const together = skipped.filter(({ note }) => note === why);
      this.#report?.skipped(together, why);
    }
  }

  async #runCheck(check: Check, test: TestContext): Promise<Result> {
    const startedAtMs = performance.now();
    const done = (verdict: Result['verdict'], extra: Partial<Result>): Result => ({
      id: check.id,
      what: check.what,
      verdict,
      tookMs: Math.round(performance.now() - startedAtMs),
      note: '',
      expected: '',
      came: '',
      advice: '',
      ...extra,
    });
    if (test.chassis.failedStarts >= FAILED_STARTS_MAX) return done('skipped', { note: 'the chassis does not start' });
    const gate = SHUTDOWN.checks.includes(check)
      ? this.#gates.filter((why) => why !== GATES['reconnect'])
      : this.#gates;
    if (gate[0] !== undefined) return done('skipped', { note: gate[0] });
    try {
      return done('ok', { note: (await check.run(test)) ?? '' });
    } catch (error) {
      if (error instanceof CheckSkipped) return done('skipped', { note: error.message });
      // The next check gets a new process.
      await test.chassis.stop();
      this.#gates.push(...[GATES[check.id] ?? []].flat());
      const { expected, came, advice } = asCheckFailed(error, check);
      return done('failed', { expected, came, advice: advice === '' ? check.advice : advice });
    } finally {
      if (SHUTDOWN.checks.includes(check)) await test.chassis.stop();
    }
  }
}

/** Converts an error to a CheckFailed. @throws the error itself if the chassis did not cause it */
function asCheckFailed(error: unknown, check: Check): CheckFailed {
  if (error instanceof CheckFailed) return error;
  if (error instanceof PeerClosed) return new CheckFailed(check.what, error.message);
  throw error;
}

/** Checks that others depend on, and why those are skipped after a failure. */
const GATES: Readonly<Record<string, string>> = {
  listens: 'the chassis does not listen; fix that first',
  ping: 'the chassis does not answer ping; fix that first',
  reconnect: 'these need a new connection, and the chassis accepts only one; fix that first',
  'sequence-ids': 'replies cannot be matched to calls; fix the sequence ids first',
};
/** Failed starts in a row after which no further start is tried. */
const FAILED_STARTS_MAX = 2;

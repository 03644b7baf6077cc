// One run of `katamari conform` through the checks, group by group: tells each result as it comes. After a fault the next check gets a new process;
// after one that would only be told again by every other check, those are not made.

import { ExitError, EXIT, didYouMean } from '../../config/mod.ts';
import { CheckFailed, CheckSkipped } from './check-result.ts';
import { DETAILS, START } from './details.ts';
import type { ConformReport, Result } from './report.ts';
import { ENDS } from './shutdown-checks.ts';
import type { Check, CheckGroup, TestContext } from './test-context.ts';
import { PeerClosed } from './test-link.ts';

export class TestRun {
  readonly results: Result[] = [];
  readonly #report: ConformReport | undefined;
  readonly #only: readonly string[];
  readonly #known: string[] = [];
  /** Why further checks would only say the same again. */
  readonly #gates: string[] = [];

  constructor(report: ConformReport | undefined, only: readonly string[]) {
    this.#report = report;
    this.#only = only;
  }

  warn(text: string): void {
    this.#report?.warning(text);
  }

  /** @throws CliError usage when --only names a check that there is none of */
  checkOnly(more: readonly Check[]): void {
    const known = [...this.#known, ...more.map(({ id }) => id)];
    const unknown = this.#only.find((id) => !known.includes(id));
    if (unknown === undefined || more.length === 0) return;
    throw new ExitError(
      EXIT.usage,
      `--only: there is no check ${JSON.stringify(unknown)}${didYouMean(unknown, known) || `; there are ${known.join(', ')}`}`,
    );
  }

  /** Makes the checks of a group, one after the other. */
  async group({ title, checks }: CheckGroup, exam: TestContext): Promise<void> {
    this.#known.push(...checks.map(({ id }) => id));
    // Those of the start tell what the others need to know.
    const wanted =
      [START.title, DETAILS.title].includes(title) || this.#only.length === 0
        ? checks
        : checks.filter(({ id }) => this.#only.includes(id));
    if (wanted.length === 0) return;
    let isTold = false;
    for (const check of wanted) {
      const result = await this.#make(check, exam);
      this.results.push(result);
      if (result.verdict === 'skipped') continue;
      if (!isTold) this.#report?.title(title);
      isTold = true;
      this.#report?.result(result);
    }
  }

  /** Tells of the checks that were not made, those of one reason together. */
  close(): void {
    const skipped = this.results.filter(({ verdict }) => verdict === 'skipped');
    if (skipped.length > 0) this.#report?.title('Not looked at');
    for (const why of new Set(skipped.map(({ note }) => note))) {
      const together = skipped.filter(({ note }) => note === why);
      this.#report?.skipped(together, why);
    }
  }

  async #make(check: Check, exam: TestContext): Promise<Result> {
    const startedAtMs = performance.now();
    const done = (verdict: Result['verdict'], more: Partial<Result>): Result => ({
      id: check.id,
      what: check.what,
      verdict,
      tookMs: Math.round(performance.now() - startedAtMs),
      note: '',
      expected: '',
      came: '',
      advice: '',
      ...more,
    });
    if (exam.subject.failedStarts >= FAILED_STARTS_MAX) return done('skipped', { note: 'it does not start' });
    const gate = ENDS.checks.includes(check) ? this.#gates.filter((why) => why !== GATES['reconnect']) : this.#gates;
    if (gate[0] !== undefined) return done('skipped', { note: gate[0] });
    try {
      return done('ok', { note: (await check.run(exam)) ?? '' });
    } catch (error) {
      if (error instanceof CheckSkipped) return done('skipped', { note: error.message });
      // The next check is to find a chassis that nothing has happened to.
      await exam.subject.end();
      this.#gates.push(...[GATES[check.id] ?? []].flat());
      const { expected, came, advice } = asFault(error, check);
      return done('failed', { expected, came, advice: advice === '' ? check.advice : advice });
    } finally {
      if (ENDS.checks.includes(check)) await exam.subject.end();
    }
  }
}

/** @throws what is no fault of the chassis */
function asFault(error: unknown, check: Check): CheckFailed {
  if (error instanceof CheckFailed) return error;
  if (error instanceof PeerClosed) return new CheckFailed(check.what, error.message);
  throw error;
}

/** Checks without which the others mean nothing, and what is said of those then. */
const GATES: Readonly<Record<string, string>> = {
  listens: 'nothing can be asked of a chassis that does not listen: put that right first',
  ping: 'it answers no ping: put that right first',
  reconnect: 'they need a connection of their own, and it takes no second one: put that right first',
  'sequence-ids': 'answers cannot be told apart: put the sequence ids right first',
};
/** A chassis that does not start so often does not start any more. */
const FAILED_STARTS_MAX = 2;

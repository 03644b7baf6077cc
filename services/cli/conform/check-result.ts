// Errors that end a check of `katamari conform`: CheckFailed has the expected and the actual behavior and the fix;
// CheckSkipped says why the check did not run.

export class CheckFailed extends Error {
  readonly expected: string;
  readonly came: string;
  /** How to fix it; '' for the general advice of the check. */
  readonly advice: string;

  constructor(expected: string, came: string, advice = '') {
    super(`expected ${expected}; got ${came}`);
    this.expected = expected;
    this.came = came;
    this.advice = advice;
  }
}

export class CheckSkipped extends Error {}

// How a check of `katamari conform` ends when it does not pass: a Fault says what was expected, what came and what to do; a Skip why it was
// not made.

export class CheckFailed extends Error {
  readonly expected: string;
  readonly came: string;
  /** What to do; '' for what the check says in general. */
  readonly advice: string;

  constructor(expected: string, came: string, advice = '') {
    super(`expected ${expected}; came ${came}`);
    this.expected = expected;
    this.came = came;
    this.advice = advice;
  }
}

export class CheckSkipped extends Error {}

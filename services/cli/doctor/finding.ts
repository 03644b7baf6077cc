// The result of one check of `katamari doctor`.

/** One line of output, with advice. */
export interface Finding {
  readonly verdict: 'OK' | 'warn' | 'FAIL';
  /** What was checked. */
  readonly subject: string;
  readonly text: string;
  /** How to fix it; '' if there is nothing to fix. */
  readonly advice: string;
}

export function ok(subject: string, text: string): Finding {
  return { verdict: 'OK', subject, text, advice: '' };
}

export function warn(subject: string, text: string, advice: string): Finding {
  return { verdict: 'warn', subject, text, advice };
}

export function fail(subject: string, text: string, advice: string): Finding {
  return { verdict: 'FAIL', subject, text, advice };
}

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

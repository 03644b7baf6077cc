// One result of `katamari doctor`.

/** One line of the doctor's. */
export interface Finding {
  readonly verdict: 'OK' | 'warn' | 'FAIL';
  /** What was looked at. */
  readonly subject: string;
  readonly text: string;
  /** What to do about it; '' when nothing is to be done. */
  readonly advice: string;
}

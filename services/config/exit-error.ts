// How the command ends: one error type that carries the exit code, and the table of codes that scripts may rely on.

/** Exit codes of `katamari`; docs/command.md lists them for users. */
export const EXIT = {
  done: 0,
  /** The command line was valid, but the command failed. */
  failed: 1,
  /** The command line itself is wrong. */
  usage: 2,
  /** No mesh answers at the address (EX_UNAVAILABLE). */
  unreachable: 69,
  /** A part of the process has failed that must not; start it again (EX_SOFTWARE). */
  defect: 70,
  /** A configuration or IDL file is wrong (EX_CONFIG). */
  badConfiguration: 78,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** Ends the command with `message` on stderr and `exitCode`. The message says what to do next. */
export class ExitError extends Error {
  override readonly name = 'ExitError';
  readonly exitCode: ExitCode;

  constructor(exitCode: ExitCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.exitCode = exitCode;
  }
}

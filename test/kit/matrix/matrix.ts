// The cross-language matrix: every client language calls the Mirror of every chassis language through a mesh, in
// every transport and protocol of its library, plain and multiplexed. Each client language and run is one process,
// whose replies are compared with the expected ones.

import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { answerOf, callLines, matrixCalls, type MatrixCall } from './calls.ts';
import { FACTS, mannersOf, whyCannot, type Language, type Manner } from './languages.ts';

/** One client against one server in one transport and protocol. */
export interface MatrixRun extends Manner {
  readonly language: Language;
  /** Service name for the multiplexed protocol; '' for a plain one. */
  readonly multiplexed: string;
  readonly port: number;
}

export interface RunResult {
  readonly run: MatrixRun;
  readonly compared: number;
  /** One line each: the call, the expected reply, the actual reply. */
  readonly differences: readonly string[];
}

const RUN_TIMEOUT_MS = 300_000;
const OUTPUT_BYTES_MAX = 512 * 1_024 * 1_024;

/** All transports and protocols of a language, each plain and multiplexed, against one port. */
export function runsOf(language: Language, port: number, service = 'Mirror'): MatrixRun[] {
  return mannersOf(language).flatMap((manner) =>
    ['', service].map((multiplexed) => ({ ...manner, language, multiplexed, port })),
  );
}

/** Runs the client of one language; all runs must be of that language. */
export async function runClient(language: Language, runs: readonly MatrixRun[]): Promise<RunResult[]> {
  const directory = mkdtempSync(path.join(tmpdir(), 'katamari-matrix-'));
  try {
    const results: RunResult[] = [];
    // A server notes each text only once, so each run has its own calls. Calls that the library cannot make are not
    // sent, because they may end the connection.
    const calls = runs.map((run, n) =>
      matrixCalls(`${language} ${n} ${directory}`).filter(({ title }) => whyCannot(language, run, title) === undefined),
    );
    const file = path.join(directory, 'calls');
    const { command, env } = await FACTS[language].program();
    const [program = '', ...args] = command;
    const names = runs.map((run, n) => {
      writeFileSync(`${file}-${n}`, callLines(calls[n] ?? []));
      return `${run.transport}/${run.protocol}/${run.multiplexed || '-'}/${run.port}/${file}-${n}`;
    });
    const { stdout } = await execute(program, [...args, ...names], {
      env: { ...process.env, ...env },
      timeout: RUN_TIMEOUT_MS,
      maxBuffer: OUTPUT_BYTES_MAX,
    });
    const blocks = stdout.split(/^run .*\n/m).slice(1);
    runs.forEach((run, n) => results.push(compare(run, calls[n] ?? [], (blocks[n] ?? '').split('\n'))));
    return results;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function compare(run: MatrixRun, calls: readonly MatrixCall[], lines: readonly string[]): RunResult {
  const differences: string[] = [];
  calls.forEach((call, n) => {
    const line = lines[n] ?? '';
    const said = line.startsWith(`${call.method.name} `) ? line.slice(call.method.name.length + 1) : '';
    const came = said === '' ? 'nothing' : answerOf(call.method, said);
    if (came === call.expected) return;
    differences.push(
      `${call.title}: expected ${shortened(call.expected, came)}, got ${shortened(came, call.expected)}`,
    );
  });
  return { run, compared: calls.length, differences };
}

/** Starts shortly before the first character that differs. */
function shortened(text: string, other: string): string {
  if (text.length <= SHOWN_MAX) return text;
  let at = 0;
  while (at < text.length && text[at] === other[at]) at++;
  const start = Math.max(0, at - 40);
  return `${start > 0 ? '…' : ''}${text.slice(start, start + SHOWN_MAX)}…`;
}

const SHOWN_MAX = 200;
const execute = promisify(execFile);

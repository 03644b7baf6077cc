// Runs the whole matrix, every client against every chassis, one mesh after the other, and prints the results as a
// table.

import { CHASSIS, startMatrixMesh, thriftPort, type ChassisLanguage } from './chassis.ts';
import { LANGUAGES, missingOf, mannersOf, FACTS, type Language } from './languages.ts';
import { runClient, runsOf, type MatrixRun, type RunResult } from './matrix.ts';

export interface MatrixOptions {
  readonly languages?: readonly Language[];
  readonly chassis?: readonly ChassisLanguage[];
  /** Selects runs of a language and a chassis; all by default. */
  readonly choose?: (runs: readonly MatrixRun[], chassis: ChassisLanguage) => readonly MatrixRun[];
  readonly onProgress?: (line: string) => void;
}

export interface MatrixResult extends RunResult {
  readonly chassis: ChassisLanguage;
}

export async function runMatrix(options: MatrixOptions = {}): Promise<MatrixResult[]> {
  const { languages = LANGUAGES, chassis = CHASSIS, choose = (runs) => runs, onProgress = () => {} } = options;
  const results: MatrixResult[] = [];
  for (const one of chassis) {
    const mesh = await startMatrixMesh(one);
    try {
      for (const language of languages) {
        const came = await runClient(language, choose(runsOf(language, thriftPort(mesh)), one));
        results.push(...came.map((result) => ({ ...result, chassis: one })));
        const different = came.filter(({ differences }) => differences.length > 0).length;
        onProgress(`${language} to ${one}: ${came.length} runs, ${different} with differences`);
      }
    } finally {
      await mesh.end();
    }
  }
  return results;
}

/**
 * Rows: client, transport, protocol. Columns: chassis. A cell shows how many replies were compared, plain and
 * multiplexed, or how many differ.
 */
export function matrixTable(results: readonly MatrixResult[]): string[] {
  const columns = CHASSIS.filter((chassis) => results.some((result) => result.chassis === chassis));
  const rows: string[][] = [['client', 'transport', 'protocol', ...columns]];
  for (const language of LANGUAGES.filter((one) => results.some(({ run }) => run.language === one))) {
    for (const { transport, protocol } of mannersOf(language)) {
      const of = (chassis: ChassisLanguage): string =>
        cell(
          results.filter(
            ({ run, ...result }) =>
              result.chassis === chassis &&
              run.language === language &&
              run.transport === transport &&
              run.protocol === protocol,
          ),
        );
      rows.push([language, transport, protocol, ...columns.map(of)]);
    }
    for (const { transport, protocol, why } of missingOf(language)) {
      rows.push([language, transport, protocol, `not offered: ${why}`]);
    }
  }
  const widths = [0, 1, 2, ...columns.map((_, n) => n + 3)].map((n) =>
    Math.max(...rows.map((row) => (row.length > 4 || n < 3 ? (row[n] ?? '').length : 0))),
  );
  return rows.map((row) =>
    row
      .map((text, n) => text.padEnd(widths[n] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}

/** Calls that are not compared, with the reason. */
export function exceptionLines(languages: readonly Language[] = LANGUAGES): string[] {
  return languages.flatMap((language) =>
    FACTS[language].cannot.map(({ calls, protocols, why }) => {
      const where = protocols === undefined ? '' : ` in ${protocols.join(', ')}`;
      return `${language}, ${calls.map((call) => `"${call}"`).join(', ')}${where}: ${why}`;
    }),
  );
}

/** One line for each difference. */
export function differenceLines(results: readonly MatrixResult[]): string[] {
  return results.flatMap(({ run, chassis, differences }) =>
    differences.map((line) => {
      const how = `${run.transport} ${run.protocol}${run.multiplexed === '' ? '' : ' multiplexed'}`;
      return `${run.language}, ${how}, to ${chassis}: ${line}`;
    }),
  );
}

function cell(results: readonly MatrixResult[]): string {
  if (results.length === 0) return 'not run';
  const differences = results.reduce((sum, result) => sum + result.differences.length, 0);
  return differences > 0 ? `${differences} differ` : `ok ${results.map(({ compared }) => compared).join('+')}`;
}

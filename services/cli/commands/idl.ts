// `katamari idl diff OLD NEW`: whether callers and chassis of two states of an interface understand each other, change by change.

import { existsSync } from 'node:fs';
import {
  changesBetween,
  parseIdl,
  readIdlFile,
  type Change,
  type Idl,
  type Compatibility,
} from '../../../core/idl/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import { ExitError, EXIT, type ExitCode } from '../../config/mod.ts';
import type { CliContext } from '../kit/context.ts';
import { paint, printable, type Terminal } from '../kit/terminal.ts';
import path from 'node:path';

export interface IdlDiffOptions {
  readonly service?: string | undefined;
  readonly json?: boolean | undefined;
}

/** What became of one service. */
interface ServiceChanges {
  readonly service: string;
  /** Callers of the old state are understood by chassis of the new one. */
  readonly isCompatible: boolean;
  readonly changes: readonly Change[];
}

/** Done when callers of yesterday are understood by chassis of today, else failed. */
export function runIdlDiff(
  { terminal, cwd }: CliContext,
  older: string,
  newer: string,
  options: IdlDiffOptions,
): ExitCode {
  const [before, after] = [read(cwd, older), read(cwd, newer)];
  const services = compare(before, after, options.service, older);
  const isCompatible = services.every((one) => one.isCompatible);
  if (options.json === true) terminal.write(`${JSON.stringify({ isCompatible, services })}\n`);
  else terminal.write(`${services.flatMap((one) => format(terminal, one)).join('\n')}\n`);
  return isCompatible ? EXIT.done : EXIT.failed;
}

function compare(before: Idl, after: Idl, only: string | undefined, shown: string): ServiceChanges[] {
  const names = [...before.services.keys()].filter((name) => only === undefined || name === only);
  if (names.length === 0) {
    const there = [...before.services.keys()].join(', ') || 'none';
    throw new ExitError(
      EXIT.usage,
      `${shown} has no service${only === undefined ? '' : ` "${only}"`}; it has ${there}`,
    );
  }
  return names.map((service) => {
    const [old, now] = [before.services.get(service), after.services.get(service)];
    const changes =
      old === undefined || now === undefined
        ? [
            {
              where: service,
              what: 'was removed',
              oldCallers: 'breaks',
              newCallers: 'fine',
              why: 'nothing offers it any more',
            } as const,
          ]
        : changesBetween(old, now);
    return { service, isCompatible: changes.every(({ oldCallers }) => isKind(oldCallers)), changes };
  });
}

/** What only callers by JSON notice, or only when a new value comes up, is said and does not fail. */
function isKind(verdict: Compatibility): boolean {
  return verdict !== 'breaks';
}

function read(cwd: string, shown: string): Idl {
  const file = path.resolve(cwd, shown);
  if (!existsSync(file)) throw new ExitError(EXIT.usage, `${shown}: no such file, expected a .thrift file`);
  try {
    return parseIdl(readIdlFile(file));
  } catch (error) {
    if (error instanceof KatamariError) throw new ExitError(EXIT.badConfiguration, error.message, error);
    throw error;
  }
}

/** Not as a table: why something breaks is never cut to the screen. */
function format(terminal: Terminal, { service, isCompatible, changes }: ServiceChanges): string[] {
  const name = printable(service);
  if (changes.length === 0) return [`${name}: nothing that travels has changed`];
  const shown = (verdict: Compatibility): string => {
    const text = verdict.padEnd(COLUMN);
    return verdict === 'breaks'
      ? paint(terminal, 'red', text)
      : verdict === 'fine'
        ? text
        : paint(terminal, 'yellow', text);
  };
  return [
    paint(terminal, 'dim', `${'OLD CALLERS'.padEnd(COLUMN)}  ${'NEW CALLERS'.padEnd(COLUMN)}  CHANGE`),
    ...changes.map(
      ({ where, what, oldCallers, newCallers, why }) =>
        `${shown(oldCallers)}  ${shown(newCallers)}  ${printable(where)} ${printable(what)}${why === '' ? '' : `: ${printable(why)}`}`,
    ),
    '',
    isCompatible
      ? `${name}: callers of the old state are understood by chassis of the new one.`
      : `${name}: callers of the old state are not understood by chassis of the new one. Give it another major version and run both side by side.`,
  ];
}

const COLUMN = 'OLD CALLERS'.length;

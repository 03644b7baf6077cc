// `katamari idl diff OLD NEW` lists the changes between two versions of an interface and whether callers and chassis
// of different versions are compatible.

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
  readonly include?: readonly string[] | undefined;
}

/** Changes of one service. */
interface ServiceChanges {
  readonly service: string;
  /** Old callers can call a new chassis. */
  readonly isCompatible: boolean;
  readonly changes: readonly Change[];
}

/** Exits with 0 if old callers can call a new chassis, else with 1. */
export function runIdlDiff(
  { terminal, cwd }: CliContext,
  older: string,
  newer: string,
  options: IdlDiffOptions,
): ExitCode {
  const includes = (options.include ?? []).map((folder) => path.resolve(cwd, folder));
  const [before, after] = [read(cwd, older, includes), read(cwd, newer, includes)];
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
              why: 'the new file does not define it',
            } as const,
          ]
        : changesBetween(old, now);
    return { service, isCompatible: changes.every(({ oldCallers }) => isTolerable(oldCallers)), changes };
  });
}

/** Changes that affect only JSON callers, or only some values, are listed but do not fail the command. */
function isTolerable(verdict: Compatibility): boolean {
  return verdict !== 'breaks';
}

function read(cwd: string, shown: string, includes: readonly string[]): Idl {
  const file = path.resolve(cwd, shown);
  if (!existsSync(file)) throw new ExitError(EXIT.usage, `${shown}: no such file, expected a .thrift file`);
  try {
    return parseIdl(readIdlFile(file, includes));
  } catch (error) {
    if (error instanceof KatamariError) throw new ExitError(EXIT.badConfiguration, error.message, error);
    throw error;
  }
}

/** Not a table, because a table would cut the reasons to the width of the terminal. */
function format(terminal: Terminal, { service, isCompatible, changes }: ServiceChanges): string[] {
  const name = printable(service);
  if (changes.length === 0) return [`${name}: no change on the wire`];
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
      ? `${name}: compatible. A chassis of the new version understands old callers.`
      : `${name}: incompatible. A chassis of the new version does not understand old callers. Give it a new major version and run both side by side.`,
  ];
}

const COLUMN = 'OLD CALLERS'.length;

// What `katamari route` reads and shows of the copies of calls that a route sends: `--hedge search=p95` and
// `--majority score='2 of 3'`.

import { ExitError, EXIT } from '../../config/mod.ts';
import {
  COPIED_METHOD,
  HEDGE_VALUE,
  HEDGE_OR_OFF,
  MAJORITY_OR_OFF,
  MAJORITY_VALUE,
  type Route,
} from '../../mesh/mod.ts';
import { printable } from '../kit/terminal.ts';

type RouteCopies = Pick<Route, 'hedge' | 'majority'>;

/** The words of `--hedge` and `--majority`; undefined without them. */
export interface CopyOptions {
  readonly hedge?: readonly string[] | undefined;
  readonly majority?: readonly string[] | undefined;
}

/** What the options make of a route. Methods that they do not name stay. @throws ExitError */
export function readCopies({ hedge, majority }: CopyOptions, now: RouteCopies): RouteCopies {
  return {
    ...(hedge === undefined ? {} : { hedge: readValues('--hedge', hedge, now.hedge, HEDGE_OR_OFF, HEDGE_VALUE) }),
    ...(majority === undefined
      ? {}
      : { majority: readValues('--majority', majority, now.majority, MAJORITY_OR_OFF, MAJORITY_VALUE) }),
  };
}

/** Reads `search=p95`, `p95` for all methods and `off` for an empty list. */
function readValues(
  option: string,
  words: readonly string[],
  now: Readonly<Record<string, string>> = {},
  form: RegExp,
  expected: string,
): Record<string, string> {
  let values = { ...now };
  for (const word of words) {
    if (word === 'off') {
      values = {};
      continue;
    }
    const [, method = '*', value = ''] = /^(?:([^=]+)=)?(.*)$/s.exec(word) ?? [];
    if (!COPIED_METHOD.test(method) || !form.test(value))
      throw new ExitError(
        EXIT.usage,
        `${option}: found ${JSON.stringify(word)}, expected method=value, where the value is ${expected}`,
      );
    values[method] = value;
  }
  return values;
}

/** What a route says about copies, as sentences. */
export function copyLines({ hedge = {}, majority = {} }: RouteCopies): string[] {
  const of = (method: string): string => (method === '*' ? 'other idempotent methods' : method);
  const hedges = Object.entries(hedge).map(([method, value]) =>
    value === 'off'
      ? `Calls of ${of(method)} get no second copy.`
      : `Calls of ${of(method)} that take longer than ${value} of its times get a second copy.`,
  );
  const majorities = Object.entries(majority).map(([method, value]) =>
    value === 'off'
      ? `Calls of ${of(method)} need no majority.`
      : `Calls of ${of(method)} go to several copies at once: ${value} must answer alike.`,
  );
  return [...hedges, ...majorities].map(printable);
}

/** `hedge search=p95` */
export function copySummary({ hedge = {}, majority = {} }: RouteCopies): string[] {
  const list = (what: string, values: Readonly<Record<string, string>>): string[] =>
    Object.entries(values).map(([method, value]) => `${what} ${method}=${value}`);
  return [...list('hedge', hedge), ...list('majority', majority)];
}

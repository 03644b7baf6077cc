// `katamari route SERVICE --history` lists the changes of a route, with what each has made.

import type { Route } from '../../mesh/mod.ts';
import type { ChangeOfRoute } from '../kit/admin-client.ts';
import { copySummary } from './route-copies.ts';
import { formatTable, printable, type Column, type Terminal } from '../kit/terminal.ts';

export function formatHistory(terminal: Terminal, service: string, changes: readonly ChangeOfRoute[]): string[] {
  if (changes.length === 0) return [`The route of ${printable(service)} was never changed.`];
  const undo = `katamari route ${printable(service)} --undo`;
  return [
    ...formatTable(terminal, COLUMNS, changes),
    '',
    `${undo} takes the last change back, and ${undo} CHANGE that change and all since.`,
  ];
}

/** The weights of a route, and what else it has: `1.0.0=90 2.0.0=10, 2 rules`. */
function summaryOf(route: Route | undefined): string {
  if (route === undefined) return 'as configured';
  const { weights, rules = [], experiment, fallback, callersChoose = true, sticky, mirror } = route;
  const shares = Object.entries(weights).map(([version, weight]) => `${version}=${weight}`);
  const parts = [
    shares.length === 0 ? 'no weights' : shares.join(' '),
    ...(rules.length === 0 ? [] : [rules.length === 1 ? '1 rule' : `${rules.length} rules`]),
    ...(sticky === undefined ? [] : [`sticky ${sticky}`]),
    ...(experiment === undefined ? [] : [`experiment ${experiment}`]),
    ...(fallback === undefined ? [] : [`fallback ${fallback}`]),
    ...(callersChoose ? [] : ['callers do not choose']),
    ...(mirror === undefined ? [] : [`mirror ${mirror.to}`]),
    ...copySummary(route),
  ];
  return printable(parts.join(', '));
}

const COLUMNS: readonly Column<ChangeOfRoute>[] = [
  { head: 'CHANGE', isNumber: true, text: ({ index }) => String(index) },
  { head: 'AT', text: ({ atMs }) => (atMs === 0 ? '-' : new Date(atMs).toISOString()) },
  { head: 'BY', text: ({ by }) => (by === '' ? '-' : printable(by)) },
  { head: 'ROUTE', text: ({ route }) => summaryOf(route) },
];

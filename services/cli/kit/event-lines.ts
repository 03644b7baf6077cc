// Formats events as text: one line per event, followed by the last output of a chassis that ended with an error.

import type { EventKind, MeshEvent } from '../../../core/rpc/mod.ts';
import { paint, printable, type Color, type Terminal } from './terminal.ts';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Log level of an event. An event that carries output of a chassis is at least a warning. */
export function levelOf({ kind, lines }: MeshEvent): LogLevel {
  const level = KINDS[kind]?.level ?? 'info';
  return lines.length > 0 && (level === 'info' || level === 'debug') ? 'warn' : level;
}

/**
 * Returns one line, followed by at most `linesMax` lines of chassis output. If `processWidth` is above 0, the line
 * also names the process, padded to that width.
 */
export function formatEvent(terminal: Terminal, event: MeshEvent, linesMax: number, processWidth = 0): string[] {
  const { word, color } = KINDS[event.kind] ?? { word: printable(event.kind), color: 'dim' };
  const prefix = event.text.startsWith(event.subject) ? '' : `${event.subject}: `;
  const last = event.lines.slice(-linesMax);
  const omitted = event.lines.length - last.length;
  const processColumn =
    processWidth === 0 ? '' : `${paint(terminal, 'dim', printable(event.process).padEnd(processWidth))}  `;
  return [
    `${paint(terminal, 'dim', timeOfDay(event.atMs))}  ${processColumn}${paint(terminal, levelOf(event) === 'info' ? color : LEVEL_COLORS[levelOf(event)], word.padEnd(WORD_WIDTH))}  ${printable(prefix + event.text)}`,
    ...(omitted > 0 ? [quote(terminal, `(${omitted} lines omitted)`)] : []),
    ...last.map((line) => quote(terminal, readableLine(line))),
  ];
}

/**
 * Returns a line of chassis output without control characters. A JSON log line, such as the SDK writes, becomes its
 * level, message and error.
 */
export function readableLine(line: string): string {
  const logged = line.startsWith('{"level":') ? parseLog(line) : undefined;
  const text = printable(logged ?? line);
  return text.length > LINE_MAX ? `${text.slice(0, LINE_MAX)}...` : text;
}

function parseLog(line: string): string | undefined {
  try {
    const { level, msg, err, method } = JSON.parse(line) as Record<string, unknown>;
    if (typeof msg !== 'string') return undefined;
    const word = PINO_LEVELS[Number(level)];
    const where = typeof method === 'string' ? ` (${method})` : '';
    const why = (err as { message?: unknown } | undefined)?.message;
    return `${word === undefined ? '' : `${word}: `}${msg}${where}${typeof why === 'string' ? `: ${why}` : ''}`;
  } catch {
    return undefined;
  }
}

function quote(terminal: Terminal, line: string): string {
  return `${' '.repeat(10)}${paint(terminal, 'dim', `| ${line}`)}`;
}

function timeOfDay(atMs: number): string {
  const at = new Date(atMs);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map((part) => String(part).padStart(2, '0')).join(':');
}

const LEVEL_COLORS: Readonly<Record<LogLevel, Color>> = { debug: 'dim', info: 'cyan', warn: 'yellow', error: 'red' };

const KINDS: Readonly<Record<EventKind, { readonly level: LogLevel; readonly word: string; readonly color: Color }>> = {
  resource_starting: { level: 'debug', word: 'starting', color: 'dim' },
  resource_ready: { level: 'debug', word: 'ready', color: 'green' },
  resource_ended: { level: 'info', word: 'ended', color: 'yellow' },
  resource_backing_off: { level: 'error', word: 'backing off', color: 'red' },
  resource_failed: { level: 'error', word: 'failed', color: 'red' },
  resource_refused: { level: 'error', word: 'refused', color: 'red' },
  pool_ready: { level: 'info', word: 'pool ready', color: 'green' },
  pool_empty: { level: 'error', word: 'pool empty', color: 'red' },
  policy_changed: { level: 'warn', word: 'policy', color: 'yellow' },
  access_denied: { level: 'warn', word: 'denied', color: 'yellow' },
  rate_limited: { level: 'warn', word: 'limited', color: 'yellow' },
  pool_gone: { level: 'warn', word: 'pool gone', color: 'yellow' },
  call_refused: { level: 'error', word: 'poison', color: 'red' },
  copies_disagree: { level: 'error', word: 'disagree', color: 'red' },
  shard_failed: { level: 'error', word: 'shard', color: 'red' },
  shard_damaged: { level: 'error', word: 'damaged', color: 'red' },
  shard_restored: { level: 'info', word: 'restored', color: 'green' },
  index_incomplete: { level: 'error', word: 'index', color: 'red' },
  index_ready: { level: 'info', word: 'index', color: 'green' },
  rolling_started: { level: 'info', word: 'restarting', color: 'cyan' },
  rolling_done: { level: 'info', word: 'restarted', color: 'green' },
  settings_changed: { level: 'info', word: 'settings', color: 'cyan' },
  credentials_changed: { level: 'warn', word: 'credentials', color: 'yellow' },
  routes_changed: { level: 'info', word: 'routes', color: 'cyan' },
  rollout_changed: { level: 'info', word: 'rollout', color: 'cyan' },
  rollout_reverted: { level: 'error', word: 'reverted', color: 'red' },
  leader_changed: { level: 'info', word: 'leader', color: 'cyan' },
  manager_joined: { level: 'info', word: 'joined', color: 'green' },
  manager_left: { level: 'info', word: 'left', color: 'yellow' },
  link_lost: { level: 'error', word: 'link lost', color: 'red' },
  link_found: { level: 'info', word: 'linked', color: 'green' },
  assigned: { level: 'info', word: 'assigned', color: 'cyan' },
  order_refused: { level: 'error', word: 'refused', color: 'red' },
  deployment_changed: { level: 'info', word: 'deployment', color: 'cyan' },
  tokens_changed: { level: 'info', word: 'tokens', color: 'cyan' },
  drained: { level: 'info', word: 'drained', color: 'yellow' },
  consul_lost: { level: 'error', word: 'consul lost', color: 'red' },
  consul_found: { level: 'info', word: 'consul back', color: 'green' },
  audit_failed: { level: 'error', word: 'audit lost', color: 'red' },
  audit_restored: { level: 'info', word: 'audit back', color: 'green' },
  assignments_failed: { level: 'error', word: 'assignments', color: 'red' },
  defect: { level: 'error', word: 'defect', color: 'red' },
  mesh_ready: { level: 'info', word: 'mesh ready', color: 'green' },
  mesh_draining: { level: 'info', word: 'draining', color: 'yellow' },
};
const WORD_WIDTH = 11;
const LINE_MAX = 500;
const PINO_LEVELS: Readonly<Record<number, string>> = {
  10: 'trace',
  20: 'debug',
  30: 'info',
  40: 'warning',
  50: 'error',
  60: 'fatal',
};

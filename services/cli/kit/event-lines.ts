// Events for people: one short line each, the last words of a chassis that ended badly below it.

import type { EventKind, MeshEvent } from '../../../core/rpc/mod.ts';
import { paint, printable, type Color, type Terminal } from './terminal.ts';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** How loud an event is. One that carries last words of a chassis is never less than a warning. */
export function levelOf({ kind, lines }: MeshEvent): LogLevel {
  const level = KINDS[kind]?.level ?? 'info';
  return lines.length > 0 && (level === 'info' || level === 'debug') ? 'warn' : level;
}

/** One line, and up to `linesMax` lines of output below it; with the process it happened in when `processWidth` places are for that. */
export function formatEvent(terminal: Terminal, event: MeshEvent, linesMax: number, processWidth = 0): string[] {
  const { word, colour } = KINDS[event.kind] ?? { word: printable(event.kind), colour: 'dim' };
  const subject = event.text.startsWith(event.subject) ? '' : `${event.subject}: `;
  const last = event.lines.slice(-linesMax);
  const more = event.lines.length - last.length;
  const place = processWidth === 0 ? '' : `${paint(terminal, 'dim', printable(event.process).padEnd(processWidth))}  `;
  return [
    `${paint(terminal, 'dim', timeOfDay(event.atMs))}  ${place}${paint(terminal, levelOf(event) === 'info' ? colour : LEVEL_COLOURS[levelOf(event)], word.padEnd(WORD_WIDTH))}  ${printable(subject + event.text)}`,
    ...(more > 0 ? [quote(terminal, `(${more} lines more)`)] : []),
    ...last.map((line) => quote(terminal, readableLine(line))),
  ];
}

/** A line that a chassis printed, safe to show; of a JSON log line (the SDK writes such) what people want of it. */
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

const LEVEL_COLOURS: Readonly<Record<LogLevel, Color>> = { debug: 'dim', info: 'cyan', warn: 'yellow', error: 'red' };

const KINDS: Readonly<Record<EventKind, { readonly level: LogLevel; readonly word: string; readonly colour: Color }>> =
  {
    resource_starting: { level: 'debug', word: 'starting', colour: 'dim' },
    resource_ready: { level: 'debug', word: 'ready', colour: 'green' },
    resource_ended: { level: 'info', word: 'ended', colour: 'yellow' },
    resource_backing_off: { level: 'error', word: 'backing off', colour: 'red' },
    resource_refused: { level: 'error', word: 'refused', colour: 'red' },
    pool_ready: { level: 'info', word: 'pool ready', colour: 'green' },
    pool_empty: { level: 'error', word: 'pool empty', colour: 'red' },
    pool_gone: { level: 'warn', word: 'pool gone', colour: 'yellow' },
    rolling_started: { level: 'info', word: 'restarting', colour: 'cyan' },
    rolling_done: { level: 'info', word: 'restarted', colour: 'green' },
    settings_changed: { level: 'info', word: 'settings', colour: 'cyan' },
    routes_changed: { level: 'info', word: 'routes', colour: 'cyan' },
    leader_changed: { level: 'info', word: 'leader', colour: 'cyan' },
    manager_joined: { level: 'info', word: 'joined', colour: 'green' },
    manager_left: { level: 'info', word: 'left', colour: 'yellow' },
    link_lost: { level: 'error', word: 'link lost', colour: 'red' },
    link_found: { level: 'info', word: 'linked', colour: 'green' },
    assigned: { level: 'info', word: 'assigned', colour: 'cyan' },
    order_refused: { level: 'error', word: 'refused', colour: 'red' },
    deployment_changed: { level: 'info', word: 'deployment', colour: 'cyan' },
    drained: { level: 'info', word: 'drained', colour: 'yellow' },
    consul_lost: { level: 'error', word: 'consul lost', colour: 'red' },
    consul_found: { level: 'info', word: 'consul back', colour: 'green' },
    mesh_ready: { level: 'info', word: 'mesh ready', colour: 'green' },
    mesh_draining: { level: 'info', word: 'draining', colour: 'yellow' },
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

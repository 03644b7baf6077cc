// Log output of `katamari up`: short lines for people, or one JSON object per line (pino) for log collectors.
import type { MeshEvent } from '../../../core/rpc/mod.ts';
import type { Config } from '../../config/mod.ts';
import type { MeshHandle, CliContext } from '../kit/context.ts';
import { formatEvent, levelOf, LOG_LEVELS, readableLine, type LogLevel } from '../kit/event-lines.ts';
import { paint } from '../kit/terminal.ts';
import { pino } from 'pino';

export interface UpLog {
  /** Whether to print progress bars, tables and example commands. */
  readonly isForPeople: boolean;
  event(event: MeshEvent): void;
  /** A line of chassis output. */
  line(resource: string, line: string): void;
  info(text: string): void;
  warn(text: string): void;
  /** Called when the mesh is up. The pretty log runs `announce`. */
  up(mesh: MeshHandle, announce: () => Promise<void>): Promise<void>;
}

export function prettyLog({ terminal }: CliContext, level: LogLevel): UpLog {
  let isUp = false;
  const isLogged = (of: LogLevel): boolean => LOG_LEVELS.indexOf(of) >= LOG_LEVELS.indexOf(level);
  return {
    isForPeople: true,
    event(event) {
      // The progress bars show these events while the mesh starts.
      if (!isUp && event.lines.length === 0 && (event.kind === 'pool_ready' || event.kind === 'mesh_ready')) return;
      if (isLogged(levelOf(event))) terminal.write(`${formatEvent(terminal, event, OUTPUT_LINES_MAX).join('\n')}\n`);
    },
    line(resource, line) {
      if (isLogged('info')) terminal.write(`${paint(terminal, 'dim', `${resource} |`)} ${readableLine(line)}\n`);
    },
    info(text) {
      if (isLogged('info')) terminal.write(`${text}\n`);
    },
    warn(text) {
      if (isLogged('warn')) terminal.writeError(`${paint(terminal, 'yellow', 'Warning:')} ${text}\n`);
    },
    async up(_, announce) {
      await announce();
      isUp = true;
    },
  };
}

export function jsonLog({ terminal }: CliContext, config: Config, level: LogLevel): UpLog {
  const logger = pino(
    { level, base: { mesh: config.mesh, name: config.name }, timestamp: pino.stdTimeFunctions.isoTime },
    { write: (line: string) => terminal.write(line) },
  );
  return {
    isForPeople: false,
    event(event) {
      const { kind, subject, text, lines, seq } = event;
      logger[levelOf(event)]({ seq, kind, subject, ...(lines.length > 0 ? { lines } : {}) }, text);
    },
    line: (resource, line) => logger.info({ resource }, line),
    info: (text) => logger.info(text),
    warn: (text) => logger.warn(text),
    up(mesh) {
      logger.info({ addresses: mesh.addresses, isReady: mesh.status().isReady }, `Mesh ${config.mesh} is up`);
      return Promise.resolve();
    },
  };
}

const OUTPUT_LINES_MAX = 12;

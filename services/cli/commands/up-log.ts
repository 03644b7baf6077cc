// What `up` says while it runs: short lines for people, or one JSON object a line (pino) for whoever collects logs.
import type { MeshEvent } from '../../../core/rpc/mod.ts';
import type { Config } from '../../config/mod.ts';
import type { MeshHandle, CliContext } from '../kit/context.ts';
import { formatEvent, levelOf, LOG_LEVELS, readableLine, type LogLevel } from '../kit/event-lines.ts';
import { paint } from '../kit/terminal.ts';
import { pino } from 'pino';

export interface UpLog {
  /** Bars, tables and lines to try are wanted. */
  readonly isForPeople: boolean;
  event(event: MeshEvent): void;
  /** What a chassis printed. */
  line(resource: string, line: string): void;
  info(text: string): void;
  warn(text: string): void;
  /** The mesh is up; `announce` tells people. */
  up(mesh: MeshHandle, announce: () => Promise<void>): Promise<void>;
}

export function prettyLog({ terminal }: CliContext, level: LogLevel): UpLog {
  let isUp = false;
  const isLoudEnough = (of: LogLevel): boolean => LOG_LEVELS.indexOf(of) >= LOG_LEVELS.indexOf(level);
  return {
    isForPeople: true,
    event(event) {
      // While the mesh comes up, the bars tell this better.
      if (!isUp && event.lines.length === 0 && (event.kind === 'pool_ready' || event.kind === 'mesh_ready')) return;
      if (isLoudEnough(levelOf(event)))
        terminal.write(`${formatEvent(terminal, event, OUTPUT_LINES_MAX).join('\n')}\n`);
    },
    line(resource, line) {
      if (isLoudEnough('info')) terminal.write(`${paint(terminal, 'dim', `${resource} |`)} ${readableLine(line)}\n`);
    },
    info(text) {
      if (isLoudEnough('info')) terminal.write(`${text}\n`);
    },
    warn(text) {
      if (isLoudEnough('warn')) terminal.writeError(`${paint(terminal, 'yellow', 'Warning:')} ${text}\n`);
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

// A raw socket client: writes the given bytes, and returns what came back and how the connection ended.

import { connect } from 'node:net';
import { httpTakesSockets } from '../../../core/mod.ts';
import type { Socket } from 'node:net';

export interface RawClient {
  readonly socket: Socket;
  /** Everything received so far, as latin1. */
  received(): string;
  write(bytes: string | Uint8Array): void;
  /** Resolves with everything received once the server has closed; rejects after `withinMs`. */
  closed(withinMs?: number): Promise<string>;
  /** Resolves once the received text matches. Rejects when the connection ends first or after `withinMs`. */
  seen(pattern: RegExp, withinMs?: number): Promise<string>;
  destroy(): void;
  /**
   * Closes the connection so that the server notices it at once. Where `node:http` cannot tell a client that has closed
   * from one that only has closed its writing side, with a reset.
   */
  disconnect(): void;
}

export function rawClient(port: number, first: string | Uint8Array = ''): Promise<RawClient> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    let text = '';
    let isClosed = false;
    const watchers = new Set<() => void>();
    const wake = (): void => {
      for (const watcher of watchers) watcher();
    };
    const when = (what: string, isDone: () => boolean | Error, withinMs: number): Promise<string> =>
      new Promise((done, fail) => {
        const look = (): void => {
          const seen = isDone();
          if (seen === false) return;
          watchers.delete(look);
          clearTimeout(timer);
          if (seen === true) done(text);
          else fail(seen);
        };
        const timer = setTimeout(() => {
          watchers.delete(look);
          fail(new Error(`Waited ${withinMs} ms for ${what}; came: ${JSON.stringify(text.slice(0, 500))}`));
        }, withinMs);
        watchers.add(look);
        look();
      });
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      wake();
    });
    socket.on('error', (error) => {
      reject(error); // of no effect once connected
    });
    socket.on('close', () => {
      isClosed = true;
      wake();
    });
    socket.on('connect', () => {
      if (first.length > 0) socket.write(first);
      resolve({
        socket,
        received: () => text,
        write: (bytes) => void socket.write(bytes),
        closed: (withinMs = 10_000) => when('the connection to close', () => isClosed, withinMs),
        seen: (pattern, withinMs = 10_000) =>
          when(
            String(pattern),
            () => pattern.test(text) || (isClosed && new Error(`Closed before ${String(pattern)}; came: ${text}`)),
            withinMs,
          ),
        destroy: () => void socket.destroy(),
        disconnect: () => disconnect(socket),
      });
    });
  });
}

/**
 * Closes the connection so that the server notices it at once. Where `node:http` cannot tell a client that has closed
 * from one that only has closed its writing side, with a reset.
 */
export function disconnect(socket: Socket): void {
  if (httpTakesSockets()) socket.destroy();
  else socket.resetAndDestroy();
}

// A lane to one port of the target: many connections at once, several inputs on each.

import type { Socket } from 'node:net';
import { connect } from 'node:net';
import type { Random } from '../kit/tools/random.ts';
import type { Input, Lane } from './target.ts';

/** Concurrent connections in each lane. */
const WIDTH = 24;
/** Timeout for a reply that may never come, in ms. */
const PATIENCE_MS = 25;
/** Timeout for the close of a connection whose client has sent its end, in ms. */
const END_MS = 1_000;
/** Inputs on one connection while it stays open. */
const REUSE_MAX = 40;
/** Attempts to connect, and the pause between them in ms. */
const TRIES_MAX = 20;
const TRY_EVERY_MS = 100;

export interface PortLaneOptions {
  readonly name: string;
  /** Returns a connected socket. */
  readonly open: () => Promise<Socket>;
  readonly make: (random: Random) => Input;
  readonly width?: number;
}

export function portLane({ name, open, make, width = WIDTH }: PortLaneOptions): Lane {
  return {
    name,
    width,
    async work(turns) {
      for (let turn = turns.next(); turn !== undefined;) {
        const socket = await opened(name, open);
        turns.opened();
        socket.on('data', (chunk: Buffer) => turns.heard(chunk.length));
        // A socket that has done a handshake is paused.
        socket.resume();
        try {
          for (let uses = 0; turn !== undefined && uses < REUSE_MAX; uses++) {
            const input = make(turn.random);
            turns.sends(turn, input.what);
            const isReusable = await fire(socket, input);
            turn = turns.next();
            if (!isReusable) break;
          }
        } finally {
          // A reset leaves no port in TIME_WAIT. On Node 20, however, a reset of a socket that has sent its end leaks
          // the handle. A Unix socket cannot be reset.
          if (socket.writableEnded || socket.remotePort === undefined) socket.destroy();
          else socket.resetAndDestroy();
        }
      }
    },
  };
}

/** Connects to a TCP port of this machine, or to a Unix socket. */
export function connected(
  where: { readonly port: number; readonly host: string } | { readonly path: string },
): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(where);
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      socket.on('error', () => {});
      resolve(socket);
    });
  });
}

async function opened(name: string, open: () => Promise<Socket>): Promise<Socket> {
  for (let tries = 1; ; tries++) {
    try {
      const socket = await open();
      socket.on('error', () => {});
      socket.setNoDelay(true);
      return socket;
    } catch (error) {
      // The target is gone, or this side is briefly out of ports.
      if (tries === TRIES_MAX)
        throw new Error(`Cannot connect to ${name}: ${(error as Error).message}`, { cause: error });
      await new Promise((resolve) => setTimeout(resolve, TRY_EVERY_MS));
    }
  }
}

/** Sends one input. @returns whether the connection can be used again */
async function fire(socket: Socket, { bytes, pieceBytes, ending }: Input): Promise<boolean> {
  for (let at = 0; at < bytes.length && !socket.destroyed;) {
    const end = pieceBytes === 0 ? bytes.length : Math.min(bytes.length, at + pieceBytes);
    socket.write(bytes.subarray(at, end));
    at = end;
    // One turn of the event loop per piece.
    if (at < bytes.length) await new Promise((resolve) => setImmediate(resolve));
  }
  if (socket.destroyed) return false;
  if (ending === 'break off') {
    await new Promise((resolve) => setImmediate(resolve));
    return false;
  }
  if (ending === 'wait for an answer') {
    await event(socket, ['data', 'end', 'close'], PATIENCE_MS);
    return !socket.destroyed && !socket.readableEnded;
  }
  socket.end();
  await event(socket, ['end', 'close'], END_MS);
  return false;
}

/** Resolves at the first of the events or after some time. */
function event(socket: Socket, names: readonly string[], withinMs: number): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      for (const name of names) socket.off(name, done);
      resolve();
    };
    const timer = setTimeout(done, withinMs);
    for (const name of names) socket.on(name, done);
  });
}

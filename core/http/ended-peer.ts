// Detects whether a half-closed client is gone or still reads.

import type { Socket } from 'node:net';

/**
 * Finds out whether a client that has ended its side has gone or still reads. Exactly one response is due, and nothing
 * of it is written. Only a write can tell: the system of a client that has gone answers it with a reset. So the first
 * byte, which all responses share, is sent ahead, and empty writes report the reset. Works only where `node:http`
 * writes through the socket.
 */
export function watchEndedPeer(socket: Socket): void {
  type Write = (data: string | Uint8Array, ...rest: unknown[]) => boolean;
  const write = socket.write.bind(socket) as Write;
  const stop = (): void => {
    clearInterval(timer);
    Reflect.deleteProperty(socket, 'write');
  };
  write(RESPONSE_START);
  const timer = setInterval(() => {
    if (socket.writable) write('');
    else stop();
  }, PROBE_MS);
  timer.unref();
  const writeRest: Write = (data, ...rest) => {
    stop();
    return write(data.slice(RESPONSE_START.length), ...rest);
  };
  socket.write = writeRest as typeof socket.write;
}

const RESPONSE_START = 'H';
/** Interval in which a client that has ended its side is probed, in ms. */
const PROBE_MS = 100;

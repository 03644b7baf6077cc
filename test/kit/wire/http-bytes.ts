// Sends raw bytes to an HTTP server in pieces and returns everything it sends until it closes. For comparing two
// servers that must behave the same.

import { connect } from 'node:net';

/** All bytes received until the server closed, as latin1, without parts that depend on the time. */
export function exchangeBytes(port: number, pieces: readonly Uint8Array[], withinMs = 20_000): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    let text = '';
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new Error(`Still open after ${withinMs} ms; came: ${JSON.stringify(text.slice(0, 500))}`));
    }, withinMs);
    socket.setNoDelay(true);
    socket.on('data', (chunk) => (text += chunk.toString('latin1')));
    // A write to a server that has closed is no failure.
    socket.on('error', () => {});
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(timeless(text));
    });
    socket.on('connect', () => void writeAll(pieces, (piece) => !socket.destroyed && socket.write(piece)));
  });
}

/** Writes one piece per turn of the event loop, so that the server reads them one by one. */
async function writeAll(pieces: readonly Uint8Array[], write: (piece: Uint8Array) => void): Promise<void> {
  for (const piece of pieces) {
    write(piece);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

function timeless(text: string): string {
  return text
    .replace(/^Date: [^\r]*/gim, 'Date: now')
    .replace(/^server-timing: [^\r]*/gim, 'server-timing: some')
    .replace(/"timeLeftMs":"\d+"/g, '"timeLeftMs":"some"');
}

/** The bytes, split at these offsets. */
export function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const at = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  const pieces = [0, ...at].map((from, index) => bytes.subarray(from, at[index] ?? bytes.length));
  return pieces.filter((piece) => piece.length > 0);
}

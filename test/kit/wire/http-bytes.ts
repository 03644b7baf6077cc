// What a server answers to bytes as they are, in pieces, until it closes: for comparing two servers that must not
// differ.

import { connect } from 'node:net';

/** All that came back until the other side closed, as latin1, without what differs from one moment to the next. */
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
    // A server that has closed may be written to: that is no failure of the exchange.
    socket.on('error', () => {});
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(timeless(text));
    });
    socket.on('connect', () => void writeAll(pieces, (piece) => !socket.destroyed && socket.write(piece)));
  });
}

/** One piece after the other, each in a turn of its own, so that they are read one by one. */
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

/** The bytes cut at these places. */
export function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const at = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  const pieces = [0, ...at].map((from, index) => bytes.subarray(from, at[index] ?? bytes.length));
  return pieces.filter((piece) => piece.length > 0);
}

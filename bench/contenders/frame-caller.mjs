// Sends prepared Thrift messages, each caller over a connection of its own with one call in flight, and decodes
// nothing: the load must not cost more than what it measures. A reply is right if it is a result with a value.
// `frame-caller.mjs HOST PORT FILE CALLERS SECONDS WARM-UP`

import { connect } from 'node:net';
import { readFileSync } from 'node:fs';
import { measure } from './closed-loop.mjs';

const [host = '', port = '', file = '', callers = '', seconds = '', warmUp = ''] = process.argv.slice(2);
const frames = [];
const bytes = readFileSync(file);
for (let at = 0; at < bytes.length;) {
  const end = at + 4 + bytes.readInt32BE(at);
  frames.push(bytes.subarray(at, end));
  at = end;
}

/** One connection. `call` resolves with true for a right reply. */
class Connection {
  #socket = connect({ host, port: Number(port), noDelay: true });
  #parts = [];
  #resolve = () => {};

  constructor() {
    this.#socket.on('data', (part) => this.#onData(part));
    this.#socket.on('error', (error) => {
      throw error;
    });
    this.#socket.on('close', () => this.#resolve(false));
  }

  call(frame) {
    return new Promise((resolve) => {
      this.#resolve = resolve;
      this.#socket.write(frame);
    });
  }

  end() {
    this.#socket.destroy();
  }

  #onData(part) {
    this.#parts.push(part);
    const first = this.#parts.length === 1 ? part : Buffer.concat(this.#parts);
    this.#parts = [first];
    if (first.length < 4 || first.length < 4 + first.readInt32BE(0)) return;
    this.#parts = [];
    const nameBytes = first.readInt32BE(8);
    const body = 16 + nameBytes;
    this.#resolve(first[7] === 2 && first[body] !== 0 && first[body + 1] === 0 && first[body + 2] === 0);
  }
}

const free = Array.from({ length: Number(callers) }, () => new Connection());
const all = [...free];
let next = 0;
await measure(
  async () => {
    const connection = free.pop();
    const isRight = await connection.call(frames[next++ % frames.length]);
    free.push(connection);
    return isRight;
  },
  true,
  Number(callers),
  Number(seconds),
  Number(warmUp),
);
for (const connection of all) connection.end();

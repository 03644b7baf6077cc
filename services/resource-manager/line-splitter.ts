// Splits the output of a chassis into lines of text. Lines are cut at LINE_CHARS_MAX, so output without line breaks
// uses bounded memory.

import { StringDecoder } from 'node:string_decoder';

export class LineSplitter {
  readonly #onLine: (line: string) => void;
  readonly #decoder = new StringDecoder('utf8');
  #rest = '';

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  push(chunk: Buffer): void {
    const lines = (this.#rest + this.#decoder.write(chunk)).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#onLine(cut(line));
    if (this.#rest.length > LINE_CHARS_MAX) {
      this.#onLine(cut(this.#rest));
      this.#rest = '';
    }
  }

  /** Emits the unfinished last line at the end of the stream. */
  end(): void {
    const last = this.#rest + this.#decoder.end();
    this.#rest = '';
    if (last !== '') this.#onLine(cut(last));
  }
}

function cut(line: string): string {
  const bare = line.endsWith('\r') ? line.slice(0, -1) : line;
  return bare.length > LINE_CHARS_MAX ? `${bare.slice(0, LINE_CHARS_MAX)}…` : bare;
}

const LINE_CHARS_MAX = 4096;

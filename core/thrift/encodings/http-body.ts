// The body of one HTTP request: so many bytes, or chunks. Goes on where it stopped when more bytes come. A body that
// could be read in two ways is refused; a declared length is compared with the limit before anything is kept.

import { KatamariError } from '../../mod.ts';
import type { HeadersIn } from '../mod.ts';

/** A whole body, and the offset behind it. */
export interface WholeBody {
  readonly bytes: Buffer;
  readonly end: number;
}

export class HttpBody {
  /** -1: in chunks. */
  readonly #length: number;
  readonly #bytesMax: number;
  readonly #chunks: Buffer[] = [];
  #chunkBytes = 0;
  /** Of the chunks read so far, with their sizes. */
  #position = 0;
  #isTrailer = false;

  private constructor(length: number, bytesMax: number) {
    this.#length = length;
    this.#bytesMax = bytesMax;
  }

  /** @throws KatamariError bad_request or too_large */
  static of(headers: HeadersIn, bytesMax: number): HttpBody {
    const coding = headers['transfer-encoding'];
    const length = headers['content-length'];
    if (coding !== undefined) {
      if (length !== undefined || String(coding).toLowerCase() !== 'chunked') {
        throw new KatamariError(
          'bad_request',
          `Transfer-Encoding "${String(coding).slice(0, 40)}"${length === undefined ? '' : ' beside a Content-Length'}; expected chunked alone, or a Content-Length`,
        );
      }
      return new HttpBody(-1, bytesMax);
    }
    if (length === undefined || !/^\d{1,15}$/.test(String(length))) {
      throw new KatamariError(
        'bad_request',
        `Content-Length is ${length === undefined ? 'missing' : `"${String(length).slice(0, 40)}"`}; a POST says how long its body is`,
      );
    }
    if (Number(length) > bytesMax) throw tooLarge(Number(length), bytesMax);
    return new HttpBody(Number(length), bytesMax);
  }

  /**
   * `start` is where the body begins, the same in every call. undefined while it is not whole.
   * @throws KatamariError
   */
  read(bytes: Buffer, start: number, end: number): WholeBody | undefined {
    if (this.#length === -1) return this.#readChunks(bytes, start, end);
    const bodyEnd = start + this.#length;
    return bodyEnd > end ? undefined : { bytes: bytes.subarray(start, bodyEnd), end: bodyEnd };
  }

  #readChunks(bytes: Buffer, start: number, end: number): WholeBody | undefined {
    for (;;) {
      const at = start + this.#position;
      const lineEnd = bytes.subarray(at, Math.min(end, at + LINE_BYTES_MAX)).indexOf('\r\n');
      if (lineEnd === -1) {
        if (end - at >= LINE_BYTES_MAX) throw badChunk();
        return undefined;
      }
      const line = bytes.toString('latin1', at, at + lineEnd);
      const dataStart = at + lineEnd + 2;
      if (this.#isTrailer) {
        // Trailers say nothing that is wanted here; the empty line behind them is the end.
        this.#position = dataStart - start;
        if (line === '') return { bytes: Buffer.concat(this.#chunks), end: dataStart };
        if (this.#position > this.#bytesMax + TRAILERS_BYTES_MAX) throw badChunk();
        continue;
      }
      const [, digits = ''] = /^([\da-fA-F]{1,8})[ \t]*(?:;.*)?$/.exec(line) ?? [];
      if (digits === '') throw badChunk();
      const size = Number.parseInt(digits, 16);
      if (this.#chunkBytes + size > this.#bytesMax) throw tooLarge(this.#chunkBytes + size, this.#bytesMax);
      if (size === 0) {
        this.#isTrailer = true;
        this.#position = dataStart - start;
        continue;
      }
      const dataEnd = dataStart + size;
      if (dataEnd + 2 > end) return undefined;
      if (bytes[dataEnd] !== 0x0d || bytes[dataEnd + 1] !== 0x0a) throw badChunk();
      // A copy: the buffer may be another one when more has come.
      this.#chunks.push(Buffer.from(bytes.subarray(dataStart, dataEnd)));
      this.#chunkBytes += size;
      this.#position = dataEnd + 2 - start;
      if (this.#chunks.length > CHUNKS_MAX) throw badChunk();
    }
  }
}

function badChunk(): KatamariError {
  return new KatamariError('bad_request', 'The body of the request is not in chunks as HTTP/1.1 has them');
}

function tooLarge(bytes: number, limit: number): KatamariError {
  return new KatamariError(
    'too_large',
    `The body of the request is ${bytes} bytes long or longer, limit is ${limit}; send it in smaller pieces`,
  );
}

/** A chunk's size with its extensions, or one trailer. */
const LINE_BYTES_MAX = 4_096;
const TRAILERS_BYTES_MAX = 65_536;
/** Chunks of one body: very many small ones cost more than they carry. */
const CHUNKS_MAX = 65_536;

// Reads the body of one HTTP request, with a length or in chunks. It resumes when more bytes arrive. A body whose
// length is ambiguous is refused (request smuggling); a declared length is checked against the limit before anything
// is stored.

import { KatamariError } from '../../mod.ts';
import type { HeadersIn } from '../mod.ts';

/** A complete body, and the offset after it. */
export interface WholeBody {
  readonly bytes: Buffer;
  readonly end: number;
}

export class HttpBody {
  /** Length of the body; -1 for a chunked body. */
  readonly #length: number;
  readonly #bytesMax: number;
  readonly #chunks: Buffer[] = [];
  #chunkBytes = 0;
  /** Bytes of the chunks read so far, including their size lines. */
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
        `Content-Length is ${length === undefined ? 'missing' : `"${String(length).slice(0, 40)}"`}; a POST must declare the length of its body`,
      );
    }
    if (Number(length) > bytesMax) throw tooLarge(Number(length), bytesMax);
    return new HttpBody(Number(length), bytesMax);
  }

  /**
   * Reads the body, which begins at `start` in every call. Returns undefined while it is incomplete.
   * @throws KatamariError bad_request or too_large
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
        // Trailers are ignored. The empty line after them ends the body.
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
      // A copy, because the next call may pass another buffer.
      this.#chunks.push(Buffer.from(bytes.subarray(dataStart, dataEnd)));
      this.#chunkBytes += size;
      this.#position = dataEnd + 2 - start;
      if (this.#chunks.length > CHUNKS_MAX) throw badChunk();
    }
  }
}

function badChunk(): KatamariError {
  return new KatamariError('bad_request', 'The body of the request is not in the chunked encoding of HTTP/1.1');
}

function tooLarge(bytes: number, limit: number): KatamariError {
  return new KatamariError(
    'too_large',
    `The body of the request is ${bytes} bytes long or longer, limit is ${limit}; send it in smaller pieces`,
  );
}

/** Bytes of a chunk's size line with extensions, or of one trailer. */
const LINE_BYTES_MAX = 4_096;
const TRAILERS_BYTES_MAX = 65_536;
/** Maximum chunks of one body, because many small chunks cost more than their content. */
const CHUNKS_MAX = 65_536;

// Replies to requests that the app does not see: which they are, their bytes, and how a connection ends after one.

import { ERROR_TABLE, type ErrorCode, type FaceplateLimits, type KatamariError } from '../mod.ts';
import { STATUS_CODES } from 'node:http';
import type { Duplex, Readable } from 'node:stream';

/** Why a request was refused before the app saw it. */
export interface HttpRefusal {
  readonly status: number;
  readonly code: ErrorCode;
  /** Message for people: which limit, and what to do. */
  readonly message: string;
}

/** The refusal of a request that `node:http` could not read, or that was not complete in time. */
export function refusalOf(
  error: NodeJS.ErrnoException,
  limits: Pick<FaceplateLimits, 'headersMax' | 'requestMs'>,
): HttpRefusal {
  if (error.code === 'HPE_HEADER_OVERFLOW') {
    return {
      status: 431,
      code: 'too_large',
      message: `Headers are too large or too many: limits are ${HEADER_BYTES_MAX} bytes and ${limits.headersMax} headers`,
    };
  }
  if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return {
      status: 408,
      code: 'bad_request',
      message: `Request was not complete within ${limits.requestMs} ms`,
    };
  }
  return { status: 400, code: 'bad_request', message: `Not a readable HTTP/1.1 request: ${error.message}` };
}

export function refusalFor({ code, message, facts }: KatamariError): HttpRefusal {
  return { status: facts.httpStatus ?? ERROR_TABLE[code].http, code, message };
}

/** The whole response to a request on a socket that `node:http` does not have. */
export function refusalText({ status }: HttpRefusal, body: string): string {
  const head = Object.entries(REFUSAL_HEADERS)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('');
  return (
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${head}connection: close\r\n` +
    `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
  );
}

/**
 * Reads and discards what still arrives after the last reply, up to SWALLOW_BYTES_MAX and SWALLOW_MS. Closing at once
 * with unread bytes would send a TCP reset, which discards the reply.
 * @param source what arrives on the socket, or the rest of a request on it
 */
export function discardRest(source: Readable, socket: Duplex): void {
  let swallowed = 0;
  source.on('data', (chunk: Buffer) => {
    swallowed += chunk.length;
    if (swallowed > SWALLOW_BYTES_MAX) socket.destroy();
  });
  const timer = setTimeout(() => socket.destroy(), SWALLOW_MS);
  timer.unref();
  socket.once('close', () => clearTimeout(timer));
}

export const REFUSAL_HEADERS: Readonly<Record<string, string>> = {
  'content-type': 'application/json; charset=utf-8',
  'cache-control': 'no-store',
};
/** Bytes of the head of a request. */
export const HEADER_BYTES_MAX = 16_384;
const SWALLOW_BYTES_MAX = 1_048_576;
const SWALLOW_MS = 500;

// HTTP requests to sources: with time limits, without automatic redirects and decompression, and with errors that show
// no credentials. Only the address of a server and the path are shown, never a query.

import { shownSource } from '../../allowed-sources.ts';
import { SourceError } from '../shard-source.ts';

export interface SourceRequest {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Time limit until the headers of the answer. */
  readonly timeoutMs?: number;
  /** Time over which the body must come at SLOW_BYTES_PER_S at least. Only time that is waited for it counts. */
  readonly slowMs?: number;
}

/** An answer whose body has not been read. Every answer is read or closed. */
export interface SourceAnswer {
  readonly url: string;
  readonly status: number;
  readonly headers: Headers;
  /** Reads the body in chunks; leaving the loop closes the connection. */
  readonly chunks: () => AsyncIterable<Uint8Array>;
  /** Reads the whole body as text. @throws SourceError when it is longer than `bytesMax` */
  readonly text: (bytesMax?: number) => Promise<string>;
  readonly close: () => void;
}

/** @throws SourceError when the server cannot be reached or does not answer in time */
export async function request(url: string, options: SourceRequest = {}): Promise<SourceAnswer> {
  const { method = 'GET', headers = {}, body, timeoutMs = HEADERS_TIMEOUT_MS, slowMs = SLOW_MS } = options;
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), timeoutMs);
  try {
    const response = await fetch(url, {
      method,
      headers: { ...headers, 'accept-encoding': 'identity' },
      redirect: 'manual',
      signal: stop.signal,
      ...(body === undefined ? {} : { body }),
    });
    return answerOf(url, response, stop, slowMs);
  } catch (error) {
    const why = stop.signal.aborted
      ? `did not answer within ${timeoutMs / 1_000} s`
      : `cannot be reached: ${codeOf(error)}`;
    throw new SourceError(`${shownSource(url)} ${why}`, { canPass: true });
  } finally {
    clearTimeout(timer);
  }
}

/** Describes an answer without the expected status. Closes it. */
export function refusalOf(answer: SourceAnswer, expected: string): SourceError {
  answer.close();
  const { status } = answer;
  const canPass = status === 408 || status === 429 || status >= 500;
  const words: Readonly<Record<number, string>> = {
    401: 'asks for credentials, which this manager does not have',
    403: 'refuses access',
    404: 'does not exist',
    410: 'does not exist any more',
  };
  const why = words[status] ?? (status >= 300 && status < 400 ? 'redirects' : 'answered with an error');
  return new SourceError(`${shownSource(answer.url)} ${why} (status ${status}, expected ${expected})`, { canPass });
}

function answerOf(url: string, response: Response, stop: AbortController, slowMs: number): SourceAnswer {
  const { status, headers, body } = response;
  const encoding = headers.get('content-encoding') ?? 'identity';
  const close = (): void => stop.abort();
  const chunks = async function* (): AsyncGenerator<Uint8Array> {
    if (encoding !== 'identity')
      throw new SourceError(`${shownSource(url)} is sent compressed (${encoding}); turn that off on its server`);
    const reader = body?.getReader();
    let isLate = false;
    let [waitedMs, bytes] = [0, 0];
    try {
      while (reader !== undefined) {
        const askedMs = performance.now();
        const timer = setTimeout(() => {
          isLate = true;
          stop.abort();
        }, CHUNK_TIMEOUT_MS);
        const { done, value } = await reader.read().finally(() => clearTimeout(timer));
        if (done) return;
        waitedMs += performance.now() - askedMs;
        bytes += value.length;
        // A fetch that takes for ever would keep others from their turn.
        if (waitedMs >= slowMs) {
          if (bytes < (waitedMs / 1_000) * SLOW_BYTES_PER_S)
            throw new SourceError(
              `${shownSource(url)} has sent ${bytes} bytes in ${Math.round(waitedMs / 1_000)} s, expected ` +
                `${SLOW_BYTES_PER_S} bytes a second at least; see what makes its server or the network slow`,
            );
          [waitedMs, bytes] = [0, 0];
        }
        yield value;
      }
    } catch (error) {
      if (error instanceof SourceError) throw error;
      const why = isLate ? `has sent nothing for ${CHUNK_TIMEOUT_MS / 1_000} s` : `broke off: ${codeOf(error)}`;
      throw new SourceError(`${shownSource(url)} ${why}`, { canPass: true });
    } finally {
      close();
    }
  };
  const text = async (bytesMax = TEXT_BYTES_MAX): Promise<string> => {
    const parts: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of chunks()) {
      bytes += chunk.length;
      if (bytes > bytesMax) throw new SourceError(`${shownSource(url)} is longer than ${bytesMax} bytes`);
      parts.push(chunk);
    }
    return Buffer.concat(parts).toString('utf8');
  };
  return { url, status, headers, chunks, text, close };
}

/** `ECONNREFUSED` and the like. The message may quote the URL, so only the code is shown. */
function codeOf(error: unknown): string {
  for (let at = error; at instanceof Error; at = at.cause) {
    const { code } = at as NodeJS.ErrnoException;
    if (typeof code === 'string' && /^[A-Za-z0-9_]+$/.test(code)) return code;
  }
  return 'the connection failed';
}

/** Throws unless the body that follows has as many bytes as the rest of the file. */
export function checkLength(answer: SourceAnswer, bytes: number): void {
  const length = answer.headers.get('content-length');
  if (length === null || Number(length) === bytes) return;
  answer.close();
  throw new SourceError(`${shownSource(answer.url)} sends ${length} bytes, and ${bytes} were listed`);
}

const HEADERS_TIMEOUT_MS = 30_000;
const CHUNK_TIMEOUT_MS = 30_000;
const SLOW_MS = 60_000;
const SLOW_BYTES_PER_S = 1_024;
const TEXT_BYTES_MAX = 16 * 1024 * 1024;

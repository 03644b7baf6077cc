// Encodes call options as the THeader block that precedes a message. A block is built once per set of options and
// time limit, so that a call only copies it.

import { KatamariError } from '../core/mod.ts';
import { headerBlock } from '../core/thrift/encodings/mod.ts';
import type { CallOptions } from './options.ts';

type RequestedOptions = Omit<CallOptions, 'signal' | 'timeoutMs'>;

export class RequestHeaders {
  readonly #headers: Readonly<Record<string, string>>;
  readonly #token: () => string;
  #block: Buffer | undefined;
  #blockMs = 0;
  #blockToken = '';

  /**
   * @param token returns the bearer token; '' for none
   * @throws KatamariError bad_request when an option cannot be encoded in a header
   */
  constructor(options: RequestedOptions, token: () => string) {
    this.#token = token;
    const { version = '', key = '', traceparent = '', tracestate = '' } = options;
    const values = {
      'katamari-version': version,
      'katamari-key': key,
      'katamari-tags': listOf('tags', options.tags),
      'katamari-roles': listOf('roles', options.roles),
      'katamari-min-coverage': shareOf(options.minCoverage),
      traceparent,
      tracestate,
    };
    this.#headers = {
      'katamari-any-order': '1',
      ...Object.fromEntries(Object.entries(values).filter(([, value]) => value !== '')),
    };
    const bytes = Object.values(this.#headers).reduce((sum, value) => sum + Buffer.byteLength(value), 0);
    if (bytes > HEADER_BYTES_MAX) {
      throw new KatamariError(
        'bad_request',
        `version, key, tags, roles and trace context have ${bytes} bytes together, the limit is ${HEADER_BYTES_MAX}`,
      );
    }
  }

  /** Returns the encoded headers. @param timeLeftMs timeout of the call, in whole milliseconds */
  blockFor(timeLeftMs: number): Buffer {
    const token = this.#token();
    if (this.#block === undefined || this.#blockMs !== timeLeftMs || this.#blockToken !== token) {
      const headers = { ...this.#headers, 'katamari-timeout-ms': String(timeLeftMs) };
      const all = token === '' ? headers : { ...headers, authorization: `Bearer ${token}` };
      this.#block = headerBlock(BINARY, false, all);
      this.#blockMs = timeLeftMs;
      this.#blockToken = token;
    }
    return this.#block;
  }
}

function listOf(name: string, items: readonly string[] = []): string {
  const wrong = items.find((item) => item.includes(',') || item.trim() === '');
  if (wrong === undefined) return items.join(',');
  throw new KatamariError('bad_request', `${name}: expected words without commas, got ${JSON.stringify(wrong)}`);
}

function shareOf(share: number | undefined): string {
  if (share === undefined) return '';
  if (share >= 0 && share <= 1) return String(share);
  throw new KatamariError('bad_request', `minCoverage: expected a share from 0 to 1, got ${String(share)}`);
}

/** Number of the binary protocol in THeader. */
const BINARY = 0;
const HEADER_BYTES_MAX = 16_384;

// What a set of options asks of the mesh, as the header bytes that stand in front of every call with them. Built once
// for a set of options and a time limit, so that a call costs a copy of them.

import { KatamariError } from '../core/mod.ts';
import { headerBlock } from '../core/thrift/encodings/mod.ts';
import type { CallOptions } from './options.ts';

type RequestedOptions = Omit<CallOptions, 'signal' | 'timeoutMs'>;

export class RequestHeaders {
  readonly #headers: Readonly<Record<string, string>>;
  #block: Buffer | undefined;
  #blockMs = 0;

  /** @throws KatamariError bad_request when an option cannot be said in a header */
  constructor(asked: RequestedOptions) {
    const { version = '', key = '', traceparent = '', tracestate = '' } = asked;
    const said = {
      'katamari-version': version,
      'katamari-key': key,
      'katamari-tags': listOf('tags', asked.tags),
      'katamari-roles': listOf('roles', asked.roles),
      traceparent,
      tracestate,
    };
    this.#headers = {
      'katamari-any-order': '1',
      ...Object.fromEntries(Object.entries(said).filter(([, value]) => value !== '')),
    };
    const bytes = Object.values(this.#headers).reduce((sum, value) => sum + Buffer.byteLength(value), 0);
    if (bytes > HEADER_BYTES_MAX) {
      throw new KatamariError(
        'bad_request',
        `version, key, tags, roles and trace have ${bytes} bytes together, the limit is ${HEADER_BYTES_MAX}`,
      );
    }
  }

  /** @param timeLeftMs whole milliseconds */
  blockFor(timeLeftMs: number): Buffer {
    if (this.#block === undefined || this.#blockMs !== timeLeftMs) {
      this.#block = headerBlock(BINARY, false, { ...this.#headers, 'katamari-timeout-ms': String(timeLeftMs) });
      this.#blockMs = timeLeftMs;
    }
    return this.#block;
  }
}

function listOf(name: string, items: readonly string[] = []): string {
  const wrong = items.find((item) => item.includes(',') || item.trim() === '');
  if (wrong === undefined) return items.join(',');
  throw new KatamariError('bad_request', `${name}: expected words without commas, got ${JSON.stringify(wrong)}`);
}

/** The number of the protocol in THeader. */
const BINARY = 0;
const HEADER_BYTES_MAX = 16_384;

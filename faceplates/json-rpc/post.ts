// One POST: the bytes of its body in, status, headers and text of its answer out, however it came and whoever writes
// it. Talks to rpc.ts; counts
import { asKatamariError, KatamariError, type FaceplateLimits } from '../../core/mod.ts';
import type { JsonRpcCalls, Exchange } from './calls.ts';
import { errorAnswer, httpStatusOf, retryAfterOf } from './rpc-error.ts';
import type { Rpc } from './rpc.ts';
import { parseText } from './text.ts';

// here what never became a call.

import type { Logger } from 'pino';

/** As it goes out; `content-length` is for whoever writes it. */
export interface HttpAnswer {
  readonly status: number;
  /** '': there is no content. */
  readonly type: string;
  readonly fields: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface PostsOptions {
  readonly rpc: Rpc;
  readonly calls: JsonRpcCalls;
  readonly limits: Pick<FaceplateLimits, 'nestingMax'>;
  readonly log: Pick<Logger, 'error'> | undefined;
}

export class Posts {
  readonly #options: PostsOptions;

  constructor(options: PostsOptions) {
    this.#options = options;
  }

  /**
   * Calls `end` once, perhaps before it returns; the body is not needed after that.
   * @param exchangeOf makes what the calls of this request share; may throw KatamariError
   */
  answer(body: Buffer, exchangeOf: (mark: string) => Exchange, end: (answer: HttpAnswer) => void): void {
    const fail = (thrown: unknown): void => end(this.#refused(asKatamariError(thrown)));
    try {
      const { value, mark } = parseText(body, this.#options.limits.nestingMax);
      const exchange = exchangeOf(mark);
      const isBatch = Array.isArray(value);
      this.#options.rpc.answer(value, exchange, (text) => end(this.#answerOf(text, exchange, isBatch)), fail);
    } catch (thrown) {
      fail(thrown);
    }
  }

  #answerOf(body: string, { ending }: Exchange, isBatch: boolean): HttpAnswer {
    if (body === '') return NO_CONTENT;
    if (ending === undefined || isBatch) return { status: 200, type: JSON_TYPE, fields: NO_FIELDS, body };
    if (ending.kind === 'refused') {
      const { error } = ending;
      if (error.code === 'internal') this.#options.log?.error({ err: error }, 'json-rpc: a call met a defect');
      return { status: httpStatusOf(error), type: JSON_TYPE, fields: retryFields(error), body };
    }
    const { queueUs, serviceUs } = ending.context;
    const fields = {
      'katamari-version': ending.version,
      'server-timing': `queue;dur=${msOf(queueUs)}, service;dur=${msOf(serviceUs)}`,
    };
    return { status: 200, type: JSON_TYPE, fields, body };
  }

  /** Nothing of it became a call: counted here, answered as a whole. */
  #refused(error: KatamariError): HttpAnswer {
    const { calls, log } = this.#options;
    calls.enter(error.code);
    if (error.code === 'internal') log?.error({ err: error }, 'json-rpc: a request met a defect');
    return refusalOf(error);
  }
}

/** An error for a request as a whole; its status is the table's. */
export function refusalOf(error: KatamariError): HttpAnswer {
  return { status: httpStatusOf(error), type: JSON_TYPE, fields: retryFields(error), body: errorAnswer(error) };
}

/** Milliseconds with three places. By whole numbers: a fraction takes longer to print than the answer to be read. */
function msOf(us: number): string {
  const whole = Math.round(us);
  const ms = Math.floor(whole / 1_000);
  return `${ms}${THOUSANDTHS[whole - ms * 1_000] ?? ''}`;
}

function retryFields(error: KatamariError): Readonly<Record<string, string>> {
  const retryAfter = retryAfterOf(error);
  return retryAfter === '' ? NO_FIELDS : { 'retry-after': retryAfter };
}

export const JSON_TYPE = 'application/json; charset=utf-8';
const NO_FIELDS: Readonly<Record<string, string>> = Object.freeze({});
const NO_CONTENT: HttpAnswer = { status: 204, type: '', fields: NO_FIELDS, body: '' };
/** '' to '.999', without zeros at the end. */
const THOUSANDTHS: readonly string[] = Array.from({ length: 1_000 }, (_, i) => String(i / 1_000).slice(1));

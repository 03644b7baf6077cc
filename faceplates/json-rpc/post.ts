// Answers one POST: parses the request body and returns the status, headers and body of the response, for both HTTP
// paths. It counts requests that are refused before they become a call.

import type { Logger } from 'pino';
import { asKatamariError, type KatamariError, type FaceplateLimits } from '../../core/mod.ts';
import type { CallerIdentity } from '../../core/rpc/mod.ts';
import { challengeOf } from '../../core/http/mod.ts';
import type { JsonRpcCalls, Exchange } from './calls.ts';
import { errorAnswer, httpStatusOf, retryAfterOf } from './rpc-error.ts';
import type { Rpc } from './rpc.ts';
import { parseText } from './text.ts';

/** An HTTP response without `content-length`, which the writer adds. */
export interface HttpAnswer {
  readonly status: number;
  /** Content type; '' for a response without content. */
  readonly type: string;
  readonly fields: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Creates the Exchange of a request. May throw KatamariError. */
export type ExchangeOf = (mark: string, identity: CallerIdentity) => Exchange;

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
   * Answers a request body. `end` is called once, possibly before this returns; `body` is not used after that.
   */
  answer(body: Buffer, identity: CallerIdentity, exchangeOf: ExchangeOf, end: (answer: HttpAnswer) => void): void {
    const fail = (thrown: unknown): void => end(this.#refused(asKatamariError(thrown)));
    try {
      const { value, mark } = parseText(body, this.#options.limits.nestingMax);
      const exchange = exchangeOf(mark, identity);
      const isBatch = Array.isArray(value);
      this.#options.rpc.answer(value, exchange, (text) => end(this.#answerOf(text, exchange, isBatch)), fail);
    } catch (thrown) {
      fail(thrown);
    }
  }

  /** Answers a request whose sender is unknown. */
  refuse(error: KatamariError, end: (answer: HttpAnswer) => void): void {
    end(this.#refused(error));
  }

  #answerOf(body: string, { ending }: Exchange, isBatch: boolean): HttpAnswer {
    if (body === '') return NO_CONTENT;
    if (ending === undefined || isBatch) return { status: 200, type: JSON_TYPE, fields: NO_FIELDS, body };
    if (ending.kind === 'refused') {
      const { error } = ending;
      if (error.code === 'internal') this.#options.log?.error({ err: error }, 'json-rpc: internal error in a call');
      return { status: httpStatusOf(error), type: JSON_TYPE, fields: remedyFields(error), body };
    }
    const { queueUs, serviceUs } = ending.context;
    const fields = {
      'katamari-version': ending.version,
      'server-timing': `queue;dur=${msOf(queueUs)}, service;dur=${msOf(serviceUs)}`,
    };
    return { status: 200, type: JSON_TYPE, fields, body };
  }

  /** Counts a request that contains no call, and returns the error response for it. */
  #refused(error: KatamariError): HttpAnswer {
    const { calls, log } = this.#options;
    calls.enter(error.code);
    if (error.code === 'internal') log?.error({ err: error }, 'json-rpc: internal error in a request');
    return refusalOf(error);
  }
}

/** Returns the response to a request that is refused as a whole. */
export function refusalOf(error: KatamariError): HttpAnswer {
  return { status: httpStatusOf(error), type: JSON_TYPE, fields: remedyFields(error), body: errorAnswer(error) };
}

/** Formats microseconds as milliseconds. Uses integers: printing a fraction takes longer than parsing the reply. */
function msOf(us: number): string {
  const whole = Math.round(us);
  const ms = Math.floor(whole / 1_000);
  return `${ms}${THOUSANDTHS[whole - ms * 1_000] ?? ''}`;
}

/** Header fields that say what may help: to authenticate, or to wait. */
function remedyFields(error: KatamariError): Readonly<Record<string, string>> {
  const challenge = challengeOf(error);
  if (challenge !== undefined) return { 'www-authenticate': challenge };
  const retryAfter = retryAfterOf(error);
  return retryAfter === '' ? NO_FIELDS : { 'retry-after': retryAfter };
}

export const JSON_TYPE = 'application/json; charset=utf-8';
const NO_FIELDS: Readonly<Record<string, string>> = Object.freeze({});
const NO_CONTENT: HttpAnswer = { status: 204, type: '', fields: NO_FIELDS, body: '' };
/** '' to '.999', without trailing zeros. */
const THOUSANDTHS: readonly string[] = Array.from({ length: 1_000 }, (_, i) => String(i / 1_000).slice(1));

// Answers one POST: parses the request body and returns the status, headers and body of the response, for both HTTP
// paths. It counts requests that are refused before they become a call.

import type { Logger } from 'pino';
import { asKatamariError, type KatamariError, type FaceplateLimits } from '../../core/mod.ts';
import { coverageHeaders, type CallerIdentity } from '../../core/rpc/mod.ts';
import { challengeOf, type PartedBody } from '../../core/http/mod.ts';
import type { JsonRpcCalls, Exchange } from './calls.ts';
import { errorAnswer, httpStatusOf, retryAfterOf } from './rpc-error.ts';
import type { Rpc } from './rpc.ts';
import { inspectText, parseText, type Inspection, type ParsedText } from './text.ts';

/** An HTTP response without `content-length`, which the writer adds. */
export interface HttpAnswer {
  readonly status: number;
  /** Content type; '' for a response without content. */
  readonly type: string;
  readonly fields: Readonly<Record<string, string>>;
  readonly body: string | PartedBody;
}

/** Creates the Exchange of a request, without its mark. May throw KatamariError. */
export type ExchangeOf = (identity: CallerIdentity) => Exchange;

export interface PostsOptions {
  readonly rpc: Rpc;
  readonly calls: JsonRpcCalls;
  readonly limits: Pick<FaceplateLimits, 'nestingMax'>;
  /** Whether HTTP statuses tell errors, for requests that do not say so themselves. */
  readonly errorStatus: boolean;
  readonly log: Pick<Logger, 'error'> | undefined;
}

export class Posts {
  readonly #options: PostsOptions;

  constructor(options: PostsOptions) {
    this.#options = options;
  }

  /** Answers a request body. `end` is called once, possibly before this returns. */
  answer(body: Buffer, identity: CallerIdentity, exchangeOf: ExchangeOf, end: (answer: HttpAnswer) => void): void {
    let { errorStatus } = this.#options;
    try {
      const exchange = exchangeOf(identity);
      ({ errorStatus } = exchange);
      const inspection = inspectText(body, this.#options.limits.nestingMax);
      if (body.length > AT_ONCE_BYTES) this.#answerLarge(body, inspection, exchange, end);
      else this.#call(parseText(body, inspection), exchange, end);
    } catch (thrown) {
      end(this.#refused(asKatamariError(thrown), errorStatus));
    }
  }

  /** Answers a request whose sender is unknown: no call of it is made, so the HTTP status tells the error. */
  refuse(error: KatamariError, end: (answer: HttpAnswer) => void): void {
    end(this.#refused(error, true));
  }

  /** Parses and answers a large body, each in a turn of the event loop of its own. */
  #answerLarge(body: Buffer, inspection: Inspection, exchange: Exchange, finish: (answer: HttpAnswer) => void): void {
    const inNextTurn = (step: () => void): void => {
      setImmediate(() => {
        try {
          step();
        } catch (thrown) {
          finish(this.#refused(asKatamariError(thrown), exchange.errorStatus));
        }
      });
    };
    inNextTurn(() => {
      const parsed = parseText(body, inspection);
      inNextTurn(() => this.#call(parsed, exchange, finish));
    });
  }

  /** @throws KatamariError if a batch is refused as a whole */
  #call({ value, mark }: ParsedText, exchange: Exchange, finish: (answer: HttpAnswer) => void): void {
    exchange.mark = mark;
    const isBatch = Array.isArray(value);
    this.#options.rpc.answer(value, exchange, (answered) => finish(this.#answerOf(answered, exchange, isBatch)));
  }

  #answerOf(body: string | PartedBody, { ending, errorStatus }: Exchange, isBatch: boolean): HttpAnswer {
    if (body === '') return NO_CONTENT;
    if (ending === undefined || isBatch) return { status: 200, type: JSON_TYPE, fields: NO_FIELDS, body };
    if (ending.kind === 'refused') {
      const { error } = ending;
      if (error.code === 'internal') this.#options.log?.error({ err: error }, 'json-rpc: internal error in a call');
      return { status: errorStatus ? httpStatusOf(error) : 200, type: JSON_TYPE, fields: remedyFields(error), body };
    }
    const { queueUs, serviceUs, coverage, rule } = ending.context;
    const fields: Record<string, string> = {
      'katamari-version': ending.version,
      'server-timing': `queue;dur=${msOf(queueUs)}, service;dur=${msOf(serviceUs)}`,
    };
    if (rule !== undefined) fields['katamari-rule'] = rule;
    if (coverage !== undefined) Object.assign(fields, coverageHeaders(coverage));
    return { status: 200, type: JSON_TYPE, fields, body };
  }

  /** Counts a request that contains no call, and returns the error response for it. */
  #refused(error: KatamariError, errorStatus: boolean): HttpAnswer {
    const { calls, log } = this.#options;
    calls.enter(error.code);
    if (error.code === 'internal') log?.error({ err: error }, 'json-rpc: internal error in a request');
    const refusal = refusalOf(error);
    return errorStatus ? refusal : { ...refusal, status: 200 };
  }
}

/** Returns the response to a request that is refused before it is known to be JSON-RPC. */
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
/** The steps of a larger body take a turn of the event loop each. */
const AT_ONCE_BYTES = 1024 * 1024;
const NO_FIELDS: Readonly<Record<string, string>> = Object.freeze({});
const NO_CONTENT: HttpAnswer = { status: 204, type: '', fields: NO_FIELDS, body: '' };
/** '' to '.999', without trailing zeros. */
const THOUSANDTHS: readonly string[] = Array.from({ length: 1_000 }, (_, i) => String(i / 1_000).slice(1));

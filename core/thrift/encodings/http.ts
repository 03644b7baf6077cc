// Thrift over HTTP/1.1: a message is the body of a POST, and its reply the body of a 200 response, whether it is a
// result or an error, as Thrift's HTTP clients expect. The protocol is detected from the body, because clients set
// arbitrary content types; a body may also be a THeader frame. Requests are parsed strictly and within limits (head,
// number of headers, body). Anything else gets an HTTP error with a plain-text explanation, and the connection is
// closed. The owner of the port checks each head before the body is read (CheckHead).

import { STATUS_CODES } from 'node:http';
import { ERROR_TABLE, KatamariError } from '../../mod.ts';
import { type StructType, NOTHING, type MessageType, type HeadersIn, trimSpaces } from '../mod.ts';
import type { Encoding, EncodingLimits, MessageFacts, SchemaOf } from './encoding.ts';
import { bytesFrom, readWhole } from './framed.ts';
import { HttpBody } from './http-body.ts';
import { HeaderEncoding, isHeaderFrame } from './header.ts';
import { bareEncoding, protocolOf, type Protocol } from './protocols.ts';

/** Limits of a request. */
export interface HttpEncodingLimits extends EncodingLimits {
  readonly headersMax: number;
}

/**
 * Checks the head of a request. Returns headers that the response must have, and whether it is a preflight, whose
 * response has nothing else. @throws KatamariError, with an HTTP status in its facts
 */
export type CheckHead = (head: {
  readonly method: string;
  readonly target: string;
  readonly isHttp10: boolean;
  readonly headers: HeadersIn;
  readonly rawHeaders: readonly string[];
}) => { readonly headers: Readonly<Record<string, string>>; readonly isPreflight: boolean } | undefined;

interface HttpRequestHead {
  /** Bytes of the head, including the empty line. */
  readonly headBytes: number;
  readonly headers: HeadersIn;
  /** Undefined for a preflight. */
  readonly body: HttpBody | undefined;
  readonly isLast: boolean;
}

export class HttpEncoding implements Encoding {
  readonly carriesHeaders = true;
  readonly answersOneway = true;
  readonly replyStart: number = 0x48; // the H of HTTP/1.1
  headers: HeadersIn | undefined;
  transportReply: Uint8Array | undefined;
  readonly #limits: HttpEncodingLimits;
  readonly #schemaOf: SchemaOf;
  readonly #checkHead: CheckHead;
  #inner: Encoding | undefined;
  #protocol: Protocol | 'header' | undefined;
  /** The current request, set when its head is complete. */
  #request: HttpRequestHead | undefined;
  #isHeadless = true;
  #isLast = false;
  #interim: Uint8Array | undefined;
  #contentType = CONTENT_TYPE;
  /** Headers of responses to the page that sent the last request. */
  #corsHeaders: Readonly<Record<string, string>> | undefined;

  constructor(
    limits: HttpEncodingLimits,
    schemaOf: SchemaOf = () => undefined,
    checkHead: CheckHead = () => undefined,
  ) {
    this.#limits = limits;
    this.#schemaOf = schemaOf;
    this.#checkHead = checkHead;
  }

  get head(): MessageFacts | undefined {
    return this.#isHeadless ? undefined : this.#inner?.head;
  }

  get body(): Uint8Array {
    return this.#inner?.body ?? NOTHING;
  }

  /** Whether the client announced that it sends no further request. */
  get isLast(): boolean {
    return this.#isLast;
  }

  /** Returns the `100 Continue` for which the client waits before it sends its body. Returns it once. */
  takeInterim(): Uint8Array | undefined {
    const interim = this.#interim;
    this.#interim = undefined;
    return interim;
  }

  next(bytes: Buffer, at: number, end: number): number {
    this.#isHeadless = true;
    this.#request ??= this.#readHead(bytes, at, end);
    const request = this.#request;
    if (request === undefined) return -1;
    this.transportReply = undefined;
    if (request.body === undefined) {
      this.#request = undefined;
      this.#isLast = request.isLast;
      this.transportReply = responseOf(204, this.#corsHeaders ?? {}, '', request.isLast);
      return at + request.headBytes;
    }
    const body = request.body.read(bytes, at + request.headBytes, end);
    if (body === undefined) return -1;
    this.#request = undefined;
    this.#interim = undefined;
    this.headers = relevant(request.headers);
    this.#isLast = request.isLast;
    const inner = this.#chooseInner(body.bytes);
    this.#isHeadless = false;
    readWhole(inner, body.bytes, 0, body.bytes.length);
    if (inner.headers !== undefined) this.headers = { ...this.headers, ...inner.headers };
    return body.end;
  }

  write(
    type: MessageType,
    name: string,
    seqId: number,
    body: Uint8Array,
    out: Uint8Array[],
    schema?: StructType,
    headers: Readonly<Record<string, string>> = {},
  ): void {
    const pieces: Uint8Array[] = [];
    if (body.length > 0) this.#inner?.write(type, name, seqId, body, pieces, schema, headers);
    const head = [
      // Thrift's clients expect 200 also for an error. They must not read on when they have to authenticate.
      headers['www-authenticate'] === undefined ? 'HTTP/1.1 200 OK' : 'HTTP/1.1 401 Unauthorized',
      `content-type: ${this.#contentType}`,
      `content-length: ${bytesFrom(pieces, 0)}`,
      ...headerLines(headers),
      ...headerLines(this.#corsHeaders ?? {}),
      ...(this.#isLast ? ['connection: close'] : []),
    ];
    out.push(Buffer.from(`${head.join('\r\n')}\r\n\r\n`), ...pieces);
  }

  refusal({ code, message, facts }: KatamariError): Uint8Array | undefined {
    if (!this.#isHeadless) return undefined;
    return responseOf(facts.httpStatus ?? ERROR_TABLE[code].http, {}, `${message}\n`, true);
  }

  #chooseInner(body: Buffer): Encoding {
    const protocol = isHeaderFrame(body, 0) ? 'header' : protocolOf(body);
    if (protocol === undefined) {
      throw new KatamariError(
        'bad_request',
        `The body of the request is not a Thrift message: it begins with "${body.toString('latin1', 0, 8).replace(UNPRINTABLE, '.')}", expected the binary, compact or JSON protocol without a frame, or a THeader. JSON-RPC 2.0 (POST /rpc) is served on the JSON-RPC port of the mesh`,
      );
    }
    if (this.#inner === undefined || protocol !== this.#protocol) {
      this.#inner =
        protocol === 'header' ? new HeaderEncoding(this.#limits) : bareEncoding(protocol, this.#limits, this.#schemaOf);
      this.#protocol = protocol;
    }
    return this.#inner;
  }

  /** Reads the head; undefined while it is incomplete. @throws KatamariError bad_request or too_large */
  #readHead(bytes: Buffer, at: number, end: number): HttpRequestHead | undefined {
    const empty = bytes.subarray(at, Math.min(end, at + HEAD_BYTES_MAX)).indexOf('\r\n\r\n');
    if (empty === -1) {
      if (end - at < HEAD_BYTES_MAX) return undefined;
      throw new KatamariError('too_large', `The head of the request is longer than ${HEAD_BYTES_MAX} bytes, the limit`);
    }
    const [first = '', ...lines] = bytes.toString('latin1', at, at + empty).split('\r\n');
    const [, method = '', target = '', minor = ''] = /^([A-Z]+) (\S+) HTTP\/1\.([01])$/.exec(first) ?? [];
    if (method !== 'POST' && method !== 'OPTIONS') throw notPost(method);
    const { headers, rawHeaders } = headersOf(lines, this.#limits.headersMax);
    const granted = this.#checkHead({ method, target, isHttp10: minor === '0', headers, rawHeaders });
    this.#corsHeaders = granted?.headers;
    const isPreflight = granted?.isPreflight === true && (headers['content-length'] ?? '0') === '0';
    if (method !== 'POST' && !isPreflight) throw notPost(method);
    const connection = String(headers['connection'] ?? '').toLowerCase();
    const contentType = String(headers['content-type'] ?? '');
    this.#contentType = isThriftType(contentType) ? contentType : CONTENT_TYPE;
    const body = isPreflight ? undefined : HttpBody.of(headers, this.#limits.frameBytesMax);
    if (String(headers['expect'] ?? '').toLowerCase() === '100-continue') this.#interim = CONTINUE;
    return {
      headBytes: empty + 4,
      headers,
      body,
      isLast: connection === 'close' || (minor === '0' && connection !== 'keep-alive'),
    };
  }
}

/** Whether a content type is one of Thrift, without parameters: `application/vnd.apache.thrift.binary`. */
function isThriftType(type: string): boolean {
  return /^application\/[\w.+-]+$/.test(type) && type.includes('thrift');
}

/** Parses header lines. Names become lower case. @throws KatamariError bad_request */
function headersOf(lines: readonly string[], headersMax: number): { headers: HeadersIn; rawHeaders: string[] } {
  if (lines.length > headersMax) throw new KatamariError('bad_request', `More than ${headersMax} headers, the limit`);
  const headers = Object.create(null) as Record<string, string>;
  const rawHeaders: string[] = [];
  for (const line of lines) {
    const [, name = '', rest = ''] = HEADER_LINE.exec(line) ?? [];
    if (name === '') throw new KatamariError('bad_request', `Not an HTTP header: "${line.slice(0, 40)}"`);
    const value = trimSpaces(rest);
    rawHeaders.push(name, value);
    const key = name.toLowerCase();
    const before = headers[key];
    headers[key] = before === undefined ? value : `${before}, ${value}`;
  }
  return { headers, rawHeaders };
}

/** Returns the headers for the mesh and for the chassis. The others concern only the client and this port. */
function relevant(headers: HeadersIn): HeadersIn {
  const kept = Object.create(null) as Record<string, string | string[] | undefined>;
  for (const name in headers) if (RELEVANT.test(name)) kept[name] = headers[name];
  return kept;
}

function notPost(method: string): KatamariError {
  const what = method === '' ? 'something that is not an HTTP/1.1 request' : method;
  return new KatamariError(
    'bad_request',
    `This port speaks Thrift over TCP, or as the body of an HTTP POST, and saw ${what}. JSON-RPC 2.0 (POST /rpc) is served on the JSON-RPC port of the mesh, and the dashboard on the stats port`,
  );
}

/** Returns a response of the transport: an error in plain text, or the response to a preflight. */
function responseOf(
  status: number,
  headers: Readonly<Record<string, string>>,
  text: string,
  isLast: boolean,
): Uint8Array {
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
    ...(text === '' ? [] : ['content-type: text/plain; charset=utf-8', 'x-content-type-options: nosniff']),
    ...(isLast ? ['connection: close'] : []),
    ...headerLines(headers),
    ...(status === 204 ? [] : [`content-length: ${Buffer.byteLength(text)}`]),
  ];
  return Buffer.from(`${head.join('\r\n')}\r\n\r\n${text}`);
}

function headerLines(headers: Readonly<Record<string, string>>): string[] {
  return Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
}

const RELEVANT = /^(?:katamari-|x-|traceparent$|tracestate$|authorization$)/;
const CONTENT_TYPE = 'application/x-thrift';
const CONTINUE: Buffer = Buffer.from('HTTP/1.1 100 Continue\r\n\r\n');
const HEADER_LINE = /^([!#$%&'*+.^`|~\w-]+):([^\r\n\0]*)$/;
// oxlint-disable-next-line no-control-regex -- control characters are what is meant
const UNPRINTABLE = /[^\u0020-\u007e]/g;
const HEAD_BYTES_MAX = 16_384;

// The head of an ordinary POST, as nearly every client writes it: a request line, headers with plain names and
// values, one length in digits, one host. It is accepted as a whole or not at all. This is not an HTTP parser: a
// request that is written differently (chunks, unusual spaces, a repeated header, bytes above 0x7e, an upgrade, a
// compressed body, the headers of a browser, a body over the limit) goes to `node:http`, which reads it again from its
// first byte. So no head is parsed in two ways, on which request smuggling depends.

export interface FastHead {
  /** Plain characters only: nothing to decode, no query, no dot segments. */
  readonly path: string;
  /** By name in lower case, as in `node:http`. */
  readonly headers: Readonly<Record<string, string>>;
  readonly bodyBytes: number;
}

export interface FastHeadLimits {
  readonly frameBytesMax: number;
  readonly headersMax: number;
}

/** Every ordinary POST begins with this. */
export const POST_START = 'POST /';
/** The end of a head, which is part of the head. */
export const HEAD_END = '\r\n\r\n';
/** A longer head is not ordinary; `node:http` refuses those over its limit. */
export const POST_HEAD_BYTES_MAX = 8_192;

/** Parses a head, including its end, with one character per byte. Returns undefined when it is not ordinary. */
export function readFastHead(text: string, { frameBytesMax, headersMax }: FastHeadLimits): FastHead | undefined {
  const path = REQUEST_LINE.exec(text)?.[1];
  if (path === undefined || DOT_SEGMENT.test(path) || !text.endsWith(HEAD_END)) return undefined;
  const headers: Record<string, string> = {};
  let count = 0;
  let at = path.length + REQUEST_LINE_REST;
  while (at < text.length - LINE_END) {
    HEADER.lastIndex = at;
    const found = HEADER.exec(text);
    if (found === null || ++count > headersMax) return undefined;
    const name = (found[1] as string).toLowerCase();
    if (name in headers || LEFT_TO_NODE.has(name)) return undefined;
    headers[name] = found[2] as string;
    at = HEADER.lastIndex;
  }
  const { host, connection = KEEP_ALIVE, 'content-length': length } = headers;
  if (host === undefined || connection.toLowerCase() !== KEEP_ALIVE) return undefined;
  if (length === undefined || !LENGTH.test(length) || Number(length) > frameBytesMax) return undefined;
  return { path, headers, bodyBytes: Number(length) };
}

const REQUEST_LINE = /^POST (\/[A-Za-z0-9_.@/-]*) HTTP\/1\.1\r\n/;
/** Length of the request line without the path. */
const REQUEST_LINE_REST = 'POST  HTTP/1.1\r\n'.length;
const LINE_END = 2;
const DOT_SEGMENT = /\/\.{0,2}(?:\/|$)/;
const HEADER = /([A-Za-z0-9-]+): ?([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)\r\n/y;
const LENGTH = /^(?:0|[1-9]\d{0,9})$/;
const KEEP_ALIVE = 'keep-alive';
/** Headers that are more than a value for the app. A request with one of them goes to `node:http`. */
const LEFT_TO_NODE: ReadonlySet<string> = new Set([
  'content-encoding',
  'expect',
  'origin',
  'proxy-connection',
  'sec-fetch-dest',
  'sec-fetch-site',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

// An HTTP server of files in memory, with ranges and ETags, which misbehaves as a test tells it.

import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export class FileServer {
  /** Content by path, such as `/wiki/a/words.txt`. */
  readonly files: Map<string, Buffer> = new Map<string, Buffer>();
  /** Each request: its path and its range. */
  readonly requests: { readonly path: string; readonly range: string | undefined }[] = [];
  /** Answers a request itself, or returns false. */
  answer: (request: IncomingMessage, response: ServerResponse) => boolean = () => false;
  /** Where the connection breaks: at which byte of the whole file, once each. */
  readonly breaks: Map<string, number[]> = new Map<string, number[]>();
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => this.#serve(request, response));
  }

  static async start(): Promise<FileServer> {
    const server = new FileServer();
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve));
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Adds a shard to the folder `/wiki`, and names it in shards.json. */
  add(name: string, files: Readonly<Record<string, string | Buffer>>): void {
    const listed = Object.entries(files).map(([path, content]) => {
      const bytes = Buffer.from(content);
      this.files.set(path === '' ? `/wiki/${name}` : `/wiki/${name}/${path}`, bytes);
      return { path, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
    });
    const list = JSON.parse(this.files.get(LIST)?.toString() ?? '{"shards":[]}') as { shards: unknown[] };
    list.shards.push({ name, files: listed });
    this.files.set(LIST, Buffer.from(JSON.stringify(list)));
  }

  async end(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const path = decodeURIComponent((request.url ?? '').split('?')[0] ?? '');
    const { range } = request.headers;
    this.requests.push({ path, range });
    if (this.answer(request, response)) return;
    const content = this.files.get(path);
    if (content === undefined) {
      response.writeHead(404).end('not here');
      return;
    }
    const etag = `"${createHash('md5').update(content).digest('hex')}"`;
    const from = Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0);
    const isRange = from > 0 && (request.headers['if-range'] ?? etag) === etag;
    const body = isRange ? content.subarray(from) : content;
    const start = isRange ? from : 0;
    response.writeHead(isRange ? 206 : 200, {
      etag,
      'content-length': body.length,
      'accept-ranges': 'bytes',
      ...(isRange ? { 'content-range': `bytes ${from}-${content.length - 1}/${content.length}` } : {}),
    });
    const breaks = this.breaks.get(path) ?? [];
    const breakAt = breaks.find((at) => at > start);
    if (breakAt === undefined) {
      response.end(body);
      return;
    }
    breaks.splice(breaks.indexOf(breakAt), 1);
    // The bytes before the break arrive, then the connection is reset.
    response.write(body.subarray(0, breakAt - start), () => response.socket?.destroySoon());
  }
}

const LIST = '/wiki/shards.json';

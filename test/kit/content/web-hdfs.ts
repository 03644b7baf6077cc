// A small WebHDFS server after Hadoop's documentation of its REST interface: a NameNode that sends readers to a
// DataNode. There is no Hadoop on the machines that run the tests.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export class WebHdfs {
  /** Content by path, such as `/wiki/a/words.txt`. */
  readonly files: Map<string, Buffer> = new Map<string, Buffer>();
  /** Time of the last change by path, in ms. */
  readonly times: Map<string, number> = new Map<string, number>();
  /** Requests to the NameNode, as path and query. */
  readonly requests: string[] = [];
  /** How the NameNode answers OPEN. */
  open: 'json' | 'redirect' | 'bytes' = 'json';
  /** The DataNode breaks the connection at these bytes of a file, once each. */
  breaks: number[] = [];
  /** Users and tokens that may read; any when empty. */
  allowed: readonly string[] = [];
  isStandby = false;
  /** Where readers are sent instead of the DataNode. */
  location = '';
  readonly #nameNode: Server;
  readonly #dataNode: Server;

  private constructor() {
    this.#nameNode = createServer((request, response) => this.#serve(request, response));
    this.#dataNode = createServer((request, response) => this.#send(request, response));
  }

  static async start(): Promise<WebHdfs> {
    const hdfs = new WebHdfs();
    for (const server of [hdfs.#nameNode, hdfs.#dataNode])
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return hdfs;
  }

  get url(): string {
    return `hdfs://127.0.0.1:${portOf(this.#nameNode)}`;
  }

  write(file: string, content: string | Buffer): void {
    this.files.set(file, Buffer.from(content));
    this.times.set(file, 1_700_000_000_000 + this.times.size);
  }

  async end(): Promise<void> {
    for (const server of [this.#nameNode, this.#dataNode]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    this.requests.push(request.url ?? '');
    const { file, query } = read(request);
    const who = query.get('delegation') ?? query.get('user.name') ?? '';
    if (this.isStandby) return refuse(response, 403, 'StandbyException', 'Operation category READ is not supported');
    if (this.allowed.length > 0 && !this.allowed.includes(who))
      return refuse(response, 403, 'AccessControlException', `Permission denied: user=${who}, access=READ`);
    const isFolder = [...this.files.keys()].some((name) => name.startsWith(`${file}/`));
    if (!this.files.has(file) && !isFolder)
      return refuse(response, 404, 'FileNotFoundException', `File does not exist: ${file}`);
    switch (query.get('op') ?? '') {
      case 'GETFILESTATUS':
        return sendJson(response, { FileStatus: this.#status(file, '') });
      case 'LISTSTATUS': {
        const below = [...this.files.keys()].filter((name) => name.startsWith(`${file}/`));
        const names = [...new Set(below.map((name) => name.slice(file.length + 1).split('/')[0] ?? ''))];
        const entries = names.map((name) => this.#status(`${file}/${name}`, name));
        return sendJson(response, { FileStatuses: { FileStatus: isFolder ? entries : [this.#status(file, '')] } });
      }
      case 'OPEN': {
        if (this.open === 'bytes') return this.#send(request, response);
        query.set('namenoderpcaddress', '127.0.0.1:8020');
        const path = `/webhdfs/v1${encodeURI(file)}?${query.toString()}`;
        const Location = this.location || `http://127.0.0.1:${portOf(this.#dataNode)}${path}`;
        if (this.open === 'json' && query.get('noredirect') === 'true') return sendJson(response, { Location });
        response.writeHead(307, { location: Location, 'content-length': 0 }).end();
        return;
      }
      default:
        return refuse(response, 400, 'UnsupportedOperationException', `op=${query.get('op') ?? ''}`);
    }
  }

  #status(file: string, pathSuffix: string): object {
    const content = this.files.get(file);
    return {
      accessTime: 0,
      blockSize: 134_217_728,
      group: 'supergroup',
      length: content?.length ?? 0,
      modificationTime: this.times.get(file) ?? 0,
      owner: 'hdfs',
      pathSuffix,
      permission: '644',
      replication: 3,
      type: content === undefined ? 'DIRECTORY' : 'FILE',
    };
  }

  #send(request: IncomingMessage, response: ServerResponse): void {
    const { file, query } = read(request);
    const from = Number(query.get('offset'));
    const content = this.files.get(file) ?? Buffer.alloc(0);
    const body = content.subarray(from, from + Number(query.get('length')));
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': body.length });
    const breakAt = this.breaks.find((at) => at > from);
    if (breakAt === undefined) {
      response.end(body);
      return;
    }
    this.breaks = this.breaks.filter((at) => at !== breakAt);
    response.write(body.subarray(0, breakAt - from), () => response.socket?.destroySoon());
  }
}

function read(request: IncomingMessage): { readonly file: string; readonly query: URLSearchParams } {
  const { pathname, searchParams } = new URL(request.url ?? '', 'http://localhost');
  return { file: decodeURIComponent(pathname).replace(/^\/webhdfs\/v1/, ''), query: searchParams };
}

function refuse(response: ServerResponse, status: number, exception: string, message: string): void {
  const javaClassName = `org.apache.hadoop.${exception}`;
  sendJson(response, { RemoteException: { exception, javaClassName, message } }, status);
}

function sendJson(response: ServerResponse, value: object, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

// An HTTP server in place of the JSON-RPC faceplate of a mesh: it records the requests and returns what the test
// defines.

import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Asked {
  readonly path: string;
  readonly method: string;
  readonly params: unknown;
  /** The body as received. */
  readonly text: string;
  readonly headers: IncomingHttpHeaders;
}

export interface RpcServer {
  readonly url: string;
  readonly asked: Asked[];
  close(): Promise<void>;
}

/**
 * `answer` returns the members of the JSON-RPC reply except jsonrpc and id, or text for a request that is not a POST.
 */
export async function startRpcServer(
  answer: (asked: Asked) => { result: unknown } | { error: object } | string | undefined,
  headers: Readonly<Record<string, string>> = {},
): Promise<RpcServer> {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    let text = '';
    request.setEncoding('utf8').on('data', (part: string) => (text += part));
    request.on('end', () => {
      const body = (text === '' ? {} : JSON.parse(text)) as { method?: string; params?: unknown; id?: unknown };
      const one = {
        path: request.url ?? '',
        method: body.method ?? '',
        params: body.params,
        text,
        headers: request.headers,
      };
      asked.push(one);
      const said = answer(one);
      response.writeHead(said === undefined ? 404 : 200, headers);
      response.end(typeof said === 'object' ? JSON.stringify({ jsonrpc: '2.0', id: body.id, ...said }) : said);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

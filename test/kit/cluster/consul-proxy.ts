// An HTTP proxy in front of one Consul server. While it lies, it answers every request with status 200 and a body that
// Consul never sends.

import {
  createServer,
  request as sendRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { parseAddress } from '../../../core/mod.ts';

export class ConsulProxy {
  readonly #target: string;
  readonly #server: Server;
  #lies = 0;
  #isLying = false;

  private constructor(target: string) {
    this.#target = target;
    this.#server = createServer((request, response) => {
      if (this.#isLying) this.#lie(request, response);
      else this.#forward(request, response);
    });
  }

  /** @param target HOST:PORT @param host address to listen on */
  static async start(target: string, host: string): Promise<ConsulProxy> {
    const proxy = new ConsulProxy(target);
    await new Promise<void>((resolve) => proxy.#server.listen(0, host, resolve));
    return proxy;
  }

  /** HOST:PORT */
  get address(): string {
    const { address, port } = this.#server.address() as AddressInfo;
    return `${address}:${port}`;
  }

  /** Answers nonsense to all requests until it is called with false. Returns the number of its lies so far. */
  setLying(isLying: boolean): number {
    this.#isLying = isLying;
    // Blocking queries that wait end, so that their clients ask again and hear a lie.
    if (isLying) this.#server.closeAllConnections();
    return this.#lies;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #lie(request: IncomingMessage, response: ServerResponse): void {
    const body = NONSENSE[this.#lies++ % NONSENSE.length] as string;
    request.resume();
    response.writeHead(200, { 'content-type': 'application/json', 'x-consul-index': '1' });
    response.end(body);
  }

  #forward(request: IncomingMessage, response: ServerResponse): void {
    const { method, url = '/', headers } = request;
    const { host, port } = parseAddress(this.#target) ?? { host: '', port: 0 };
    const onward = sendRequest({ host, port, method, path: url, headers, agent: false }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
      answer.once('error', () => response.destroy());
    });
    onward.once('error', () => response.destroy());
    response.once('close', () => onward.destroy());
    request.pipe(onward);
  }
}

const NONSENSE: readonly string[] = [
  'null',
  '{}',
  '[null]',
  '[{}]',
  '{"Results":[{}]}',
  '{"ID":7,"Config":{},"Member":null}',
  '"text"',
  '17',
  '{"x":',
  '<html>Sign in</html>',
  '',
];

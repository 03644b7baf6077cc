// An HTTP proxy in front of one Consul server. While it lies, it answers every request with status 200 and a body that
// Consul never sends. It can also hold a transaction, so that a test kills the process that wrote it.

import {
  createServer,
  request as sendRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { parseAddress } from '../../../core/mod.ts';

/** What happens to one transaction: its client never gets the answer. */
export interface TransactionFault {
  /** Whether Consul gets the transaction. */
  readonly isApplied: boolean;
  /** Called when Consul has answered, or in place of that. */
  readonly act: () => Promise<void>;
}

export class ConsulProxy {
  /** Decides about every transaction, by its body. */
  onTransaction: ((body: string) => TransactionFault | undefined) | undefined;
  readonly #target: string;
  readonly #server: Server;
  #lies = 0;
  #isLying = false;

  private constructor(target: string) {
    this.#target = target;
    this.#server = createServer((request, response) => {
      if (this.#isLying) this.#lie(request, response);
      else if (this.onTransaction === undefined || !request.url?.startsWith('/v1/txn'))
        this.#forward(request, response);
      else void this.#intercept(request, response);
    });
    // Like Consul, it keeps idle connections. Closing one under a write would be a fault that the test did not order.
    this.#server.keepAliveTimeout = 0;
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

  async #intercept(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const parts: Buffer[] = [];
      for await (const part of request) parts.push(part as Buffer);
      const body = Buffer.concat(parts);
      const fault = this.onTransaction?.(body.toString());
      const { method = '', url = '', headers } = request;
      const answer =
        fault?.isApplied === false
          ? undefined
          : await fetch(`http://${this.#target}${url}`, { method, body, headers: plainHeaders(headers) });
      const text = await answer?.text();
      if (fault === undefined) {
        response.writeHead(answer?.status ?? 502, plainHeaders(Object.fromEntries(answer?.headers ?? [])));
        response.end(text);
        return;
      }
      await fault.act();
      response.destroy();
    } catch {
      response.destroy();
    }
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

/** Without those of one connection. */
function plainHeaders(headers: IncomingMessage['headers']): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) =>
      typeof value === 'string' && !OF_CONNECTION.has(name) ? [[name, value]] : [],
    ),
  );
}

const OF_CONNECTION: ReadonlySet<string> = new Set([
  'connection',
  'content-encoding',
  'content-length',
  'host',
  'keep-alive',
  'transfer-encoding',
]);

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

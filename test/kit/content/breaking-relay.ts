// A TCP relay in front of a server that breaks connections in the middle of an answer.

import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

export class BreakingRelay {
  /** Number of connections that it still breaks. */
  breaksLeft = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
  }

  /**
   * @param target `http://HOST:PORT`
   * @param afterBytes bytes of an answer after which a connection breaks
   */
  static async start(target: string, afterBytes: number): Promise<BreakingRelay> {
    const { hostname, port } = new URL(target);
    const server = createServer();
    const relay = new BreakingRelay(server);
    server.on('connection', (client) => {
      const upstream = connect(Number(port), hostname);
      const ends = [client, upstream];
      let passed = 0;
      for (const one of ends) {
        relay.#sockets.add(one);
        one.on('error', () => undefined);
        one.on('close', () => {
          relay.#sockets.delete(one);
          for (const each of ends) each.destroy();
        });
      }
      client.pipe(upstream);
      upstream.on('data', (bytes) => {
        passed += bytes.length;
        client.write(bytes);
        if (relay.breaksLeft === 0 || passed < afterBytes) return;
        relay.breaksLeft--;
        client.end();
        upstream.destroy();
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return relay;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

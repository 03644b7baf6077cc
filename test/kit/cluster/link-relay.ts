// A relay in front of the link port of a manager, which the other processes know as its address. It breaks all
// connections at a word, and accepts none until it is healed.

import { connect, createServer, type Server, type Socket } from 'node:net';

export class LinkRelay {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #target: { readonly host: string; readonly port: number } | undefined;
  #isCut = false;

  private constructor() {
    this.#server = createServer((socket) => this.#accept(socket));
  }

  static async start(host: string, port: number): Promise<LinkRelay> {
    const relay = new LinkRelay();
    await new Promise<void>((resolve, reject) => {
      relay.#server.once('error', reject).listen(port, host, resolve);
    });
    return relay;
  }

  /** Until this is called, connections are closed at once. */
  setTarget(host: string, port: number): void {
    this.#target = { host, port };
  }

  cut(): void {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  heal(): void {
    this.#isCut = false;
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #accept(socket: Socket): void {
    if (this.#isCut || this.#target === undefined) return void socket.destroy();
    const onward = connect(this.#target.port, this.#target.host).setNoDelay(true);
    socket.setNoDelay(true);
    for (const [one, other] of [
      [socket, onward],
      [onward, socket],
    ] as const) {
      this.#sockets.add(one);
      one.pipe(other);
      one.once('error', () => undefined);
      one.once('close', () => {
        this.#sockets.delete(one);
        other.destroy();
      });
    }
  }
}

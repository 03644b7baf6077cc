// Opens connections: the addresses in turn, from a random one on, and after a round in which none answered a pause
// that grows. A connection counts as good when something was heard on it, not when it is there: who accepts and says
// nothing must not be dialed without a pause.
import { Backoff, type Clock, KatamariError } from '../core/mod.ts';
import type { DialAddress, ClientTls, ClientSettings } from './options.ts';
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

export interface DialedSocket {
  readonly socket: Socket;
  readonly address: string;
}

export class Dialer {
  readonly #settings: ClientSettings;
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  readonly #stop = new AbortController();
  #next: number;
  /** Attempts since something was last heard from a mesh. */
  #failures = 0;

  constructor(settings: ClientSettings, clock: Clock, random: () => number) {
    this.#settings = settings;
    this.#clock = clock;
    this.#backoff = new Backoff({ firstMs: PAUSE_FIRST_MS, maxMs: PAUSE_MAX_MS, random });
    this.#next = Math.floor(random() * settings.addresses.length);
  }

  /** The connection that was opened last is of use. */
  succeeded(): void {
    this.#failures = 0;
    this.#backoff.reset();
  }

  /** It was not. */
  failed(): void {
    this.#failures++;
  }

  /** The next address is better than the last. */
  turn(): void {
    this.#next = (this.#next + 1) % this.#settings.addresses.length;
  }

  /** A pause when one is due, and one attempt. @throws KatamariError resource_failed with notRun */
  async dial(): Promise<DialedSocket> {
    const { addresses, tls, connectMs } = this.#settings;
    if (this.#failures > 0 && this.#failures % addresses.length === 0) await this.#pause(this.#backoff.next());
    const address = addresses[this.#next] as DialAddress;
    try {
      const socket = await this.#open(address, tls, connectMs);
      return { socket, address: address.text };
    } catch (error) {
      this.failed();
      this.turn();
      throw error;
    }
  }

  /** Ends attempts and pauses. */
  close(): void {
    this.#stop.abort();
  }

  #pause(forMs: number): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        takeBack();
        this.#stop.signal.removeEventListener('abort', end);
        resolve();
      };
      const takeBack = this.#clock.after(forMs, end);
      this.#stop.signal.addEventListener('abort', end);
    });
  }

  #open({ text, at }: DialAddress, tls: ClientTls | undefined, connectMs: number): Promise<Socket> {
    return new Promise((resolve, reject) => {
      const { signal } = this.#stop;
      const socket = tls === undefined ? connectTcp(at) : connectTls({ ...at, ...serverName(at), ...tls });
      // Calls keep the process alive, not the connection.
      socket.unref();
      const end = (why?: string): void => {
        takeBack();
        signal.removeEventListener('abort', onAbort);
        socket.off('error', onError);
        socket.off('close', onClose);
        if (why === undefined) {
          resolve(socket);
          return;
        }
        socket.on('error', () => {});
        socket.destroy();
        reject(new KatamariError('resource_failed', `The mesh at ${text} cannot be reached: ${why}`, { notRun: true }));
      };
      const onAbort = (): void => end('the client was closed');
      const onError = (error: Error): void => end(error.message === '' ? nameOf(error) : error.message);
      const onClose = (): void => end('the connection was closed before it was open');
      const takeBack = this.#clock.after(connectMs, () => end(`no connection within ${connectMs} ms`));
      if (signal.aborted) {
        end('the client was closed');
        return;
      }
      signal.addEventListener('abort', onAbort);
      socket.once('error', onError);
      socket.once('close', onClose);
      socket.once(tls === undefined ? 'connect' : 'secureConnect', () => end());
    });
  }
}

/** Certificates name hosts; an address in numbers is compared with theirs as it is. */
function serverName(at: DialAddress['at']): { servername?: string } {
  return 'host' in at && isIP(at.host) === 0 ? { servername: at.host } : {};
}

/** Some errors of node:net that stand for several have a code and no message. */
function nameOf(error: Error): string {
  return (error as NodeJS.ErrnoException).code ?? error.name;
}

const PAUSE_FIRST_MS = 50;
const PAUSE_MAX_MS = 2_000;

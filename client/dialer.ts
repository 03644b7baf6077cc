// Opens connections. It tries the addresses in turn, starting at a random one, and backs off after a round in which
// all failed. A connection counts as a success when the first reply arrives, not when it is established: a peer that
// accepts connections but never answers must not be dialed without a delay.

import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { Backoff, type Clock, KatamariError } from '../core/mod.ts';
import type { DialAddress, ClientTls, ClientSettings } from './options.ts';

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
  /** Failed attempts since the last success. */
  #failures = 0;

  constructor(settings: ClientSettings, clock: Clock, random: () => number) {
    this.#settings = settings;
    this.#clock = clock;
    this.#backoff = new Backoff({ firstMs: PAUSE_FIRST_MS, maxMs: PAUSE_MAX_MS, random });
    this.#next = Math.floor(random() * settings.addresses.length);
  }

  /** Records that the last connection works, which resets the backoff. */
  succeeded(): void {
    this.#failures = 0;
    this.#backoff.reset();
  }

  /** Records that the last connection failed. */
  failed(): void {
    this.#failures++;
  }

  /** Moves on to the next address. */
  advance(): void {
    this.#next = (this.#next + 1) % this.#settings.addresses.length;
  }

  /** Makes one attempt, after a delay if all addresses failed. @throws KatamariError resource_failed with notRun */
  async dial(): Promise<DialedSocket> {
    const { addresses, tls, connectMs } = this.#settings;
    if (this.#failures > 0 && this.#failures % addresses.length === 0) await this.#pause(this.#backoff.next());
    const address = addresses[this.#next] as DialAddress;
    try {
      const socket = await this.#open(address, tls, connectMs);
      return { socket, address: address.text };
    } catch (error) {
      this.failed();
      this.advance();
      throw error;
    }
  }

  /** Ends the current attempt or delay. */
  close(): void {
    this.#stop.abort();
  }

  #pause(forMs: number): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        cancelTimer();
        this.#stop.signal.removeEventListener('abort', end);
        resolve();
      };
      const cancelTimer = this.#clock.after(forMs, end);
      this.#stop.signal.addEventListener('abort', end);
    });
  }

  #open({ text, at }: DialAddress, tls: ClientTls | undefined, connectMs: number): Promise<Socket> {
    return new Promise((resolve, reject) => {
      const { signal } = this.#stop;
      const socket = tls === undefined ? connectTcp(at) : connectTls({ ...at, ...serverName(at), ...tls });
      // Pending calls keep the process alive; the connection does not.
      socket.unref();
      const end = (why?: string): void => {
        cancelTimer();
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
      const cancelTimer = this.#clock.after(connectMs, () => end(`no connection within ${connectMs} ms`));
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

/** Returns the TLS server name of a host name. An IP address is checked against the certificate without one. */
function serverName(at: DialAddress['at']): { servername?: string } {
  return 'host' in at && isIP(at.host) === 0 ? { servername: at.host } : {};
}

/** Returns the code of an error without a message, as node:net throws when all addresses of a host fail. */
function nameOf(error: Error): string {
  return (error as NodeJS.ErrnoException).code ?? error.name;
}

const PAUSE_FIRST_MS = 50;
const PAUSE_MAX_MS = 2_000;

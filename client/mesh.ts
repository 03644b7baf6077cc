// The client's view of a mesh: `connect()` returns a Mesh, `service()` a service in it. A connection is opened by the
// first call. An idle client does not keep the process alive. channel.ts sends and tracks the calls.

import { systemClock, type Clock } from '../core/mod.ts';
import { Channel, type ChannelStats } from './channel.ts';
import { InterfaceCache } from './interfaces.ts';
import {
  settingsOf,
  type AnyService,
  type ConnectOptions,
  type ServiceOptions,
  type ClientSettings,
} from './options.ts';
import { serviceObject } from './service.ts';

export type MeshStats = ChannelStats;

/** Creates a client. The first call opens a connection. @throws KatamariError bad_request for an invalid option */
export function connect(
  options: ConnectOptions,
  { clock = systemClock, random = Math.random }: { readonly clock?: Clock; readonly random?: () => number } = {},
): Mesh {
  return new Mesh(settingsOf(options), clock, random);
}

export class Mesh implements AsyncDisposable {
  readonly #settings: ClientSettings;
  readonly #channel: Channel;
  readonly #interfaces: InterfaceCache;

  constructor(settings: ClientSettings, clock: Clock, random: () => number) {
    this.#settings = settings;
    this.#channel = new Channel(settings, clock, random);
    this.#interfaces = new InterfaceCache(this.#channel, settings, () => clock.nowMs());
  }

  /**
   * Returns an object with one function per method: `(args by name, options) => Promise<value>`. It is cheap to
   * create and can be kept. Calls reject with ThriftException for a declared exception and KatamariError for other
   * errors.
   * @throws KatamariError bad_request for an invalid option or IDL
   */
  // The caller states the type of the service; it cannot be inferred from the arguments.
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters
  service<Service extends object = AnyService>(name: string, options: ServiceOptions = {}): Service {
    return serviceObject(name, options, this.#settings, this.#channel, this.#interfaces) as Service;
  }

  stats(): MeshStats {
    return this.#channel.stats();
  }

  /** Refuses new calls, waits for the pending ones, then closes. */
  drain(): Promise<void> {
    return this.#channel.drain();
  }

  /** Closes now: pending calls reject with `cancelled`. May be called more than once. */
  close(): void {
    this.#channel.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.drain();
  }
}

// A mesh as its callers see it: `connect()` gives one, `service()` the services in it. Nothing is opened before the
// first call; an idle client keeps no process alive. What becomes of calls is in channel.ts.

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

/** @throws KatamariError bad_request when an option cannot be meant */
export function connect(
  options: ConnectOptions,
  { clock = systemClock, random = Math.random }: { readonly clock?: Clock; readonly random?: () => number } = {},
): Mesh {
  return new Mesh(settingsOf(options), clock, random);
}

export class Mesh implements AsyncDisposable {
  readonly #settings: ClientSettings;
  readonly #office: Channel;
  readonly #book: InterfaceCache;

  constructor(settings: ClientSettings, clock: Clock, random: () => number) {
    this.#settings = settings;
    this.#office = new Channel(settings, clock, random);
    this.#book = new InterfaceCache(this.#office, settings.timeoutMs, () => clock.nowMs());
  }

  /**
   * An object with a function for each method: `(args by name, options) => Promise<value>`. Costs little, and may be
   * kept. Its calls reject with ThriftException for a declared exception and KatamariError for everything else.
   * @throws KatamariError bad_request for options or an IDL that cannot be meant
   */
  // The type is the caller's word for what the IDL says; nothing here can infer it.
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters
  service<Service extends object = AnyService>(name: string, options: ServiceOptions = {}): Service {
    return serviceObject(name, options, this.#settings, this.#office, this.#book) as Service;
  }

  stats(): MeshStats {
    return this.#office.stats();
  }

  /** Takes no more calls, lets those under way end, and closes. */
  drain(): Promise<void> {
    return this.#office.drain();
  }

  /** Ends now: calls under way reject with `cancelled`. Twice is fine. */
  close(): void {
    this.#office.close();
  }

  /** Drains. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.drain();
  }
}

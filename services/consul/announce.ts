// Enters a listener of this process (katamari-thrift, katamari-json-rpc, ...) as a Consul service with a health
// check, so that Consul DNS, its UI and Prometheus find it. Nothing in the mesh depends on it. The entry is looked at
// now and then and made again when an agent forgot it.

import { systemClock, type Clock, Backoff } from '../../core/mod.ts';
import { ConsulError, type ConsulClient, type ServiceRequest } from './client.ts';
import { FAREWELL_MS, pause, within } from './pause.ts';

export interface AnnounceOptions {
  readonly onError?: (error: ConsulError) => void;
  readonly clock?: Clock;
  readonly random?: () => number;
}

export interface Announcement {
  /** Resolves when the service was entered for the first time, or withdrawn. */
  readonly ready: Promise<void>;
  /**
   * Consul is back, perhaps without the entry, or with an agent that keeps the state of its check to itself for a
   * while.
   */
  look(): void;
  /** Takes it out again; best effort when Consul is away. */
  withdraw(): Promise<void>;
}

/** A lost entry is found within this; asking the agent for its services writes nothing. */
const LOOK_EVERY_MS = 15_000;
/** After an outage an agent takes a moment to find the check well, and up to a minute to tell the servers. */
const CARRY_EVERY_MS = 1_000;
const CARRY_TRIES_MAX = 20;
const BACKOFF_FIRST_MS = 200;
const BACKOFF_MAX_MS = 5_000;

export function announceService(
  client: ConsulClient,
  service: ServiceRequest,
  options: AnnounceOptions = {},
): Announcement {
  const clock = options.clock ?? systemClock;
  const backoff = new Backoff({
    firstMs: BACKOFF_FIRST_MS,
    maxMs: BACKOFF_MAX_MS,
    random: options.random ?? Math.random,
  });
  const end = new AbortController();
  const { signal } = end;
  let markReady!: () => void;
  const ready = new Promise<void>((resolve) => {
    markReady = resolve;
  });

  let wake = (): void => {};
  let carriesLeft = 0;
  const rest = async (ms: number): Promise<void> => {
    const woken = new AbortController();
    wake = () => woken.abort();
    await pause(clock, ms, AbortSignal.any([signal, woken.signal]));
  };

  const keep = async (): Promise<void> => {
    while (!signal.aborted) {
      try {
        const known = await client.serviceIds(signal);
        if (!known.includes(service.id)) await client.registerService(service, signal);
        markReady();
        backoff.reset();
        if (carriesLeft > 0) carriesLeft = (await isCarried()) ? 0 : carriesLeft - 1;
        await rest(carriesLeft > 0 ? CARRY_EVERY_MS : LOOK_EVERY_MS);
      } catch (error) {
        if (signal.aborted) break;
        if (!(error instanceof ConsulError)) throw error;
        options.onError?.(error);
        await pause(clock, backoff.next(), signal);
      }
    }
    markReady();
  };
  const isCarried = async (): Promise<boolean> => {
    try {
      return await client.carryCheck(`service:${service.id}`, signal);
    } catch (error) {
      // It needs a right that is not everybody's; the agent tells the servers in the end.
      if (error instanceof ConsulError && error.status === 403) return true;
      throw error;
    }
  };
  // Whatever an earlier process of the same id left (another port, say) is overwritten first.
  const running = client
    .registerService(service, signal)
    .then(markReady, () => {})
    .then(keep);

  return {
    ready,
    look(): void {
      carriesLeft = CARRY_TRIES_MAX;
      wake();
    },
    async withdraw(): Promise<void> {
      end.abort();
      await running;
      await within(clock, FAREWELL_MS, (patience) => client.deregisterService(service.id, patience)).catch(
        (error: unknown) => {
          if (!(error instanceof ConsulError)) throw error;
          if (!error.isCancelled) options.onError?.(error);
        },
      );
    },
  };
}

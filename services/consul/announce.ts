// Registers a listener of this process (katamari-thrift, katamari-json-rpc, ...) as a Consul service with a health
// check, for Consul DNS, Consul's UI and Prometheus. The mesh itself does not depend on it. Every 15 s it verifies
// the registration and repeats it if the agent has lost it.

import { systemClock, type Clock, Backoff } from '../../core/mod.ts';
import type { ConsulClient, ServiceRequest } from './client.ts';
import { ConsulError } from './requests.ts';
import { DEREGISTER_TIMEOUT_MS, pause, within } from './pause.ts';

export interface AnnounceOptions {
  readonly onError?: (error: ConsulError) => void;
  readonly clock?: Clock;
  readonly random?: () => number;
}

export interface Announcement {
  /** Resolves when the service is registered for the first time, or withdrawn. */
  readonly ready: Promise<void>;
  /** Verifies at once. Call it when Consul is back: the registration may be lost, or its check not synced yet. */
  verify(): void;
  /** Deregisters the service. Gives up after DEREGISTER_TIMEOUT_MS if Consul is unreachable. */
  withdraw(): Promise<void>;
}

/** Interval of verification. Each verification costs the agent one read. */
const VERIFY_EVERY_MS = 15_000;
/** After an outage an agent takes a moment to pass the check, and up to a minute to sync it to the servers. */
const SYNC_EVERY_MS = 1_000;
const SYNC_TRIES_MAX = 20;
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
  let syncsLeft = 0;
  const sleep = async (ms: number): Promise<void> => {
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
        if (syncsLeft > 0) syncsLeft = (await syncCheck()) ? 0 : syncsLeft - 1;
        await sleep(syncsLeft > 0 ? SYNC_EVERY_MS : VERIFY_EVERY_MS);
      } catch (error) {
        if (signal.aborted) break;
        if (!(error instanceof ConsulError)) throw error;
        options.onError?.(error);
        await pause(clock, backoff.next(), signal);
      }
    }
    markReady();
  };
  const syncCheck = async (): Promise<boolean> => {
    try {
      return await client.syncCheck(`service:${service.id}`, signal);
    } catch (error) {
      // The token may lack this right. The agent syncs the check later.
      if (error instanceof ConsulError && error.status === 403) return true;
      throw error;
    }
  };
  // Register first without reading. An earlier process of the same id may have registered another port.
  const running = client
    .registerService(service, signal)
    .then(markReady, () => {})
    .then(keep);

  return {
    ready,
    verify(): void {
      syncsLeft = SYNC_TRIES_MAX;
      wake();
    },
    async withdraw(): Promise<void> {
      end.abort();
      await running;
      await within(clock, DEREGISTER_TIMEOUT_MS, (timeout) => client.deregisterService(service.id, timeout)).catch(
        (error: unknown) => {
          if (!(error instanceof ConsulError)) throw error;
          if (!error.isCancelled) options.onError?.(error);
        },
      );
    },
  };
}

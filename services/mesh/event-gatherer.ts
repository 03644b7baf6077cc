// Collects the events of all managers in the event log of this process, so that any faceplate can show the events of
// the mesh. It long-polls each manager over its link for the events after the last one seen. After a restart of the
// manager, it reads all its events from the first.

import { asKatamariError, type Clock } from '../../core/mod.ts';
import { pause } from '../consul/mod.ts';
import type { EventLog } from './event-log.ts';
import { ManagerClient } from './manager-service.ts';
import type { Peer } from './peer.ts';

export interface EventGathererOptions {
  readonly events: EventLog;
  readonly clock: Clock;
  /** The current managers. */
  readonly peers: () => readonly Peer[];
}

export class EventGatherer {
  readonly #options: EventGathererOptions;
  readonly #end = new AbortController();
  readonly #followed = new Set<Peer>();
  /** Last event number seen, by manager; kept while a link reconnects. */
  readonly #lastSeq = new Map<string, number>();

  constructor(options: EventGathererOptions) {
    this.#options = options;
  }

  /** Starts to read the events of new managers. Call it when managers or links change. */
  changed(): void {
    if (this.#end.signal.aborted) return;
    const peers = this.#options.peers();
    for (const peer of peers) {
      if (peer.state !== 'up' || this.#followed.has(peer)) continue;
      this.#followed.add(peer);
      void this.#follow(peer).finally(() => this.#followed.delete(peer));
    }
    const names = new Set(peers.map(({ name }) => name));
    if (this.#lastSeq.size > KEPT_MAX) {
      for (const name of this.#lastSeq.keys()) if (!names.has(name)) this.#lastSeq.delete(name);
    }
  }

  close(): void {
    this.#end.abort();
  }

  async #follow(peer: Peer): Promise<void> {
    const { events, clock } = this.#options;
    const client = new ManagerClient(peer, clock);
    const { signal } = this.#end;
    let isFirst = true;
    while (!signal.aborted && peer.state === 'up') {
      try {
        const after = this.#lastSeq.get(peer.name) ?? 0;
        const isRestarted = isFirst && after > 0 && (await client.events(0, 0)).every(({ seq }) => seq < after);
        if (isRestarted) this.#lastSeq.set(peer.name, 0);
        const found = await client.events(isRestarted ? 0 : after, WAIT_MS);
        isFirst = false;
        if (signal.aborted) return;
        for (const event of found) {
          this.#lastSeq.set(peer.name, event.seq);
          events.import(event);
        }
        // A draining manager answers early. One that always does must not be asked in a busy loop.
        if (found.length === 0) await pause(clock, EMPTY_PAUSE_MS, signal);
      } catch (thrown) {
        // The link broke, or an older manager lacks the method. A broken link has its own event.
        if (asKatamariError(thrown).code !== 'timeout') await pause(clock, PAUSE_MS, signal);
      }
    }
  }
}

const WAIT_MS = 20_000;
const PAUSE_MS = 1_000;
const EMPTY_PAUSE_MS = 200;
const KEPT_MAX = 1_000;

// What happened, in order, for `katamari events`, the dashboard and the log. A ring: old entries go, numbers never repeat.

import type { EventKind, MeshEvent } from '../../core/rpc/mod.ts';

export class EventLog {
  readonly #process: string;
  readonly #events: MeshEvent[] = [];
  readonly #listeners = new Set<(event: MeshEvent) => void>();
  #seq = 0;

  /** @param process name of this process */
  constructor(process: string) {
    this.#process = process;
  }

  add(kind: EventKind, subject: string, text: string, lines: readonly string[] = []): void {
    this.#enter({ seq: 0, atMs: Date.now(), process: this.#process, kind, subject, text, lines });
  }

  /** Takes over an event of another process, under a number of this log. */
  import(event: MeshEvent): void {
    this.#enter(event);
  }

  #enter(what: MeshEvent): void {
    const event = { ...what, seq: ++this.#seq };
    this.#events.push(event);
    if (this.#events.length > EVENTS_MAX) this.#events.shift();
    for (const listener of this.#listeners) listener(event);
  }

  /** Kept events with a larger number than `seq`, oldest first. */
  after(seq: number): readonly MeshEvent[] {
    const first = this.#events.findIndex((event) => event.seq > seq);
    return first === -1 ? [] : this.#events.slice(first);
  }

  /** Events after `seq`, waiting for the first one up to `waitMs` (at most half a minute). */
  async next(seq: number, waitMs: number): Promise<readonly MeshEvent[]> {
    const found = this.after(seq);
    if (found.length > 0 || waitMs <= 0) return found;
    await new Promise<void>((resolve) => {
      const end = (): void => {
        stop();
        clearTimeout(timer);
        resolve();
      };
      const stop = this.listen(end);
      const timer = setTimeout(end, Math.min(waitMs, WAIT_MS_MAX));
    });
    return this.after(seq);
  }

  /** Calls back for every new event; the returned function ends that. */
  listen(listener: (event: MeshEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

const EVENTS_MAX = 1_000;
const WAIT_MS_MAX = 30_000;

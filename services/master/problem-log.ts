// The problems that the leader sees now. Each is an event once, and again when its text changes.

import type { EventLog } from '../mesh/mod.ts';

export type ProblemKind = 'assigned' | 'order_refused' | 'index_incomplete';

export class ProblemLog {
  readonly #events: EventLog;
  readonly #texts = new Map<ProblemKind, Map<string, string>>();

  constructor(events: EventLog) {
    this.#events = events;
  }

  /** Reports a problem of a subject. Undefined: it has none of this kind. */
  report(kind: ProblemKind, subject: string, text: string | undefined): void {
    const texts = this.#textsOf(kind);
    if (texts.get(subject) === text) return;
    if (text === undefined) texts.delete(subject);
    else {
      texts.set(subject, text);
      this.#events.add(kind, subject, text);
    }
  }

  /** Forgets the problems of other subjects, so that they are reported again if they come back. */
  keepOnly(kind: ProblemKind, subjects: { has(subject: string): boolean }): void {
    const texts = this.#textsOf(kind);
    for (const subject of texts.keys()) if (!subjects.has(subject)) texts.delete(subject);
  }

  #textsOf(kind: ProblemKind): Map<string, string> {
    let texts = this.#texts.get(kind);
    if (texts === undefined) this.#texts.set(kind, (texts = new Map()));
    return texts;
  }
}

// Sessions by id, and the sessions that depend on a check. When a session ends, AgentState
// releases or deletes its keys.

/** A session. Field names are those of the API. */
export interface Session {
  readonly ID: string;
  readonly Name: string;
  readonly Node: string;
  /** In nanoseconds. */
  readonly LockDelay: number;
  readonly Behavior: 'release' | 'delete';
  readonly TTL: string;
  readonly NodeChecks: readonly string[] | null;
  readonly ServiceChecks: readonly { readonly ID: string; readonly Namespace: string }[] | null;
  /** Older name of NodeChecks. */
  readonly Checks?: readonly string[];
  readonly CreateIndex: number;
  readonly ModifyIndex: number;
}

export type NewSession = Omit<Session, 'CreateIndex' | 'ModifyIndex'>;

export class SessionTable {
  readonly #sessions = new Map<string, Session>();
  #tableIndex = 0;

  index(): number {
    return this.#tableIndex;
  }
  get(id: string): Session | undefined {
    return this.#sessions.get(id.toLowerCase());
  }
  list(): Session[] {
    return [...this.#sessions.values()].sort((a, b) => (a.ID < b.ID ? -1 : 1));
  }
  onCheck(node: string, check: string): Session[] {
    return this.list().filter((session) => session.Node === node && checksOf(session).includes(check));
  }

  put(session: Session): void {
    this.#sessions.set(session.ID, session);
    this.#tableIndex = session.ModifyIndex;
  }
  delete(id: string, index: number): void {
    this.#sessions.delete(id);
    this.#tableIndex = index;
  }

  *records(): Iterable<unknown> {
    yield { table: 'sessions', index: this.#tableIndex };
    for (const session of this.#sessions.values()) yield { table: 'sessions', session };
  }

  restore(record: { index?: number; session?: Session }): void {
    if (record.session === undefined) this.#tableIndex = record.index ?? 0;
    else this.#sessions.set(record.session.ID, record.session);
  }
}

/** Returns all checks whose failure ends the session. */
export function checksOf(session: NewSession): string[] {
  return [
    ...(session.Checks ?? []),
    ...(session.NodeChecks ?? []),
    ...(session.ServiceChecks ?? []).map((check) => check.ID),
  ];
}

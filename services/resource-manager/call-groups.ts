// Copies of one call in a pool: the router sends several if a route or the IDL asks for a hedge or a majority
// (services/mesh/robust-calls.ts). No two of them are given to the same chassis, also one after the other, since a
// second answer of the same chassis says nothing new. A copy that failed has not answered, so another one may follow.
//
// A group is known to the deadline of its calls, because its copies may come one by one. Limit: groups that are kept
// after all their copies have ended.

import type { KatamariError } from '../../core/mod.ts';
import type { Call, CallSink, Reply } from '../../core/rpc/mod.ts';

/** A Resource, which is only told from others. */
type Chassis = object;

export class CallGroups {
  /** By the text that their calls share, the oldest first. */
  readonly #groups = new Map<string, CallGroup>();

  /** @param sink of the copy */
  join(call: Call, sink: CallSink, nowMs: number): GroupMember {
    this.#forget(nowMs);
    let group = this.#groups.get(call.group);
    if (group === undefined) this.#groups.set(call.group, (group = new CallGroup()));
    group.keptUntilMs = Math.max(group.keptUntilMs, call.deadlineMs);
    return new GroupMember(group, sink);
  }

  /** Groups that are known. */
  get size(): number {
    return this.#groups.size;
  }

  /** Looks at a few of the oldest groups. */
  #forget(nowMs: number): void {
    let looks = LOOKS_MAX;
    for (const [id, group] of this.#groups) {
      if (looks-- === 0) return;
      const isOver = nowMs >= group.keptUntilMs || this.#groups.size > GROUPS_MAX;
      if (!isOver) return;
      this.#groups.delete(id);
      // Those behind it must not wait for its end.
      if (group.members.size > 0) this.#groups.set(id, group);
    }
  }
}

class CallGroup {
  keptUntilMs = 0;
  /** Copies in the pool. */
  readonly members: Set<GroupMember> = new Set();
  /** The copy that each chassis has got. */
  readonly chassis: Map<Chassis, GroupMember> = new Map();
}

/** One copy in the pool, and the sink that notes its end. */
export class GroupMember implements CallSink {
  readonly #group: CallGroup;
  readonly #sink: CallSink;
  #hasChassis = false;

  constructor(group: CallGroup, sink: CallSink) {
    this.#group = group;
    this.#sink = sink;
    group.members.add(this);
  }

  /** Whether no other copy was given to this chassis. */
  mayTake(resource: Chassis): boolean {
    const other = this.#group.chassis.get(resource);
    return other === undefined || other === this;
  }

  take(resource: Chassis): void {
    this.#hasChassis = true;
    this.#group.chassis.set(resource, this);
  }

  /** Whether the other copies have, or wait for, all chassis of the pool. */
  isOneTooMany(resources: ReadonlySet<Chassis>): boolean {
    let others = 0;
    for (const [resource, member] of this.#group.chassis) if (member !== this && resources.has(resource)) others++;
    for (const member of this.#group.members) if (member !== this && !member.#hasChassis) others++;
    return others > 0 && others >= resources.size;
  }

  reply(reply: Reply): void {
    this.#group.members.delete(this);
    this.#sink.reply(reply);
  }

  fail(error: KatamariError): void {
    const { members, chassis } = this.#group;
    members.delete(this);
    for (const [resource, member] of chassis) if (member === this) chassis.delete(resource);
    this.#sink.fail(error);
  }
}

const GROUPS_MAX = 10_000;
const LOOKS_MAX = 4;

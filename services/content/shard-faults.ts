// Counts the calls of each shard that fail at a content server of this manager, and reports a shard when several in a
// row have failed: its files may be damaged. It counts what the content server is to blame for: an exception that its
// interface does not declare, or its end. A call that is served clears the shards that it names.

import type { Clock, KatamariError } from '../../core/mod.ts';
import type { Call, CallSink, Reply } from '../../core/rpc/mod.ts';
import {
  APPLICATION_EXCEPTION,
  BinaryReader,
  readApplicationException,
  WIRE_OF_KIND,
  type Interface,
} from '../../core/thrift/mod.ts';
import { FAULT_PERIOD_MS, FAULTS_MAX } from './limits.ts';

interface Faults {
  count: number;
  /** Time of the first one. */
  readonly sinceMs: number;
}

/** Gets the error of the last call, and whether this call was about the shard alone. */
type OnSuspect = (shard: string, why: string, isAlone: boolean) => void;

/** Returns the sink that a call gets in place of its own. */
export type WatchCall = (call: Call, sink: CallSink) => CallSink;

export class ShardFaults {
  readonly #clock: Clock;
  readonly #onSuspect: OnSuspect;
  readonly #isServed: (shard: string) => boolean;
  /** By full name. */
  readonly #faults = new Map<string, Faults>();

  /**
   * @param isServed whether the shard is served here; callers may name others
   */
  constructor(
    clock: Clock,
    { isServed, onSuspect }: { readonly isServed: (shard: string) => boolean; readonly onSuspect: OnSuspect },
  ) {
    this.#clock = clock;
    this.#isServed = isServed;
    this.#onSuspect = onSuspect;
  }

  /** How the calls of a pool are watched; undefined when no method is about shards. */
  watch(iface: Interface): WatchCall | undefined {
    const ids = new Map<string, number>();
    for (const { name, args } of iface.methods.values()) {
      const field = args.fields.find((one) => one.name === 'shards' && one.type.kind === 'list');
      if (field !== undefined) ids.set(name, field.id);
    }
    if (ids.size === 0) return undefined;
    return (call, sink) => {
      const id = ids.get(call.method);
      return id === undefined ? sink : new WatchedSink(this, call, id, sink);
    };
  }

  /** Whether no call has failed lately. */
  get isEmpty(): boolean {
    return this.#faults.size === 0;
  }

  served(shards: readonly string[]): void {
    for (const shard of shards) this.#faults.delete(shard);
  }

  failed(shards: readonly string[], why: string): void {
    const nowMs = this.#clock.nowMs();
    for (const [shard, { sinceMs }] of this.#faults) if (nowMs - sinceMs > FAULT_PERIOD_MS) this.#faults.delete(shard);
    for (const shard of shards) {
      if (!this.#isServed(shard)) continue;
      const faults = this.#faults.get(shard) ?? { count: 0, sinceMs: nowMs };
      this.#faults.set(shard, faults);
      if (++faults.count < FAULTS_MAX) continue;
      this.#faults.delete(shard);
      this.#onSuspect(shard, why, shards.length === 1);
    }
  }
}

class WatchedSink implements CallSink {
  readonly #faults: ShardFaults;
  readonly #call: Call;
  readonly #fieldId: number;
  readonly #sink: CallSink;

  constructor(faults: ShardFaults, call: Call, fieldId: number, sink: CallSink) {
    this.#faults = faults;
    this.#call = call;
    this.#fieldId = fieldId;
    this.#sink = sink;
  }

  reply(reply: Reply): void {
    const why = reply.isException ? internalErrorIn(reply.body) : undefined;
    if (why !== undefined) this.#faults.failed(this.#shards(), why);
    else if (!reply.isException && !this.#faults.isEmpty) this.#faults.served(this.#shards());
    this.#sink.reply(reply);
  }

  fail(error: KatamariError): void {
    const { code, message, facts } = error;
    // A call that is itself to blame for the end of a copy says nothing about its shards.
    if (code === 'resource_failed' && facts.notRun !== true && facts.isSuspect !== true)
      this.#faults.failed(this.#shards(), message);
    this.#sink.fail(error);
  }

  /** The shards that the call names; none for arguments that cannot be read. */
  #shards(): readonly string[] {
    try {
      let names: readonly string[] = [];
      const reader = new BinaryReader(this.#call.args);
      for (let wire = reader.byte(); wire !== WIRE_OF_KIND.void; wire = reader.byte()) {
        const id = reader.i16();
        if (id !== this.#fieldId || wire !== WIRE_OF_KIND.list) {
          reader.skip(wire);
          continue;
        }
        const element = reader.byte();
        const count = reader.size(4);
        if (count > 0 && element !== WIRE_OF_KIND.string) return [];
        names = Array.from({ length: count }, () => reader.string());
      }
      return names;
    } catch {
      return [];
    }
  }
}

/** The message of an exception that the interface does not declare; undefined for other exceptions. */
function internalErrorIn(body: Uint8Array): string | undefined {
  try {
    const { type, message } = readApplicationException(body);
    return type === APPLICATION_EXCEPTION.internalError ? message : undefined;
  } catch {
    return undefined;
  }
}

// The estimated free resources of a remote pool: the last report of its manager, less the calls sent since.

import { describe, expect, test } from 'vitest';
import { parseIdl } from '../../../core/idl/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import { createCall, EMPTY_STRUCT, type Call, type CallSink, type Reply } from '../../../core/rpc/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import type { Peer } from '../../../services/mesh/mod.ts';
import { RemotePool } from '../../../services/mesh/remote-pool.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';

const source = { main: 'work.thrift', files: { 'work.thrift': 'service Work { i32 plain() }' } };
const work = parseIdl(source).services.get('Work') as Interface;
const clock = new ManualClock();

/** A manager that answers when the test says so. */
class Manager {
  readonly name = 'one';
  readonly isUsable = true;
  heard = 0;
  asked = 0;
  readonly #calls: CallSink[] = [];
  probe(): void {
    this.asked++;
  }
  send(_call: Call, sink: CallSink): void {
    this.#calls.push(sink);
  }
  answer(freeNow: number): void {
    this.heard++;
    const context = { queueUs: 0, serviceUs: 0, version: '1.0.0', freeNow, queuedNow: 0 };
    this.#calls.shift()?.reply({ isException: false, body: EMPTY_STRUCT, context } as unknown as Reply);
  }
  refuse(): void {
    this.heard++;
    this.#calls.shift()?.fail(new KatamariError('overloaded', 'none is free', { notRun: true }));
  }
}

function start(alive = 2) {
  const manager = new Manager();
  const record = { id: 'Work@1.0.0', service: 'Work', version: '1.0.0', roles: [], tags: [], more: {} };
  const pool = new RemotePool(
    { ...record, interfaceId: work.id, alive },
    work,
    manager as unknown as Peer,
    clock,
    () => undefined,
  );
  const send = (doNotQueue: boolean): void => {
    pool.send(callOf(doNotQueue), { reply: () => undefined, fail: () => undefined });
  };
  return { manager, pool, send };
}

describe('RemotePool.free', () => {
  test("is the manager's last report less the calls sent since", () => {
    const { manager, pool, send } = start();
    expect(pool.free).toBe(2);
    send(true);
    expect(pool.free).toBe(1);
    send(true);
    expect([pool.free, pool.queued]).toEqual([0, 0]);
    send(false);
    expect([pool.free, pool.queued]).toEqual([0, 1]);
    manager.answer(1);
    expect([pool.free, pool.queued]).toEqual([1, 0]);
  });

  test('is one when the report is old, and allows one call until the manager answers', () => {
    const { manager, pool, send } = start();
    send(true);
    send(true);
    expect([pool.free, manager.asked]).toEqual([0, 0]);
    clock.advance(100);
    expect(pool.free).toBe(1);
    send(true);
    // A frozen manager would attract every call that finds the others busy.
    expect([pool.free, manager.asked]).toEqual([0, 1]);
    clock.advance(10_000);
    expect(pool.free).toBe(0);
    manager.heard++;
    expect(pool.free).toBe(1);
    send(true);
    manager.refuse();
    expect(pool.free).toBe(0);
    clock.advance(100);
    expect(pool.free).toBe(1);
  });

  test('does not change when the manager refuses the copy of a call', () => {
    const { manager, pool } = start();
    const copy = { ...callOf(true), headers: { 'katamari-mirror': '1' } };
    pool.send(copy, { reply: () => undefined, fail: () => undefined });
    expect(pool.free).toBe(1);
    manager.refuse();
    expect(pool.free).toBe(2);
  });

  test('is not in doubt because of calls that may queue', () => {
    const { manager, pool, send } = start(1);
    send(true);
    send(false);
    clock.advance(100);
    expect([pool.free, manager.asked]).toEqual([1, 0]);
  });
});

function callOf(doNotQueue: boolean): Call {
  const deadlineMs = clock.nowMs() + 60_000;
  return createCall({ service: 'Work', version: '1.0.0', method: 'plain', args: EMPTY_STRUCT, deadlineMs, doNotQueue });
}

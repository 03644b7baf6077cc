// Requests of gathered calls, without a mesh: managers are functions that answer or fail.
import { describe, expect, test } from 'vitest';
import { KatamariError } from '../../../core/mod.ts';
import { createCall, NO_REPLY_CONTEXT, type CallSink, type Send } from '../../../core/rpc/mod.ts';
import { APPLICATION_EXCEPTION, writeApplicationException } from '../../../core/thrift/mod.ts';
import type { GatherTools } from '../../../services/gather/gather-tools.ts';
import { Scatter, type ScatterEnd, type ScatterOptions } from '../../../services/gather/scatter.ts';
import { serversText, ShardServer, type ServedIndex } from '../../../services/gather/shard-map.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';
import { ONE, toolsOf, TOTAL, WORDS } from './gather-tools.ts';

const NAMES = ['w@1.0.0/a', 'w@1.0.0/b'];

function serverOf(manager: string, send: Send): ShardServer {
  const details = { service: 'Words', version: '1.0.0', roles: [], tags: [], more: {} };
  const offer = {
    id: manager,
    manager,
    details,
    interface: WORDS,
    isReachable: true,
    queued: 0,
    alive: 1,
    free: 1,
    send,
  };
  return new ShardServer(manager, offer);
}

function indexOf(...managers: readonly ShardServer[]): ServedIndex {
  return {
    id: 'w@1.0.0',
    manifest: '',
    names: NAMES,
    places: [0, 1],
    placeOf: new Map(NAMES.map((name, place) => [name, place])),
    holders: NAMES.map(() => managers),
    managers,
    failures: new Map(),
    server: serversText(managers),
    again: () => undefined,
  };
}

const answer = (sink: CallSink): void => sink.reply({ isException: false, body: ONE, context: NO_REPLY_CONTEXT });

/** Starts a call of all shards. Returns how it ends, once it has. */
function gather(
  tools: GatherTools,
  index: ServedIndex,
  clock: ManualClock,
  options: Partial<ScatterOptions> = {},
): ScatterEnd[] {
  const ends: ScatterEnd[] = [];
  const args = new Uint8Array([0]);
  new Scatter(tools, {
    index,
    method: TOTAL,
    places: [0, 1],
    call: createCall({ service: 'w', method: 'total', args, deadlineMs: clock.nowMs() + 4_000 }),
    argsFor: () => args,
    minCoverage: 1,
    decode: () => undefined,
    onEnd: (end) => ends.push(end),
    ...options,
  }).start();
  return ends;
}

describe('Calls of an index', () => {
  test('that are under way on a manager when it is killed all go to another one', () => {
    const clock = new ManualClock();
    const tools = toolsOf(clock);
    let isWaiting = false;
    const waiting: CallSink[] = [];
    const first = serverOf('m1', (_, sink) => (isWaiting ? void waiting.push(sink) : answer(sink)));
    const index = indexOf(
      first,
      serverOf('m2', (_, sink) => answer(sink)),
    );
    const call = (): ScatterEnd[] => gather(tools, index, clock);
    // Everyday traffic.
    for (let calls = 0; calls < 1_000; calls++) expect(call()).toMatchObject([{ kind: 'answered', missing: [] }]);
    isWaiting = true;
    // Too few to make the second manager the better one.
    const ends = Array.from({ length: 50 }, () => {
      first.inFlight = 0;
      return call();
    });
    expect(waiting.length).toBe(50);
    for (const sink of waiting) sink.fail(new KatamariError('resource_failed', 'm1 has gone'));
    expect(ends.map(([end]) => end?.kind === 'answered' && end.missing.length)).toEqual(ends.map(() => 0));
  });

  test('on a copy that hangs go to another manager, also when many do and when no times are known', () => {
    const clock = new ManualClock();
    const tools = toolsOf(clock);
    const hanging = serverOf('m1', () => undefined);
    const index = indexOf(
      hanging,
      serverOf('m2', (_, sink) => answer(sink)),
    );
    // More than the budget allows at once: one a second.
    const ends = Array.from({ length: 3 }, () => {
      hanging.inFlight = 0;
      return gather(tools, index, clock);
    });
    expect(ends.flat()).toEqual([]);
    for (let ms = 0; ms < 3_900; ms += 10) clock.advance(10);
    for (const [end] of ends) expect(end).toMatchObject({ kind: 'answered', missing: [], hedged: 1 });
  });

  test('go to another manager when a content server fails, and not when it refuses them', () => {
    const clock = new ManualClock();
    const ends = [APPLICATION_EXCEPTION.internalError, APPLICATION_EXCEPTION.unknownMethod].map((type) => {
      const body = writeApplicationException('it broke', type);
      const bad = serverOf('m1', (_, sink) => sink.reply({ isException: true, body, context: NO_REPLY_CONTEXT }));
      const good = serverOf('m2', (_, sink) => answer(sink));
      return gather(toolsOf(clock), indexOf(bad, good), clock)[0];
    });
    expect(ends).toMatchObject([
      { kind: 'answered', missing: [], retried: 1 },
      { kind: 'answered', answers: [], retried: 0, missing: [{ why: 'it broke' }, { why: 'it broke' }] },
    ]);
  });

  test('wait for a replica of a shard that no manager serves, within their deadline', () => {
    const clock = new ManualClock();
    const tools = toolsOf(clock);
    const good = serverOf('m1', (_, sink) => answer(sink));
    let now: ServedIndex = indexOf();
    const gone: ServedIndex = { ...now, again: () => now };
    const waiting = gather(tools, gone, clock);
    tools.replicaWaits.changed();
    expect(waiting).toEqual([]);
    now = indexOf(good);
    tools.replicaWaits.changed();
    expect(waiting).toMatchObject([{ kind: 'answered', missing: [], retried: 0 }]);
    // A request that had to wait for a manager is not a repeated one.
    expect(tools.counts.requests).toEqual({ first: 1, retry: 0, hedge: 0 });
    now = gone;
    const late = gather(tools, gone, clock);
    clock.advance(3_999);
    expect(late).toEqual([]);
    clock.advance(1_000);
    const lost = NAMES.map((shard) => ({ shard, lack: 1, why: 'no manager that can be reached serves it' }));
    expect(late).toMatchObject([{ kind: 'answered', answers: [], missing: lost }]);
    // It has been missing for long: nobody waits in vain for it.
    clock.advance(60_000);
    expect(gather(tools, gone, clock)).toMatchObject([{ missing: lost }]);
  });

  test('that wait for a replica after a failure count as repeated', () => {
    const clock = new ManualClock();
    const tools = toolsOf(clock);
    const good = serverOf('m2', (_, sink) => answer(sink));
    const waiting: CallSink[] = [];
    const leaving = serverOf('m1', (_, sink) => void waiting.push(sink));
    const ends = gather(tools, { ...indexOf(leaving), again: () => indexOf(good) }, clock);
    leaving.offer = { ...leaving.offer, isReachable: false };
    waiting[0]?.fail(new KatamariError('resource_failed', 'm1 has gone'));
    expect(ends).toEqual([]);
    tools.replicaWaits.changed();
    expect(ends).toMatchObject([{ kind: 'answered', missing: [], retried: 1 }]);
    expect(tools.counts.requests).toEqual({ first: 1, retry: 1, hedge: 0 });
  });

  test('that wait for replicas are refused when they need too many requests', () => {
    const clock = new ManualClock();
    const tools = toolsOf(clock);
    const good = serverOf('m1', (_, sink) => answer(sink));
    const checkRequests = (count: number): void => {
      if (count > 0) throw new KatamariError('bad_request', `${count} requests are too many`);
    };
    const ends = gather(tools, { ...indexOf(), again: () => indexOf(good) }, clock, { checkRequests });
    expect(ends).toEqual([]);
    tools.replicaWaits.changed();
    expect(ends).toMatchObject([{ kind: 'failed', error: { message: '1 requests are too many' } }]);
  });

  test('do not wait for a replica that they can do without', () => {
    const clock = new ManualClock();
    const good = serverOf('m1', (_, sink) => answer(sink));
    const index = { ...indexOf(good), holders: [[good], []] };
    expect(gather(toolsOf(clock), index, clock, { minCoverage: 0.5 })).toMatchObject([
      { missing: [{ shard: NAMES[1], lack: 1 }] },
    ]);
  });
});

describe('Kept statistics', () => {
  test('are those of the versions of all content servers', () => {
    const [one, two] = [serverOf('m1', () => undefined), serverOf('m2', () => undefined)];
    two.offer = { ...two.offer, details: { ...two.offer.details, version: '2.0.0' } };
    expect(serversText([one, two])).toBe('Words@1.0.0 Words@2.0.0');
    expect(serversText([two, one])).toBe('Words@1.0.0 Words@2.0.0');
    expect(serversText([one])).toBe('Words@1.0.0');
  });
});

// Requests of gathered calls, without a mesh: managers are functions that answer or fail.
import { describe, expect, test } from 'vitest';
import { encodeStruct, parseIdl } from '../../../core/idl/mod.ts';
import { DeadlineWheel } from '../../../core/link/mod.ts';
import { KatamariError, RetryBudget } from '../../../core/mod.ts';
import { createCall, NO_REPLY_CONTEXT, type CallSink, type Send } from '../../../core/rpc/mod.ts';
import type { Interface, Method } from '../../../core/thrift/mod.ts';
import { GatherCounts } from '../../../services/gather/gather-counts.ts';
import { HedgeBudget } from '../../../services/gather/hedge-budget.ts';
import { RequestLatencies } from '../../../services/gather/latencies.ts';
import { Scatter, type GatherTools, type ScatterEnd } from '../../../services/gather/scatter.ts';
import { ShardServer, type ServedIndex } from '../../../services/gather/shard-map.ts';
import { StatisticsCache } from '../../../services/gather/statistics-cache.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';

const IDL = `service Words {
  i64 total(1: optional list<string> shards) (katamari.readonly = "true", katamari.gather = "sum")
}`;
const WORDS = parseIdl({ main: 'words.thrift', files: { 'words.thrift': IDL } }).services.get('Words') as Interface;
const TOTAL = WORDS.methods.get('total') as Method;
const ONE = encodeStruct(TOTAL.result, { success: 1n });
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
    placeOf: new Map(NAMES.map((name, place) => [name, place])),
    holders: NAMES.map(() => managers),
    managers,
  };
}

const answer = (sink: CallSink): void => sink.reply({ isException: false, body: ONE, context: NO_REPLY_CONTEXT });

function toolsOf(clock: ManualClock): GatherTools {
  return {
    clock,
    deadlines: new DeadlineWheel(clock),
    retries: new RetryBudget(clock),
    hedges: new HedgeBudget(clock),
    latencies: new RequestLatencies(),
    statistics: new StatisticsCache(),
    counts: new GatherCounts(),
  };
}

/** Starts a call with 4 s. Returns its end, once it is there. */
function start(tools: GatherTools, index: ServedIndex): ScatterEnd[] {
  const { clock } = tools;
  const ends: ScatterEnd[] = [];
  const deadlineMs = clock.nowMs() + 4_000;
  new Scatter(tools, {
    index,
    method: TOTAL,
    places: [0, 1],
    call: createCall({ service: 'w', method: 'total', args: new Uint8Array([0]), deadlineMs }),
    argsFor: () => new Uint8Array([0]),
    minCoverage: 1,
    decode: () => undefined,
    onEnd: (end) => ends.push(end),
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
    const call = (): ScatterEnd[] => start(tools, index);
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
      return start(tools, index);
    });
    expect(ends.flat()).toEqual([]);
    for (let ms = 0; ms < 3_900; ms += 10) clock.advance(10);
    for (const [end] of ends) expect(end).toMatchObject({ kind: 'answered', missing: [], hedged: 1 });
  });
});

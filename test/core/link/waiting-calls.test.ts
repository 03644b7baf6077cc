import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../kit/tools/manual-clock.ts';
import { Random } from '../../kit/tools/random.ts';
import {
  DeadlineWheel,
  leaveList,
  unwatchCaller,
  type WaitingCall,
  WaitingCalls,
  WaitingCallsByKey,
  type Waitable,
  type Waiter,
  watchCaller,
  CallSignal,
} from '../../../core/link/mod.ts';
import { KatamariError } from '../../../core/mod.ts';

class Entry implements WaitingCall {
  readonly call: Waitable;
  readonly arrival: number;
  readonly expiresAtMs = 1_000;
  slot = -1;
  place = -1;
  next: Entry | undefined;
  previous: Entry | undefined;
  list: WaitingCalls<Entry> | undefined;
  isListening = false;
  aborts = 0;

  constructor(arrival: number, signal?: AbortSignal) {
    this.arrival = arrival;
    this.call = { deadlineMs: 1_000, signal };
  }

  expire(): void {
    leaveList(this);
  }

  handleEvent(): void {
    leaveList(this);
    this.aborts++;
  }
}

function arrivals(list: WaitingCalls<Entry>): number[] {
  const found: number[] = [];
  for (let one = list.head; one !== undefined; one = one.next) found.push(one.arrival);
  return found;
}

describe('WaitingCalls', () => {
  test('takes calls in order up to its limit, and puts one back at its old position even when it is full', () => {
    const list = new WaitingCalls<Entry>(3);
    const [a, b, c, d] = [0, 1, 2, 3].map((n) => new Entry(n)) as [Entry, Entry, Entry, Entry];
    expect([list.push(a), list.push(b)]).toEqual([true, true]);
    expect(list.shift()).toBe(a);
    expect([list.push(c), list.push(d), list.isFull]).toEqual([true, true, true]);
    expect(list.push(new Entry(4))).toBe(false);
    list.putBack(a);
    expect([arrivals(list), list.length]).toEqual([[0, 1, 2, 3], 4]);
  });

  test('behaves like a sorted array whatever is added and removed', () => {
    const random = new Random(7);
    const list = new WaitingCalls<Entry>(1_000);
    let model: Entry[] = [];
    const out: Entry[] = [];
    for (let n = 0; n < 5_000; n++) {
      const act = random.below(4);
      if (act === 0 || model.length === 0) {
        const entry = new Entry(n);
        list.push(entry);
        model.push(entry);
      } else if (act === 1) {
        const entry = model.splice(random.below(model.length), 1)[0] as Entry;
        leaveList(entry);
        leaveList(entry);
        out.push(entry);
      } else if (act === 2) {
        expect(list.shift()).toBe(model.shift());
      } else {
        const entry = out.pop();
        if (entry === undefined) continue;
        list.putBack(entry);
        model = [...model, entry].sort((a, b) => a.arrival - b.arrival);
      }
      expect(list.length).toBe(model.length);
    }
    expect(arrivals(list)).toEqual(model.map(({ arrival }) => arrival));
  });

  test('removes a call whose caller disconnects, once, and is not notified after it stopped listening', () => {
    const list = new WaitingCalls<Entry>(10);
    const signal = new CallSignal();
    const [gone, served, other] = [new Entry(0, signal), new Entry(1, signal), new Entry(2)] as const;
    for (const entry of [gone, served, other]) {
      list.push(entry);
      watchCaller(entry);
      watchCaller(entry);
    }
    leaveList(served);
    unwatchCaller(served);
    signal.abort(new KatamariError('cancelled', 'by the test'));
    expect([gone.aborts, served.aborts, arrivals(list)]).toEqual([1, 0, [2]]);
  });

  test('keeps the waiting calls when its limit shrinks', () => {
    const list = new WaitingCalls<Entry>(2);
    list.push(new Entry(0));
    list.push(new Entry(1));
    list.max = 1;
    expect([list.length, list.isFull]).toEqual([2, true]);
  });
});

/** Calls by key with a log of how each wait ended. */
function setUp(max = 100) {
  const clock = new ManualClock();
  const waiting = new WaitingCallsByKey({ clock, deadlines: new DeadlineWheel(clock), max });
  const log: string[] = [];
  const waiterOf = (name: string): Waiter => ({
    resume: (waitedMs) => log.push(`${name} resumed after ${waitedMs}`),
    fail: ({ code, message }) => log.push(`${name} ${code}: ${message}`),
    timeoutError: (waitedMs) => new KatamariError('timeout', `${waitedMs} ms`),
  });
  const add = (key: string, name: string, change: Partial<Waitable> = {}, keyMax = 10): boolean =>
    waiting.add(key, keyMax, { deadlineMs: clock.nowMs() + 1_000, signal: undefined, ...change }, waiterOf(name));
  return { clock, waiting, log, add, waiterOf };
}

describe('WaitingCallsByKey', () => {
  test('resumes the calls of one key in order, with their waiting times, and no others', () => {
    const { clock, waiting, log, add } = setUp();
    add('a', 'first');
    clock.advance(30);
    add('a', 'second');
    add('b', 'other');
    clock.advance(20);
    waiting.resume('a');
    expect(log).toEqual(['first resumed after 50', 'second resumed after 20']);
    expect([waiting.count('a'), waiting.count('b'), waiting.count()]).toEqual([0, 1, 1]);
    waiting.resume();
    expect(log.at(-1)).toBe('other resumed after 20');
  });

  test('refuses a call over the limit of its key, and over the total limit', () => {
    const { waiting, log, add } = setUp(3);
    expect([add('a', '1', {}, 2), add('a', '2', {}, 2), add('a', '3', {}, 2)]).toEqual([true, true, false]);
    expect([add('b', '4', {}, 2), add('b', '5', {}, 2), waiting.isFull('c', 2)]).toEqual([true, false, true]);
    waiting.resume('a');
    expect([add('b', '6', {}, 2), waiting.count()]).toEqual([true, 2]);
    expect(log).toHaveLength(2);
  });

  test('fails a call at its deadline, at most one tick late, and stops its timer when none waits', () => {
    const { clock, waiting, log, add } = setUp();
    add('a', 'late', { deadlineMs: clock.nowMs() + 95 });
    clock.advance(90);
    expect(log).toEqual([]);
    clock.advance(20);
    expect(log).toEqual(['late timeout: 100 ms']);
    clock.advance(20);
    expect([waiting.count(), clock.waiting]).toEqual([0, 0]);
  });

  test('fails a call whose caller disconnects, or has already disconnected', () => {
    const { waiting, log, add } = setUp();
    const signal = new CallSignal();
    add('a', 'waits', { signal });
    signal.abort(new KatamariError('cancelled', 'by the test'));
    add('a', 'came late', { signal });
    expect(log).toEqual(['waits cancelled: The caller has gone', 'came late cancelled: The caller has gone']);
    expect(waiting.count()).toBe(0);
  });

  test('settles each call once, whatever happens later', () => {
    const { clock, waiting, log, add } = setUp();
    const signal = new CallSignal();
    add('a', 'one', { signal });
    add('b', 'two', { signal });
    waiting.refuse(() => new KatamariError('draining', 'over'), 'a');
    waiting.resume('b');
    signal.abort(new KatamariError('cancelled', 'by the test'));
    clock.advance(2_000);
    waiting.resume();
    expect(log).toEqual(['one draining: over', 'two resumed after 0']);
  });

  test('does not resume a call twice that waits again while it is resumed', () => {
    const { clock, waiting } = setUp();
    let resumed = 0;
    const call = { deadlineMs: clock.nowMs() + 1_000, signal: undefined };
    const waiter: Waiter = {
      resume: () => {
        resumed++;
        waiting.add('a', 10, call, waiter);
      },
      fail: () => undefined,
      timeoutError: () => new KatamariError('timeout', ''),
    };
    for (let n = 0; n < 3; n++) waiting.add('a', 10, call, waiter);
    waiting.resume();
    expect([resumed, waiting.count()]).toEqual([3, 3]);
  });

  test('counts correctly and settles every call exactly once in random runs', () => {
    const seed = Date.now() % 2 ** 31;
    const random = new Random(seed);
    const { clock, waiting, log, add } = setUp(50);
    let added = 0;
    for (let n = 0; n < 3_000; n++) {
      const key = `k${random.below(4)}`;
      const act = random.below(10);
      const signal = act === 0 ? new CallSignal() : undefined;
      if (act < 7) {
        if (add(key, `${n}`, { deadlineMs: clock.nowMs() + random.below(300), signal }, 20)) added++;
      } else if (act === 7) waiting.resume(key);
      else if (act === 8) waiting.refuse(() => new KatamariError('draining', 'over'), key);
      else clock.advance(random.below(50));
      if (random.below(2) === 0) signal?.abort(new KatamariError('cancelled', 'by the test'));
      const sum = [0, 1, 2, 3].reduce((total, k) => total + waiting.count(`k${k}`), 0);
      expect([seed, n, sum, added - log.length]).toEqual([seed, n, waiting.count(), waiting.count()]);
      expect(sum).toBeLessThanOrEqual(50);
    }
    clock.advance(1_000);
    expect(waiting.count()).toBe(0);
    const names = log.map((line) => line.split(' ')[0]);
    expect(new Set(names).size).toBe(added);
  });
});

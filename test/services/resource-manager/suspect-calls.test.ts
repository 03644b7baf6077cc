import { describe, expect, test } from 'vitest';
import { createCall, type Call } from '../../../core/rpc/mod.ts';
import { SuspectCalls, type LossCause } from '../../../services/resource-manager/suspect-calls.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';

function bench() {
  const clock = new ManualClock();
  const told: string[] = [];
  const suspects = new SuspectCalls({ pool: 'Echo@1.0.0', clock, onRefusing: (why) => told.push(why) });
  const call = (text: string, change: Partial<Call> = {}): Call =>
    createCall({
      service: 'Echo',
      method: 'say',
      args: Buffer.from(text),
      deadlineMs: clock.nowMs() + 10_000,
      caller: 'thrift 127.0.0.1:5001',
      ...change,
    });
  const lose = (text: string, isCertain: boolean, cause: LossCause): boolean =>
    suspects.settle(suspects.note(call(text), 'Echo@1.0.0/1', isCertain), cause);
  const refusedMs = (text: string, change: Partial<Call> = {}): number | undefined =>
    suspects.refusalOf(call(text, change), clock.nowMs())?.facts.retryAfterMs;
  return { clock, told, suspects, call, lose, refusedMs };
}

describe('SuspectCalls', () => {
  test('refuses the same caller, method and arguments, and nobody else', () => {
    const { suspects, told, lose, refusedMs, call, clock } = bench();
    expect(suspects.isEmpty).toBe(true);
    expect(lose('bad', true, 'ended')).toBe(true);
    expect(refusedMs('bad')).toBe(10_000);
    expect(refusedMs('bad', { caller: 'thrift 127.0.0.1:6002' })).toBe(10_000);
    expect(suspects.refusalOf(call('bad'), clock.nowMs())).toMatchObject({
      code: 'refused_as_poison',
      facts: { notRun: true },
    });
    for (const change of [{ caller: 'thrift 127.0.0.2:5001' }, { method: 'tell' }])
      expect(refusedMs('bad', change)).toBeUndefined();
    expect(refusedMs('good')).toBeUndefined();
    expect(told).toEqual([
      expect.stringMatching(
        /^say of thrift 127\.0\.0\.1 with arguments [0-9a-f]{16}\/3 cost Echo@1\.0\.0\/1 .*: such calls are refused for 10 s$/,
      ),
    ]);
  });

  test('lets one call try when the time is over, doubles the time after each further loss, and forgets', () => {
    const { clock, lose, refusedMs, suspects } = bench();
    for (const seconds of [10, 20, 40, 80, 160, 320, 600, 600]) {
      lose('bad', true, 'ended');
      expect(refusedMs('bad')).toBe(seconds * 1_000);
      clock.advance(seconds * 1_000);
      expect(refusedMs('bad')).toBeUndefined();
      // While that one runs, the others wait for its result.
      expect(refusedMs('bad')).toBe(10_000);
    }
    clock.advance(60_000);
    expect(refusedMs('bad')).toBeUndefined();
    expect([suspects.isEmpty, suspects.list()]).toEqual([true, []]);
  });

  test('counts equal calls that were lost together once', () => {
    const { lose, refusedMs } = bench();
    for (let n = 0; n < 5; n++) lose('bad', true, 'ended');
    expect(refusedMs('bad')).toBe(10_000);
  });

  test('acquits an equal call that was answered, at any time', () => {
    const { suspects, call, lose, refusedMs } = bench();
    lose('good', true, 'ended');
    suspects.acquit(call('bad'));
    expect(refusedMs('good')).toBe(10_000);
    suspects.acquit(call('good'));
    expect([refusedMs('good'), suspects.isEmpty]).toEqual([undefined, true]);
    const loss = suspects.note(call('good'), 'Echo@1.0.0/1', true);
    suspects.acquit(call('good'));
    expect(suspects.settle(loss, 'ended')).toBe(true);
    lose('good', false, 'ended');
    suspects.acquit(call('good'));
    lose('good', false, 'ended');
    expect(refusedMs('good')).toBeUndefined();
  });

  test('refuses nothing until it is known whether the copy was killed from outside', () => {
    const { suspects, call, refusedMs } = bench();
    const losses = ['a', 'a'].map((text) => suspects.note(call(text), 'Echo@1.0.0/1', true));
    expect(refusedMs('a')).toBeUndefined();
    expect(losses.map((loss) => suspects.settle(loss, 'killed from outside'))).toEqual([false, false]);
    expect([refusedMs('a'), suspects.list()]).toMatchObject([undefined, [{ losses: 0, doubts: 1 }]]);
  });

  test.each([
    ['one of several that ran in the copy', false, 'ended', true],
    ['alone in a copy that was killed from outside', true, 'killed from outside', false],
    ['one of several in a copy that was killed from outside', false, 'killed from outside', false],
  ] as const)('refuses a call that was %s only the second time', (_, isCertain, cause, isSuspect) => {
    const { lose, refusedMs, told, suspects, clock } = bench();
    expect([lose('a', isCertain, cause), refusedMs('a'), told.length]).toEqual([isSuspect, undefined, 0]);
    expect(suspects.list()).toMatchObject([{ losses: 0, doubts: 1, refusedForMs: 0 }]);
    expect([lose('a', isCertain, cause), refusedMs('a'), told.length]).toEqual([true, 10_000, 1]);
    expect([lose('b', isCertain, cause), refusedMs('b')]).toEqual([isSuspect, undefined]);
    clock.advance(60_000);
    expect([lose('b', isCertain, cause), refusedMs('b')]).toEqual([isSuspect, undefined]);
  });

  test('blames one of several when the process lives on: only that connection was lost', () => {
    const { lose, refusedMs, told } = bench();
    expect([lose('a', false, 'lives'), refusedMs('a'), told.length]).toEqual([true, 10_000, 1]);
  });

  test('keeps a bounded number of records, and finds none for methods without one', () => {
    const { lose, suspects, refusedMs } = bench();
    for (let n = 0; n < 2_000; n++) lose(`${n}`, true, 'ended');
    expect(suspects.list().length).toBe(1_000);
    expect([refusedMs('0'), refusedMs('1999')]).toEqual([undefined, 10_000]);
  });
});

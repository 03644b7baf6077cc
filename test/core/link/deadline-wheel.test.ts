import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../kit/tools/manual-clock.ts';
import { Random } from '../../kit/tools/random.ts';
import { DeadlineWheel, type DeadlineEntry } from '../../../core/link/mod.ts';

describe('DeadlineWheel', () => {
  test('expires every entry at its time and at most one tick late', () => {
    const clock = new ManualClock();
    const wheel = new DeadlineWheel(clock);
    const random = new Random(21);
    const late: number[] = [];
    const startMs = clock.nowMs();
    for (let i = 0; i < 1_000; i++) {
      const entry = entryAt(startMs + random.next() * 60_000, () => late.push(clock.nowMs() - entry.expiresAtMs));
      wheel.add(entry);
    }
    for (let passed = 0; passed < 60_020; passed += 5) clock.advance(5);
    expect(late).toHaveLength(1_000);
    expect(Math.min(...late)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...late)).toBeLessThanOrEqual(20);
  });

  test('never expires a removed entry, and has no timer when it is empty', () => {
    const clock = new ManualClock();
    const wheel = new DeadlineWheel(clock);
    const ended: number[] = [];
    const entries = Array.from({ length: 100 }, (_, i) => entryAt(clock.nowMs() + 100, () => ended.push(i)));
    for (const entry of entries) wheel.add(entry);
    for (const [i, entry] of entries.entries()) if (i % 3 !== 0) wheel.remove(entry);
    wheel.remove(entries[1] as DeadlineEntry);
    clock.advance(200);
    expect(ended.sort((a, b) => a - b)).toEqual(entries.map((_, i) => i).filter((i) => i % 3 === 0));
    expect(clock.waiting).toBe(0);
  });

  test('expires an entry in the past at the next tick', () => {
    const clock = new ManualClock();
    const wheel = new DeadlineWheel(clock);
    let ended = 0;
    wheel.add(entryAt(clock.nowMs() - 5_000, () => ended++));
    expect(ended).toBe(0);
    clock.advance(20);
    expect(ended).toBe(1);
  });

  test('catches up after the process was stopped for more than a round', () => {
    const clock = new JumpingClock();
    const wheel = new DeadlineWheel(clock);
    let ended = 0;
    for (let i = 0; i < 50; i++) wheel.add(entryAt(clock.nowMs() + i * 1_000, () => ended++));
    wheel.add(entryAt(clock.nowMs() + 10_000_000, () => ended++));
    clock.jump(100_000);
    expect(ended).toBe(50);
  });

  test('sleeps until the next deadline, also when an earlier one comes and goes', () => {
    const clock = new CountingClock();
    const wheel = new DeadlineWheel(clock);
    let ended = 0;
    wheel.add(entryAt(clock.nowMs() + 19_000, () => ended++));
    const brief = entryAt(clock.nowMs() + 300, () => ended++);
    wheel.add(brief);
    wheel.remove(brief);
    wheel.add(entryAt(clock.nowMs() + 200, () => ended++));
    clock.advance(250);
    expect(ended).toBe(1);
    clock.advance(19_000);
    expect(ended).toBe(2);
    expect(clock.fired).toBeLessThanOrEqual(3);
    expect(clock.waiting).toBe(0);
  });

  test('expires an entry that an expiring one adds too late', () => {
    const clock = new ManualClock();
    const wheel = new DeadlineWheel(clock);
    let ended = 0;
    wheel.add(entryAt(clock.nowMs() + 50, () => wheel.add(entryAt(clock.nowMs() - 1_000, () => ended++))));
    clock.advance(100);
    expect(ended).toBe(1);
  });

  test('expires the others in time when an entry throws, which is reported', () => {
    const clock = new ManualClock();
    const defects: unknown[] = [];
    const wheel = new DeadlineWheel(clock, (error) => defects.push(error));
    let ended = 0;
    const fail = (): never => {
      throw new Error('a defect');
    };
    for (const expire of [fail, () => ended++, () => ended++]) wheel.add(entryAt(clock.nowMs() + 50, expire));
    wheel.add(entryAt(clock.nowMs() + 90, () => ended++));
    clock.advance(100);
    expect(ended).toBe(3);
    expect(defects).toEqual([new Error('a defect')]);
  });

  test('allows an expiring entry to remove others and add new ones', () => {
    const clock = new ManualClock();
    const wheel = new DeadlineWheel(clock);
    const ended: string[] = [];
    const second = entryAt(clock.nowMs() + 50, () => ended.push('second'));
    const third = entryAt(clock.nowMs() + 90, () => ended.push('third'));
    const first = entryAt(clock.nowMs() + 50, () => {
      ended.push('first');
      wheel.remove(second);
      wheel.add(third);
    });
    wheel.add(first);
    wheel.add(second);
    clock.advance(200);
    expect(ended).toEqual(['first', 'third']);
  });
});

function entryAt(expiresAtMs: number, expire: () => void): DeadlineEntry {
  return { expiresAtMs, expire, slot: -1, place: -1 };
}

class CountingClock extends ManualClock {
  fired = 0;

  override after(delayMs: number, act: () => void): () => void {
    return super.after(delayMs, () => {
      this.fired++;
      act();
    });
  }
}

/** A clock whose time jumps before its one timer fires, as after SIGSTOP. */
class JumpingClock {
  #nowMs = 5_000;
  #act: (() => void) | undefined;

  nowMs(): number {
    return this.#nowMs;
  }

  after(_delayMs: number, act: () => void): () => void {
    this.#act = act;
    return () => {};
  }

  jump(byMs: number): void {
    this.#nowMs += byMs;
    this.#act?.();
  }
}

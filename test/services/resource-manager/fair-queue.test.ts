import { describe, expect, test } from 'vitest';
import { leaveList } from '../../../core/link/mod.ts';
import { FairQueue, type FairCall } from '../../../services/resource-manager/fair-queue.ts';
import { Random } from '../../kit/tools/random.ts';

class Waiting implements FairCall {
  readonly call = { deadlineMs: Infinity, signal: undefined };
  readonly expiresAtMs = Infinity;
  slot = -1;
  place = -1;
  next: Waiting | undefined = undefined;
  previous: Waiting | undefined = undefined;
  list: FairCall['list'] = undefined;
  isListening = false;
  readonly queueKey: string;
  readonly arrival: number;
  readonly #cost: number;

  constructor(queueKey: string, arrival: number, cost = 1) {
    this.queueKey = queueKey;
    this.arrival = arrival;
    this.#cost = cost;
  }

  cost(): number {
    return this.#cost;
  }
  expire(): void {}
  handleEvent(): void {}
  get name(): string {
    return `${this.queueKey}${this.arrival}`;
  }
}

/** Repeat a run with KATAMARI_SEED. */
const seed = Number(process.env['KATAMARI_SEED'] ?? Date.now() % 2 ** 32);
console.log(`fair-queue: KATAMARI_SEED=${seed}`);

let arrivals = 0;
function fill(queue: FairQueue<Waiting>, key: string, count: number, cost = 1): Waiting[] {
  const calls = Array.from({ length: count }, () => new Waiting(key, arrivals++, cost));
  for (const call of calls) queue.push(call);
  return calls;
}
const drain = (queue: FairQueue<Waiting>, count = Infinity): Waiting[] => {
  const served: Waiting[] = [];
  while (served.length < count) {
    const { head } = queue;
    const call = queue.shift();
    expect(call).toBe(head);
    if (call === undefined) break;
    served.push(call);
  }
  return served;
};
const keysOf = (calls: readonly Waiting[]): string => calls.map(({ queueKey }) => queueKey).join('');

describe('FairQueue', () => {
  test('is a FIFO queue for one caller', () => {
    const queue = new FairQueue<Waiting>(10);
    const calls = fill(queue, 'a', 5);
    expect([queue.length, queue.callers, queue.countOf('a'), queue.countOf('b')]).toEqual([5, 1, 5, 0]);
    expect(drain(queue)).toEqual(calls);
    expect([queue.length, queue.callers, queue.head, queue.shift()]).toEqual([0, 0, undefined, undefined]);
  });

  test('serves callers in turn, however many calls one of them has, and each of them in order', () => {
    const queue = new FairQueue<Waiting>(1_000);
    const noisy = fill(queue, 'n', 100);
    const quiet = fill(queue, 'q', 3);
    const served = drain(queue);
    expect(keysOf(served.slice(0, 8))).toBe('nqnqnqnn');
    expect(served.filter(({ queueKey }) => queueKey === 'n')).toEqual(noisy);
    expect(served.filter(({ queueKey }) => queueKey === 'q')).toEqual(quiet);
  });

  test('serves a caller that comes later within one round', () => {
    const queue = new FairQueue<Waiting>(1_000);
    for (const key of ['a', 'b', 'c']) fill(queue, key, 50);
    drain(queue, 30);
    fill(queue, 'late', 1);
    expect(keysOf(drain(queue, 4))).toContain('late');
  });

  test('gives callers equal service time: long calls are served less often', () => {
    const queue = new FairQueue<Waiting>(1_000);
    fill(queue, 'l', 100, 4);
    fill(queue, 's', 100, 0.5);
    const served = drain(queue, 90);
    const time = (key: string, cost: number): number => cost * served.filter((one) => one.queueKey === key).length;
    expect(Math.abs(time('l', 4) - time('s', 0.5))).toBeLessThanOrEqual(5);
  });

  test('ends its search although every call is far longer or shorter than the average', () => {
    const queue = new FairQueue<Waiting>(1_000);
    fill(queue, 'a', 20, Number.POSITIVE_INFINITY);
    fill(queue, 'b', 20, 0);
    fill(queue, 'c', 20, -5);
    expect(drain(queue).length).toBe(60);
  });

  test('makes room for a caller with few calls at the cost of the one with the most, and never for that one', () => {
    const queue = new FairQueue<Waiting>(10);
    const noisy = fill(queue, 'n', 9);
    fill(queue, 'm', 1);
    expect(queue.isFull).toBe(true);
    expect(queue.makeRoomFor('n')).toBe(undefined);
    expect(queue.makeRoomFor('q')?.name).toBe(noisy[8]?.name);
    fill(queue, 'q', 1);
    expect([queue.length, queue.countOf('n')]).toEqual([10, 8]);
    // Shares that are as equal as they can be.
    const even = new FairQueue<Waiting>(4);
    fill(even, 'a', 2);
    fill(even, 'b', 2);
    expect(even.makeRoomFor('c')).toBeDefined();
    fill(even, 'c', 1);
    expect(even.makeRoomFor('c')).toBe(undefined);
  });

  test('counts the calls that are served before a further one', () => {
    const queue = new FairQueue<Waiting>(1_000);
    expect(queue.aheadOf('a')).toBe(0);
    fill(queue, 'n', 100);
    expect([queue.aheadOf('n'), queue.aheadOf('q')]).toEqual([100, 1]);
    fill(queue, 'q', 2);
    expect(queue.aheadOf('q')).toBe(5);
  });

  test('puts a call back at its old position, and its caller is next', () => {
    const queue = new FairQueue<Waiting>(10);
    const [first, second] = fill(queue, 'a', 3);
    fill(queue, 'b', 2);
    expect(queue.shift()).toBe(first);
    const other = queue.shift();
    expect(other?.queueKey).toBe('b');
    queue.putBack(first as Waiting);
    expect(queue.length).toBe(4);
    const served = drain(queue);
    expect(served[0]).toBe(first);
    expect(served.filter(({ queueKey }) => queueKey === 'a').slice(0, 2)).toEqual([first, second]);
  });

  test('holds against a simple model, whatever joins, leaves, is served and comes back', () => {
    const random = new Random(seed);
    for (let run = 0; run < 200; run++) {
      const queue = new FairQueue<Waiting>(50);
      const model = new Map<string, Waiting[]>();
      const all = (): Waiting[] => [...model.values()].flat();
      const take = (call: Waiting): void => {
        const list = model.get(call.queueKey) as Waiting[];
        list.splice(list.indexOf(call), 1);
        if (list.length === 0) model.delete(call.queueKey);
      };
      for (let step = 0; step < 300; step++) {
        const key = 'abcdef'[random.below(6)] as string;
        const dice = random.below(10);
        if (dice < 5) {
          const [call] = fill(queue, key, 1, random.below(40) / 10) as [Waiting];
          model.set(key, [...(model.get(key) ?? []), call]);
        } else if (dice < 8) {
          const served = queue.shift();
          expect(served === undefined).toBe(model.size === 0);
          if (served !== undefined) {
            expect(served).toBe(model.get(served.queueKey)?.[0]);
            take(served);
            if (random.chance(0.1)) {
              queue.putBack(served);
              model.set(served.queueKey, [served, ...(model.get(served.queueKey) ?? [])]);
            }
          }
        } else {
          const waiting = all();
          const leaving = waiting[random.below(Math.max(1, waiting.length))];
          if (leaving !== undefined) {
            leaveList(leaving);
            take(leaving);
          }
        }
        expect([queue.length, queue.callers]).toEqual([all().length, model.size]);
      }
      const rest = drain(queue);
      expect(new Set(rest)).toEqual(new Set(all()));
    }
  });
});

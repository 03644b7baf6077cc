// The sums of bytes that connections, callers and the process hold.
import { expect, test } from 'vitest';
import { ByteLedger } from '../../core/mod.ts';

const limits = { connectionBytesMax: 100_000, callerBytesMax: 200_000, processBytesMax: 400_000 };
/** Lets the callbacks of `whenRoom` run. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('a connection, a caller and the process are full at their limits, and name the limit', () => {
  const ledger = new ByteLedger(limits);
  const [one, two, three] = [ledger.open('a'), ledger.open('a'), ledger.open('a')];
  one.add(100_000);
  expect([one.isFull, two.isFull]).toEqual([true, false]);
  expect(one.fullness()).toContain('this connection holds 100000 bytes');
  expect(one.fullness()).toContain('limit is 100000');
  expect(one.fullness()).toContain('limits.connectionMemory');
  two.set(99_999);
  three.add(1);
  expect(three.isFull).toBe(true);
  expect(three.fullness()).toContain('the connections of a hold 200000 bytes');
  const other = ledger.open('b');
  expect(other.isFull).toBe(false);
  other.add(99_000);
  ledger.open('c').add(99_000);
  expect(ledger.bytes).toBe(398_000);
  expect(other.exceeds(5_000)).toBe(true);
  expect(ledger.open('d').fullness(5_000)).toContain('all connections of this process hold 398000 bytes');
});

test('those that hold much find the process full earlier than those that hold little', () => {
  const ledger = new ByteLedger(limits);
  const large = ['a', 'b', 'c', 'd'].map((name) => ledger.open(name));
  for (const account of large) account.add(90_000);
  expect(large.map(({ isFull }) => isFull)).toEqual([true, true, true, true]);
  const small = ledger.open('e');
  expect([small.isFull, small.exceeds(20_000), small.exceeds(60_000)]).toEqual([false, false, true]);
});

test('what is in flight may exceed the sum of its connection, but not those of the caller and the process', () => {
  const ledger = new ByteLedger(limits);
  const account = ledger.open('a');
  expect([account.exceeds(150_000), account.exceeds(250_000)]).toEqual([false, true]);
  account.add(150_000);
  expect([account.isFull, account.exceeds(50_000), account.exceeds(60_000)]).toEqual([true, false, true]);
  ledger.open('b').add(240_000);
  expect([account.exceeds(15_000), account.exceeds(4_000)]).toEqual([true, false]);
});

test('whoever waits is called once, when all sums have room again', async () => {
  const ledger = new ByteLedger(limits);
  const [one, two] = [ledger.open('a'), ledger.open('a')];
  let calls = 0;
  one.set(100_000);
  two.set(100_000);
  one.whenRoom(() => calls++);
  two.set(0);
  await settled();
  expect(calls).toBe(0);
  one.set(80_000);
  await settled();
  expect(calls).toBe(0);
  one.set(70_000);
  await settled();
  expect(calls).toBe(1);
  one.set(0);
  await settled();
  expect(calls).toBe(1);
});

test('a closed account gives back what was set, and what was added when it is given back', () => {
  const ledger = new ByteLedger(limits);
  const account = ledger.open('a');
  account.set(10);
  account.add(5);
  account.close();
  account.close();
  account.set(1_000);
  expect([ledger.bytes, ledger.callers]).toEqual([5, 1]);
  account.add(-5);
  expect([ledger.bytes, ledger.callers]).toEqual([0, 0]);
});

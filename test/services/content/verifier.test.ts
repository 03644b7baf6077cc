// When the files of shards are checked: each after a start and then every `everyMs`, one at a time, not while shards
// are being opened, and first what an operator asks for.
import { afterEach, describe, expect, test } from 'vitest';
import type { FileCheck } from '../../../services/content/replica-files.ts';
import { type CheckableReplica, Verifier } from '../../../services/content/verifier.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';

const HOUR_MS = 3_600_000;

/** A replica whose checks the test ends. */
class ScriptedReplica implements CheckableReplica {
  readonly name: string;
  isCheckable = true;
  isOpening = false;
  checkedAtMs = Number.NEGATIVE_INFINITY;
  why = '';
  readonly #clock: ManualClock;
  #end: { readonly resolve: (found: FileCheck) => void; readonly reject: (why: Error) => void } | undefined;

  constructor(clock: ManualClock, name: string) {
    this.#clock = clock;
    this.name = `wiki@1.0.0/${name}`;
  }

  get isBeingChecked(): boolean {
    return this.#end !== undefined;
  }

  status(): ReturnType<CheckableReplica['status']> {
    const { name, why } = this;
    return { name, why, state: 'serving', bytes: 10, bytesDone: 10, entries: 1, tries: 0, nextTryInMs: 0 };
  }

  checkFiles(onBytes: (bytesDone: number) => void, signal: AbortSignal): Promise<FileCheck> {
    onBytes(4);
    return new Promise<FileCheck>((resolve, reject) => {
      this.#end = { resolve, reject };
      signal.addEventListener('abort', () => reject(signal.reason as Error));
    });
  }

  async ends(found: FileCheck | Error): Promise<void> {
    if (found === 'intact') this.checkedAtMs = this.#clock.nowMs();
    if (found === 'damaged') this.isCheckable = false;
    if (found instanceof Error) this.#end?.reject(found);
    else this.#end?.resolve(found);
    this.#end = undefined;
    await settled();
  }
}

/** Lets promises settle. */
async function settled(): Promise<void> {
  for (let turns = 0; turns < 20; turns++) await Promise.resolve();
}

let verifier: Verifier;
afterEach(() => verifier.close());

interface SetUp {
  readonly clock: ManualClock;
  readonly replicas: ScriptedReplica[];
  readonly failures: readonly string[];
  /** Last letters of the shards that are being checked. */
  readonly checked: () => string;
  readonly pass: (ms: number) => Promise<void>;
}

function setUp(everyMs: number, names: readonly string[] = ['a', 'b', 'c']): SetUp {
  const clock = new ManualClock();
  const replicas = names.map((name) => new ScriptedReplica(clock, name));
  const failures: string[] = [];
  verifier = new Verifier({
    clock,
    everyMs,
    replicas: () => replicas,
    onFailed: (shard, why) => failures.push(`${shard}: ${why}`),
  });
  const checked = (): string =>
    replicas
      .filter(({ isBeingChecked }) => isBeingChecked)
      .map(({ name }) => name.slice(-1))
      .join();
  const pass = async (ms: number): Promise<void> => {
    clock.advance(ms);
    await settled();
  };
  return { clock, replicas, failures, checked, pass };
}

const states = (id: string): string =>
  verifier
    .read(id)
    .map(({ shard, state, bytesDone }) => `${shard.slice(-1)} ${state} ${bytesDone}`)
    .join(', ');

describe('Shards', () => {
  test('are checked one after the other after a start, and again when their time has come', async () => {
    const { replicas, checked, pass } = setUp(24 * HOUR_MS);
    const [a, b, c] = replicas as [ScriptedReplica, ScriptedReplica, ScriptedReplica];
    await settled();
    expect(checked()).toBe('a');
    await pass(HOUR_MS);
    expect(checked()).toBe('a');
    await a.ends('intact');
    expect(checked()).toBe('b');
    await b.ends('intact');
    await pass(HOUR_MS);
    await c.ends('intact');
    expect(checked()).toBe('');
    await pass(23 * HOUR_MS - 1);
    expect(checked()).toBe('');
    await pass(1);
    expect(checked()).toBe('a');
    await a.ends('intact');
    expect(checked()).toBe('b');
    await b.ends('intact');
    expect(checked()).toBe('');
    await pass(HOUR_MS);
    expect(checked()).toBe('c');
    expect(verifier.counts).toEqual({ intact: 5, damaged: 0, failed: 0, bytes: 24 });
  });

  test('that were just fetched are not checked at once', async () => {
    const { clock, replicas, checked, pass } = setUp(HOUR_MS, []);
    const fetched = new ScriptedReplica(clock, 'a');
    fetched.checkedAtMs = clock.nowMs();
    replicas.push(fetched);
    verifier.changed();
    await pass(HOUR_MS - 1);
    expect(checked()).toBe('');
    await pass(1);
    expect(checked()).toBe('a');
  });

  test('wait while one is being opened', async () => {
    const { clock, replicas, checked, pass } = setUp(HOUR_MS, []);
    replicas.push(new ScriptedReplica(clock, 'a'), new ScriptedReplica(clock, 'b'));
    const [a, b] = replicas as [ScriptedReplica, ScriptedReplica];
    [a.isOpening, a.isCheckable] = [true, false];
    verifier.changed();
    await pass(HOUR_MS);
    expect(checked()).toBe('');
    a.isOpening = false;
    verifier.changed();
    await settled();
    expect(checked()).toBe('b');
    await b.ends('damaged');
    expect(checked()).toBe('');
    expect(verifier.counts).toMatchObject({ damaged: 1 });
  });

  test('are checked again after a growing pause when that could not be done', async () => {
    const { replicas, failures, checked, pass } = setUp(HOUR_MS, ['a', 'b']);
    const [a, b] = replicas as [ScriptedReplica, ScriptedReplica];
    await settled();
    await a.ends(new Error('the fetch process ended with SIGKILL'));
    expect(failures).toEqual(['wiki@1.0.0/a: its files cannot be checked: the fetch process ended with SIGKILL']);
    expect(checked()).toBe('b');
    await b.ends('intact');
    await pass(1_999);
    expect(checked()).toBe('');
    await pass(1);
    await a.ends(new Error('too many open files'));
    await pass(3_999);
    expect(checked()).toBe('');
    await pass(1);
    await a.ends('intact');
    expect(checked()).toBe('');
    expect(verifier.counts).toMatchObject({ intact: 2, failed: 2 });
  });

  test('are checked no more after a close, and the running check ends', async () => {
    const { failures, checked, pass } = setUp(HOUR_MS);
    await settled();
    expect(checked()).toBe('a');
    verifier.close();
    await pass(2 * HOUR_MS);
    expect(failures).toEqual([]);
    expect(verifier.counts).toMatchObject({ intact: 0, failed: 0 });
  });
});

describe('A check that an operator asks for', () => {
  test('comes first, and says what was found', async () => {
    const { replicas, checked } = setUp(HOUR_MS);
    const [a, b, c] = replicas as [ScriptedReplica, ScriptedReplica, ScriptedReplica];
    await settled();
    verifier.start('one', (shard) => shard !== a.name);
    expect(states('one')).toBe('b waiting 0, c waiting 0');
    await a.ends('intact');
    expect([checked(), states('one')]).toEqual(['b', 'b checking 4, c waiting 0']);
    b.why = 'its files on this manager are damaged: x is missing';
    await b.ends('damaged');
    expect([checked(), states('one')]).toEqual(['c', 'b damaged 4, c checking 4']);
    expect(verifier.read('one')[0]?.why).toBe(b.why);
    // The same id starts nothing.
    verifier.start('one', () => true);
    await c.ends('intact');
    expect([checked(), states('one')]).toEqual(['', 'b damaged 4, c intact 10']);
    expect(states('two')).toBe('');
  });

  test('is done also without checks in the background, and while shards are being opened', async () => {
    const { replicas, checked, pass } = setUp(0, ['a', 'b', 'c']);
    const [a, b, c] = replicas as [ScriptedReplica, ScriptedReplica, ScriptedReplica];
    await pass(100 * HOUR_MS);
    expect(checked()).toBe('');
    b.isOpening = true;
    c.isCheckable = false;
    verifier.start('one', () => true);
    verifier.start('two', (shard) => shard === a.name);
    await settled();
    expect(checked()).toBe('a');
    await a.ends('intact');
    expect(states('two')).toBe('a intact 10');
    await b.ends('intact');
    expect(states('one')).toBe('a intact 10, b intact 10, c unknown 0');
    expect(verifier.read('one')[2]?.why).toBe('its files are not on this manager now');
    expect(checked()).toBe('');
  });

  test('is tried three times', async () => {
    const { replicas, checked, pass } = setUp(0, ['a']);
    const [a] = replicas as [ScriptedReplica];
    verifier.start('one', () => true);
    await settled();
    for (const pauseMs of [2_000, 4_000]) {
      await a.ends(new Error('it was killed'));
      expect(states('one')).toBe('a waiting 0');
      await pass(pauseMs);
      expect(checked()).toBe('a');
    }
    await a.ends(new Error('it was killed'));
    expect(states('one')).toBe('a unknown 4');
    expect(verifier.read('one')[0]?.why).toBe('its files cannot be checked: it was killed');
  });
});

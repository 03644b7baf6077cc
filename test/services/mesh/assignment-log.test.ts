// The log of assignments: its lines, its sampling by key, and what happens when they cannot be written.

import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../../core/mod.ts';
import { AssignmentLog } from '../../../services/mesh/mod.ts';
import type { Assignment, AssignmentLogOptions } from '../../../services/mesh/assignment-log.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';
import { until } from '../../kit/tools/wait.ts';

let directory: string;
let file: string;
let log: AssignmentLog | undefined;
let failures: string[];
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'katamari-assignments-'));
  file = path.join(directory, 'assignments.jsonl');
  failures = [];
});
afterEach(async () => {
  await log?.close();
  rmSync(directory, { recursive: true, force: true });
});

function open(change: Partial<AssignmentLogOptions> = {}): AssignmentLog {
  const onFailure = (why: string): void => void failures.push(why);
  log = new AssignmentLog({ file, share: 100, clock: systemClock, onFailure, ...change });
  return log;
}

const CALL: Assignment = {
  service: 'Search',
  method: 'search',
  experiment: 'ranking',
  key: '',
  version: '2.0.0',
  rule: '',
  outcome: 'ok',
  durationMs: 1.23456,
};

const lines = (): Record<string, unknown>[] =>
  readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe('The log of assignments', () => {
  test('has a line for each call, with the hash of its key, in a file that only its owner can read', async () => {
    const own = open();
    own.add({ ...CALL, key: 'ada', rule: 'beta' });
    own.add({ ...CALL, version: '', outcome: 'timeout' });
    await own.close();
    const { durationMs: _, ...common } = CALL;
    expect(lines()).toEqual([
      { ...common, rule: 'beta', key: sha256('ada').slice(0, 16), ms: 1.235, time: expect.any(String) as string },
      { ...common, version: '', outcome: 'timeout', ms: 1.235, time: expect.any(String) as string },
    ]);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(own.counts).toEqual({ written: 2, dropped: 0 });
  });

  test('appends to what is there', async () => {
    for (const version of ['1.0.0', '2.0.0']) {
      const own = open();
      own.add({ ...CALL, version });
      await own.close();
    }
    expect(lines().map(({ version }) => version)).toEqual(['1.0.0', '2.0.0']);
  });

  test('has all calls of a key or none, and its share of the calls without one', async () => {
    const own = open({ share: 10 });
    const keys = Array.from({ length: 3_000 }, (_, at) => `user-${at}`);
    for (const key of [...keys, ...keys]) own.add({ ...CALL, key });
    for (let call = 0; call < 1_000; call++) own.add(CALL);
    await own.close();
    const found = lines();
    expect(found.filter(({ key }) => key === '').length).toBe(100);
    const byKey = new Map<unknown, number>();
    for (const { key } of found) if (key !== '') byKey.set(key, (byKey.get(key) ?? 0) + 1);
    expect([...new Set(byKey.values())]).toEqual([2]);
    // 300 are expected, and their standard deviation is 16.
    expect(byKey.size).toBeGreaterThan(210);
    expect(byKey.size).toBeLessThan(390);
  });

  test('drops and counts lines that do not fit into memory, and writes on', async () => {
    const clock = new ManualClock();
    const own = open({ clock });
    const long = 'x'.repeat(100_000);
    for (let call = 0; call < 100; call++) own.add({ ...CALL, method: long });
    expect(own.counts.dropped).toBeGreaterThan(50);
    clock.advance(100);
    await until('the lines', () => own.counts.written + own.counts.dropped === 100);
    own.add(CALL);
    clock.advance(100);
    await until('the next line', () => own.counts.written + own.counts.dropped === 101);
    expect(lines().at(-1)).toMatchObject({ method: 'search' });
  });

  test('says once that it cannot be written, drops its lines, and tries again later', async () => {
    const clock = new ManualClock();
    const folder = path.join(directory, 'later');
    file = path.join(folder, 'assignments.jsonl');
    const own = open({ clock });
    for (let call = 1; call <= 3; call++) {
      own.add(CALL);
      clock.advance(5_100);
      await until('it to be dropped', () => own.counts.dropped === call);
    }
    expect(failures).toEqual([expect.stringContaining('ENOENT')]);
    mkdirSync(folder);
    await until('a line', () => {
      own.add(CALL);
      clock.advance(5_100);
      return own.counts.written > 0;
    });
  });
});

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

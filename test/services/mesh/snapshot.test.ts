// The last known state of a process, kept on disk: written shortly after a change, read at the next start, and not
// overwritten by a process that has just started.

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { EventLog, SnapshotFile, type Snapshot } from '../../../services/mesh/mod.ts';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ManualClock } from '../../kit/tools/manual-clock.ts';

const KNOWN: Snapshot = {
  managers: {
    one: { address: '10.0.0.1:9070', machine: 'a', capacity: 1, isDraining: false, stats: '', pools: [], starting: [] },
  },
  interfaces: { id: { service: 'Work', source: { main: 'work.thrift', files: { 'work.thrift': 'service Work {}' } } } },
  timeoutMs: 5_000,
  takenAt: '2026-01-01T00:00:00.000Z',
  routes: { Work: { weights: { '1.0.0': 3 } } },
};
const NOTHING: Snapshot = { ...KNOWN, managers: {}, interfaces: {}, routes: {} };

let directory: string;
let clock: ManualClock;
let events: EventLog;

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'katamari-snapshot-'));
  clock = new ManualClock();
  events = new EventLog('test');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function open(take: () => Snapshot): SnapshotFile {
  return new SnapshotFile({ dataDir: directory, events, clock, take });
}

async function write(known: Snapshot): Promise<void> {
  const file = open(() => known);
  file.enable();
  await file.close();
}

describe('SnapshotFile', () => {
  test('is read as written, and leaves no other file', async () => {
    await write(KNOWN);
    expect(await open(() => NOTHING).read()).toEqual(KNOWN);
    expect(readdirSync(directory)).toEqual(['snapshot.json']);
  });

  test('writes nothing before begin(), so a process without data keeps the last snapshot', async () => {
    await write(KNOWN);
    const next = open(() => NOTHING);
    next.changed();
    clock.advance(60_000);
    next.changed();
    await next.close();
    expect(await open(() => NOTHING).read()).toEqual(KNOWN);
  });

  test('writes coalesced changes once, with the latest state', async () => {
    let [known, taken] = [NOTHING, 0];
    const file = open(() => (taken++, known));
    file.enable();
    file.changed();
    known = KNOWN;
    file.changed();
    clock.advance(1_000);
    await file.close();
    expect([taken, await file.read()]).toEqual([1, KNOWN]);
  });

  test('that cannot be read counts as missing, and is reported', async () => {
    writeFileSync(path.join(directory, 'snapshot.json'), '{"managers":');
    expect(await open(() => NOTHING).read()).toBeUndefined();
    expect(events.after(0).map(({ text }) => text)).toEqual([expect.stringContaining('is not used')]);
    await write(KNOWN);
    expect(JSON.parse(readFileSync(path.join(directory, 'snapshot.json'), 'utf8'))).toMatchObject({ timeoutMs: 5_000 });
  });

  test('that is missing is not reported', async () => {
    expect(await open(() => NOTHING).read()).toBeUndefined();
    expect(events.after(0)).toEqual([]);
  });
});

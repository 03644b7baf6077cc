import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { until } from '../../kit/tools/wait.ts';
import { Reaper } from '../../../services/resource-manager/reaper.ts';

const started: ChildProcess[] = [];

/** A process that leads its own group and has a child in it. */
function group(): ChildProcess & { pid: number } {
  const child = spawn('/bin/sh', ['-c', 'sleep 300 & wait'], { detached: true, stdio: 'ignore' });
  started.push(child);
  return child as ChildProcess & { pid: number };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

afterEach(() => {
  for (const { pid } of started.splice(0)) {
    try {
      process.kill(-(pid ?? 0), 'SIGKILL');
    } catch {
      // It has ended.
    }
  }
});

describe('Reaper', () => {
  test('kills the registered process groups when its pipe ends, and no others', async () => {
    const reaper = new Reaper(mkdtempSync(path.join(tmpdir(), 'katamari-reaper-')));
    const [first, second, stranger] = [group(), group(), group()];
    reaper.watch(first.pid);
    reaper.watch(second.pid);
    reaper.watch(stranger.pid);
    reaper.forget(stranger.pid);
    await reaper.close();
    await until('both groups to end', () => first.signalCode !== null && second.signalCode !== null);
    expect(isAlive(stranger.pid)).toBe(true);
  });

  test('is restarted at once when it is killed, then once a second, and closes in between', async () => {
    const reaper = new Reaper(mkdtempSync(path.join(tmpdir(), 'katamari-reaper-')));
    for (let kills = 0; kills < 2; kills++) {
      const before = await until('a shell', () => reaper.pid);
      process.kill(before, 'SIGKILL');
      await until('its end', () => reaper.pid !== before);
    }
    expect(reaper.pid).toBe(0);
    await reaper.close();
    expect(reaper.pid).toBe(0);
  });

  test('is restarted with all registered groups when it is killed', async () => {
    const reaper = new Reaper(mkdtempSync(path.join(tmpdir(), 'katamari-reaper-')));
    const child = group();
    reaper.watch(child.pid);
    const before = reaper.pid;
    process.kill(before, 'SIGKILL');
    await until('another shell', () => ![0, before].includes(reaper.pid) && isAlive(reaper.pid));
    await reaper.close();
    await until('the group to end', () => child.signalCode !== null);
    expect(child.signalCode).toBe('SIGKILL');
  });
});

import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { isAlive } from '../../kit/mesh/mesh.ts';
import { marked } from '../../kit/mesh/mesh-process.ts';
import { until } from '../../kit/tools/wait.ts';
import { ControlGroups } from '../../../services/resource-manager/control-group.ts';
import { Reaper } from '../../../services/resource-manager/reaper.ts';

const started: ChildProcess[] = [];

/** A process that leads its own group and has a child in it. */
function group(): ChildProcess & { pid: number } {
  const child = spawn('/bin/sh', ['-c', 'sleep 300 & wait'], { detached: true, stdio: 'ignore' });
  started.push(child);
  return child as ChildProcess & { pid: number };
}

const sleepers = (mark: string): number[] =>
  marked(`KATAMARI_FAMILY=${mark}`).filter((pid) => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'sleep\n');

afterEach(() => {
  for (const { pid } of started.splice(0)) {
    try {
      process.kill(-(pid ?? 0), 'SIGKILL');
    } catch {
      // It has ended.
    }
  }
});

/** A part of the hierarchy must be writable: as root, or in a delegated group. */
function canMakeControlGroups(): boolean {
  const groups = ControlGroups.open(`katamari-test-${process.pid}`);
  if (groups !== undefined) rmdirSync(groups.directory);
  return groups !== undefined;
}

describe('Reaper', () => {
  test('kills the registered process groups when its pipe ends, and no others', async () => {
    const reaper = new Reaper(mkdtempSync(path.join(tmpdir(), 'katamari-reaper-')));
    const [first, second, stranger] = [group(), group(), group()];
    reaper.watch(first.pid);
    reaper.watch(second.pid);
    reaper.watch(stranger.pid);
    await reaper.forget(stranger.pid);
    await reaper.close();
    await until('both groups to end', () => first.signalCode !== null && second.signalCode !== null);
    expect(isAlive(stranger.pid)).toBe(true);
  });

  test('ends a family by the environment of its processes, and counts them', async () => {
    const reaper = new Reaper(mkdtempSync(path.join(tmpdir(), 'katamari-reaper-')));
    const [family, other] = [reaper.newFamily(), reaper.newFamily()];
    const away = 'setsid sleep 301 & setsid sleep 302 & exit 0';
    const [first, second] = [family, other].map(({ mark }) =>
      spawn('/bin/sh', ['-c', away], { detached: true, stdio: 'ignore', env: { KATAMARI_FAMILY: mark } }),
    ) as [ChildProcess, ChildProcess];
    started.push(first, second);
    await until('both to be daemons', () => sleepers(family.mark).length === 2 && sleepers(other.mark).length === 2);
    expect(await reaper.forget(first.pid as number, family)).toBe(2);
    expect([sleepers(family.mark), sleepers(other.mark).length]).toEqual([[], 2]);
    expect(await reaper.forget(first.pid as number, family)).toBe(0);
    await reaper.close();
    expect(sleepers(other.mark)).toEqual([]);
  });

  test.skipIf(!canMakeControlGroups())('ends a family by its control group, without an environment', async () => {
    const reaper = new Reaper(mkdtempSync(path.join(tmpdir(), 'katamari-reaper-')));
    expect(reaper.hasControlGroups).toBe(true);
    const families = [reaper.newFamily(), reaper.newFamily()] as const;
    const shells = families.map(() =>
      spawn('/bin/sh', ['-c', 'read -r go; env -i setsid sleep 303 & echo $!'], { detached: true, env: {} }),
    ) as [ChildProcess, ChildProcess];
    started.push(...shells);
    const pids = await Promise.all(
      shells.map(async (shell, index) => {
        reaper.watch(shell.pid as number, families[index]);
        shell.stdin?.end('\n');
        return await new Promise<number>((resolve) => shell.stdout?.once('data', (text) => resolve(Number(text))));
      }),
    );
    await until('both to be daemons', () =>
      pids.every((pid) => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'sleep\n'),
    );
    expect(await reaper.forget(shells[0].pid as number, families[0])).toBe(1);
    expect(pids.map(isAlive)).toEqual([false, true]);
    await reaper.close();
    expect(pids.map(isAlive)).toEqual([false, false]);
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

// Faults that every start would have: reported once for all copies, `failed` until something changes, and temporary
// ones beside them. Real programs that fail in the real way.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Deployment } from '../../../services/mesh/mod.ts';
import { ManagerBench, workDeployment } from '../../kit/mesh/manager-fixture.ts';
import { fixture } from '../../kit/mesh/mesh.ts';
import { marked } from '../../kit/mesh/mesh-process.ts';
import { REPOSITORY } from '../../kit/tools/repository.ts';
import { until } from '../../kit/tools/wait.ts';

import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

let folder: string;
let bench: ManagerBench;
let lines: string[];
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-fault-'));
  lines = [];
  bench = new ManagerBench({ onLine: (_, line) => lines.push(line) });
});
afterEach(async () => {
  await bench.end();
  rmSync(folder, { recursive: true, force: true });
});

const at = (name: string): string => path.join(folder, name);
const QUICK = { intensity: 5, periodMs: 30_000, backoffFirstMs: 20, backoffMaxMs: 50 };
const failed = (): string[] => bench.told().filter((line) => line.startsWith('resource_failed'));
const states = (): string[] =>
  bench.manager.status(() => 0).flatMap(({ resources }) => resources.map(({ state }) => state));

function deploy(change: Partial<Deployment>): void {
  bench.manager.setDeployments('file', [workDeployment({ restart: QUICK, ...change })]);
}

/** Waits until all copies have failed, and long enough for further starts, of which there must be none. */
async function untilFailed(copies: number): Promise<string> {
  await until('every copy to fail', () => states().filter((state) => state === 'failed').length === copies);
  const { launches } = bench;
  const told = bench.told().length;
  // Ten of the longest pauses.
  await new Promise((resolve) => setTimeout(resolve, 10 * QUICK.backoffMaxMs));
  expect(bench.launches).toBe(launches);
  expect(bench.told().length).toBe(told);
  expect(failed().length).toBe(1);
  return failed()[0] ?? '';
}

/** A file that was written during a start is a change, so wait until its time has passed. */
async function write(name: string, text: string): Promise<string> {
  writeFileSync(at(name), text);
  await until('the file to be older than a start', () => Date.now() - statSync(at(name)).ctimeMs > 50);
  return at(name);
}

/** A shell script that becomes the test chassis unless it fails. */
async function script(name: string, text: string, mode = 0o755): Promise<string> {
  writeFileSync(at(name), '');
  chmodSync(at(name), mode);
  return await write(name, `#!/bin/sh\n${text}\n`);
}
const works = `exec ${fixture('work.ts').join(' ')}`;

describe('A fault that every start would have', () => {
  test('an IDL with a typing error: one line for 8 copies, and all start when the file is corrected', async () => {
    const good = readFileSync(`${REPOSITORY}test/fixtures/chassis/work.thrift`, 'utf8');
    await write('work.thrift', 'service Work { i32 pid( }');
    deploy({ count: 8, env: { WORK_IDL: at('work.thrift') } });
    const told = await untilFailed(8);
    expect(told).toContain(
      `start_failed: exited with status 78: This chassis cannot start with ${at('work.thrift')}: `,
    );
    expect(told).toContain('work.thrift:1:26: expected a type, got the end of the file');
    expect(told).toContain('No copy is started until');
    expect(lines).toEqual([]);
    expect(bench.events.after(0).flatMap((event) => event.lines)).toEqual([]);
    writeFileSync(at('work.thrift'), good);
    await bench.untilServing({ 'Work@1.0.0': 8 });
  });

  test('its output is in its event only, also when the program is slow to start', async () => {
    const goes = `until test -e ${at('go')}; do sleep 0.02; done`;
    const program = await script('chassis', `echo begins >&2; ${goes}; echo no licence >&2; exit 78`);
    deploy({ command: [program] });
    await until('its first line', () => lines.length > 0);
    writeFileSync(at('go'), '');
    expect(await untilFailed(1)).toContain('exited with status 78: no licence');
    expect(lines).toEqual(['begins']);
  });

  test.each<[string, () => Partial<Deployment>, string]>([
    ['a missing program', () => ({ command: [at('none')] }), 'there is no program'],
    ['a program that is not in PATH', () => ({ command: ['katamari-none'] }), 'there is no program'],
    ['a working directory that is missing', () => ({ cwd: at('none') }), 'does not exist; correct cwd'],
    ['an environment that is too large', () => ({ env: { BIG: 'x'.repeat(200 << 10) } }), 'env.BIG with 204800'],
    ['a program that the shell does not find', () => ({ command: ['/bin/sh', '-c', 'katamari-none'] }), 'status 127'],
    ['a program that the shell may not run', () => ({ command: ['/bin/sh', '-c', folder] }), 'status 126'],
    ['another version', () => ({ env: { WORK_VERSION: '7.0.0' } }), 'it says it is Work@7.0.0'],
    ['another service', () => ({ service: 'Other' }), 'it says it is Work@1.0.0'],
    [
      'a plain server whose IDL has an error',
      () => ({ idl: { main: 'a.thrift', files: { 'a.thrift': 'service Work {' } } }),
      'its IDL cannot be used: a.thrift:',
    ],
    [
      'a plain server whose IDL has another service',
      () => ({ idl: { main: 'a.thrift', files: { 'a.thrift': 'service Play {}' } } }),
      'its IDL a.thrift has no service "Work"; it has Play',
    ],
    [
      'a health check that has arguments',
      () => ({
        idl: { main: 'a.thrift', files: { 'a.thrift': 'service Work { i32 pid(1: i32 a) }' } },
        healthCheck: 'pid',
      }),
      'its deployment has healthCheck pid, but pid has arguments',
    ],
    [
      'an error that is a long row of dots',
      () => ({ command: ['/bin/sh', '-c', 'for n in 1 2 3; do printf "%04096d\\n" 0 | tr 0 . >&2; done; exit 78'] }),
      'status 78',
    ],
    ['a wrong KATAMARI variable', () => ({ concurrency: 0 }), 'concurrency is 0, expected a number of at least 1'],
  ])('%s', async (_, change, reason) => {
    deploy({ count: 2, ...change() });
    expect(await untilFailed(2)).toContain(reason);
  });

  test('a program without the right to run starts when it gets it', async () => {
    const program = await script('chassis', works, 0o644);
    deploy({ command: [program] });
    expect(await untilFailed(1)).toContain('may not be executed');
    chmodSync(program, 0o755);
    await bench.untilServing({ 'Work@1.0.0': 1 });
  });

  test('a missing directory and a missing program start when they are made', async () => {
    deploy({ cwd: at('below'), command: ['./chassis'] });
    await untilFailed(1);
    mkdirSync(at('below'));
    await until('the next fault', () => failed().length === 2);
    expect(failed()[1]).toContain('there is no program ./chassis');
    await script('below/chassis', works);
    await bench.untilServing({ 'Work@1.0.0': 1 });
  });

  test('starts when its deployment changes, and when an operator restarts it', async () => {
    const program = await script('chassis', `test -n "$GO" || test -e ${at('go')} || exit 78\n${works}`);
    deploy({ command: [program] });
    await untilFailed(1);
    deploy({ command: [program], env: { GO: '1' } });
    await bench.untilServing({ 'Work@1.0.0': 1 });
    deploy({ command: [program] });
    await until('the roll to stop', () => bench.told().some((line) => line.startsWith('rolling_done')));
    await bench.untilServing({ 'Work@1.0.0': 1 });
    const before = failed().length;
    await expect(bench.manager.restart('Work@1.0.0/1')).rejects.toThrow('did not come up: exited with status 78');
    expect(failed().length).toBe(before + 1);
    writeFileSync(at('go'), '');
    await bench.manager.restart('Work@1.0.0/1');
    await bench.untilServing({ 'Work@1.0.0': 1 });
  });

  test.each([
    ['a daemon', 'setsid sleep 300 & exit 0'],
    ['a daemon after a double fork', '(setsid sh -c "sleep 300 & sleep 300" &) ; exit 0'],
    ['a process in the background', 'sleep 300 & exit 0'],
  ])('a plain server that becomes %s: none is left, and the event says what to do', async (_, command) => {
    const idl = { main: 'a.thrift', files: { 'a.thrift': 'service Work { i32 pid() }' } };
    const mark = path.basename(folder);
    deploy({ count: 2, listen: 'tcp', idl, command: ['/bin/sh', '-c', command], env: { MARK: mark } });
    const told = await untilFailed(2);
    expect(told).toMatch(
      /exited with status 0 and left (a process|\d processes) in the background, which the mesh has ended/,
    );
    expect(told).toContain('run the program in the foreground');
    expect(marked(`MARK=${mark}`)).toEqual([]);
  });

  test('leaves copies that serve alone', async () => {
    const program = await script('chassis', works);
    deploy({ command: [program], count: 2 });
    await bench.untilServing({ 'Work@1.0.0': 2 });
    await script('chassis', 'echo cannot go on >&2; exit 78');
    await bench.ask('die', { status: 1 });
    await until('the copy to fail', () => states().includes('failed'));
    expect(failed()[0]).toContain('exited with status 78: cannot go on');
    expect(await bench.ask('say', { text: 'still here' })).toBe('still here');
    await script('chassis', works);
    await bench.untilServing({ 'Work@1.0.0': 2 });
  });
});

describe('A temporary fault', () => {
  test('is retried with back-off: a status that says nothing, a signal, no answer in time', async () => {
    for (const command of ['exit 1', 'kill -s KILL $$', 'sleep 60']) {
      const before = bench.launches;
      const times = { ...workDeployment().times, startTimeoutMs: 100 };
      deploy({ command: ['/bin/sh', '-c', command], times });
      await until(`a third start after ${command}`, () => bench.launches >= before + 3);
      expect(failed()).toEqual([]);
    }
  });
});

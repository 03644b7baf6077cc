// Launches that fail: each ends with a reason that says what to correct, and none throws. Runtimes differ in which of
// them `spawn` throws for.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../../core/mod.ts';
import { TestEnvironment } from '../../kit/content/environment.ts';
import { ChassisProcess, describeExit, type Launch } from '../../../services/resource-manager/chassis-process.ts';
import { Reaper } from '../../../services/resource-manager/reaper.ts';

import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

let folder: string;
let reaper: Reaper;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-test-'));
  reaper = new Reaper(folder);
  writeFileSync(at('file'), '#!/bin/sh\n');
  chmodSync(at('file'), 0o644);
  symlinkSync(at('loop'), at('loop'));
  mkdirSync(at('folder'));
});
afterAll(async () => {
  await reaper.close();
  rmSync(folder, { recursive: true, force: true });
});

const at = (name: string): string => path.join(folder, name);
const ok = { command: [process.execPath, '--version'], cwd: '', env: {}, isolation: null };

test.each<[string, () => Partial<Launch>, () => string]>([
  ['a working directory that is missing', () => ({ cwd: at('none') }), () => `${at('none')} does not exist`],
  ['a working directory that is a file', () => ({ cwd: at('file') }), () => `${at('file')} is not a directory`],
  ['a working directory below a file', () => ({ cwd: at('file/x') }), () => `${at('file/x')} does not exist`],
  ['a missing program', () => ({ command: ['katamari-none'] }), () => 'there is no program katamari-none'],
  ['a program below a file', () => ({ command: [at('file/x')] }), () => at('file/x')],
  ['a program that is a folder', () => ({ command: [at('folder')] }), () => `${at('folder')} may not be executed`],
  ['a program without the right', () => ({ command: [at('file')] }), () => `${at('file')} may not be executed`],
  ['a link to itself', () => ({ command: [at('loop')] }), () => `${at('loop')} is a symbolic link`],
  ['a name of 300 characters', () => ({ command: [at('x'.repeat(300))] }), () => 'is too long'],
  ['a variable of 200 KiB', () => ({ env: { BIG: 'x'.repeat(200 << 10) } }), () => 'env.BIG with 204800 characters'],
  ['an argument with a NUL', () => ({ command: [process.execPath, 'a\0b'] }), () => ''],
  ['a variable with a NUL', () => ({ env: { A: 'a\0b' } }), () => ''],
  ['an empty program', () => ({ command: [''] }), () => ''],
])('%s ends the start with a reason', async (_, change, reason) => {
  const exits: string[] = [];
  const child = new ChassisProcess({
    ...ok,
    ...change(),
    reaper,
    clock: systemClock,
    onLine: () => undefined,
    onExit: (exit) => exits.push(describeExit(exit)),
  });
  child.kill();
  const exit = await child.exited;
  expect(describeExit(exit)).toMatch(/^could not be launched: ./);
  expect(describeExit(exit)).toContain(reason());
  expect(exits).toEqual([describeExit(exit)]);
  expect([child.pid, child.hasExited, child.rssBytes()]).toEqual([0, true, 0]);
  expect(await child.stop(10)).toBe(exit);
});

test('a chassis inherits the environment of the mesh without its secrets', async () => {
  const secrets = ['KATAMARI_TOKEN', 'CONSUL_HTTP_TOKEN', 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'];
  secrets.push('AWS_SESSION_TOKEN', 'AWS_CONTAINER_AUTHORIZATION_TOKEN', 'WEBHDFS_DELEGATION_TOKEN');
  const others = ['AWS_REGION', 'MY_KATAMARI_TOKEN'];
  const environment = new TestEnvironment();
  environment.set(Object.fromEntries([...secrets, ...others].map((name) => [name, 'told'])));
  const lines: string[] = [];
  const child = new ChassisProcess({
    ...ok,
    command: ['env'],
    env: { AWS_SESSION_TOKEN: 'own' },
    reaper,
    clock: systemClock,
    onLine: (line) => lines.push(line),
    onExit: () => undefined,
  });
  environment.restore();
  await child.exited;
  const found = lines.filter((line) => /=(told|own)$/.test(line)).sort();
  expect(found).toEqual(['AWS_REGION=told', 'AWS_SESSION_TOKEN=own', 'MY_KATAMARI_TOKEN=told']);
});

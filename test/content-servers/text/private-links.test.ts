// Links of this process: made, removed, and removed for processes that were killed.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { PrivateLinks } from '../../../content-servers/text/private-links.ts';

const prefix = `katamari-links-test-${process.pid}-`;
const foldersNow = (): string[] => readdirSync(os.tmpdir()).filter((name) => name.startsWith(prefix));
const file = path.join(mkdtempSync(path.join(os.tmpdir(), 'katamari-linked-')), 'file');
afterAll(() => {
  for (const name of foldersNow()) rmSync(path.join(os.tmpdir(), name), { recursive: true });
  rmSync(path.dirname(file), { recursive: true });
});

test('PrivateLinks keep one folder as long as there are links, and remove what was made beside a link', () => {
  const links = new PrivateLinks(prefix);
  const made = [links.linkTo(file), links.linkTo(file)] as const;
  expect(made.map((link) => readlinkSync(link))).toEqual([file, file]);
  expect(foldersNow().length).toBe(1);
  mkdirSync(`${made[0]}.lock`);
  writeFileSync(`${made[0]}-wal`, '');
  links.remove(made[0], ['.lock', '-wal']);
  links.remove(made[0], ['.lock', '-wal']);
  expect(readdirSync(path.dirname(made[0]))).toEqual([path.basename(made[1])]);
  links.remove(made[1], []);
  expect(foldersNow()).toEqual([]);
  expect(existsSync(links.linkTo(path.dirname(file)))).toBe(true);
});

test('PrivateLinks remove the folders of processes that are gone, and no others', () => {
  const { pid } = spawnSync(process.execPath, ['--version']);
  const folder = (of: number | string): string => path.join(os.tmpdir(), `${prefix}${of}-abc`);
  for (const of of [pid, process.ppid, 'x']) mkdirSync(folder(of));
  writeFileSync(path.join(folder(pid), '1'), '');
  new PrivateLinks(prefix).linkTo(file);
  expect([pid, process.ppid, 'x'].map((of) => existsSync(folder(of)))).toEqual([false, true, true]);
});

// Content servers of the TypeScript kit in `katamari conform`: the fixture of its exam, and one whose shards the
// command names. The kits for other languages take the same exam in their own tests.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { scriptCommand } from '../../core/mod.ts';
import type { Summary } from '../../services/cli/conform/report.ts';
import { expectContentConformance } from '../kit/tools/content-exam.ts';
import { runKatamari } from '../kit/tools/run.ts';

const fixture = (name: string): readonly string[] =>
  scriptCommand(new URL(`../fixtures/chassis/${name}.ts`, import.meta.url));

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-shards-'));
  for (const name of ['good', 'bad']) {
    mkdirSync(path.join(folder, name));
    writeFileSync(path.join(folder, name, 'words.txt'), 'one two');
  }
  writeFileSync(path.join(folder, 'bad', 'damaged'), '');
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('A content server in TypeScript', () => {
  test.each(['1', '3'])(
    'conforms with concurrency %s',
    (concurrency) => expectContentConformance(fixture('content-conformance'), concurrency),
    120_000,
  );

  test('conforms with shards that the command names', async () => {
    const shards = ['--content', path.join(folder, 'good'), '--damaged', path.join(folder, 'bad')];
    const { code, stdout } = await runKatamari(['conform', '--json', ...shards, '--', ...fixture('words')]);
    const { checks } = JSON.parse(stdout) as Summary;
    const ofContent = checks.filter(({ id }) => id.startsWith('content-'));
    expect(ofContent.length).toBe(13);
    expect(checks.filter(({ verdict }) => verdict === 'failed')).toEqual([]);
    expect(ofContent.filter(({ verdict }) => verdict !== 'ok')).toEqual([]);
    expect(ofContent.find(({ id }) => id === 'content-damaged')?.note).toBe('words.txt ends too early');
    expect(code).toBe(0);
  }, 120_000);

  test('is told of the flag when its shards are not checked', async () => {
    const { code, stdout } = await runKatamari(['conform', '--only', 'ping', '--', ...fixture('words')]);
    expect(code).toBe(0);
    expect(stdout).toContain('It is a content server; use --content SHARD to check how it opens and closes shards');
  }, 60_000);

  test.each([
    [['--damaged', 'x'], '--damaged needs --content: name a shard that the chassis can open, too'],
    [['--content', '/nothing/here'], '--content: /nothing/here does not exist, expected a file or folder'],
  ])('is not started for flags that make no sense: %s', async (flags, message) => {
    const { code, stderr } = await runKatamari(['conform', ...flags, '--', 'false']);
    expect([code, stderr]).toEqual([2, expect.stringContaining(message)]);
  });
});

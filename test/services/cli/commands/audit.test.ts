// `katamari audit` on logs in files, in the test process.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { AuditLog } from '../../../../services/audit/mod.ts';
import type { RunResult } from '../../../kit/tools/run.ts';
import { runInside } from '../run-inside.ts';

let directory: string;
let file: string;
beforeEach(async () => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'katamari-audit-'));
  file = path.join(directory, 'audit', 'audit-000001.jsonl');
  let dateMs = Date.UTC(2026, 4, 1, 8);
  const log = new AuditLog({
    folder: path.join(directory, 'audit'),
    process: 'one',
    fileBytesMax: 1024 * 1024,
    filesMax: 3,
    onFailure: (text) => expect.fail(text),
    onRecovery: () => undefined,
    dateMs: () => (dateMs += 60_000),
  });
  log.start();
  await log.flushed(60_000);
  const common = { who: 'ci', from: 'json-rpc 10.0.0.7', action: 'deploy' };
  log.record({ ...common, subject: 'Search@1.0.0', result: 'done', before: null, after: { count: 2 } });
  log.refused({
    ...common,
    who: '',
    code: 'wrong_token',
    subject: '\u001b[31mred\u001b[0m\nx',
    reason: 'the token is wrong',
  });
  log.record({ ...common, subject: 'Search@2.0.0', result: 'done' });
  await log.flushed(60_000);
  await log.close();
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const run = (...args: string[]): Promise<RunResult> =>
  runInside(args, { cwd: directory, env: { HOME: directory, KATAMARI_DATA_DIR: directory } });

describe('katamari audit', () => {
  test('shows the lines, without control characters', async () => {
    expect(await run('audit')).toEqual({
      code: 0,
      stderr: '',
      stdout:
        '2026-05-01T08:01:00.000Z  one  katamari  audit_opened audit log  done  the first file\n' +
        '2026-05-01T08:02:00.000Z  one  ci (json-rpc 10.0.0.7)  deploy Search@1.0.0  done  null -> {"count":2}\n' +
        '2026-05-01T08:03:00.000Z  one  unknown (json-rpc 10.0.0.7)  deploy red x  refused wrong_token  the token is wrong\n' +
        '2026-05-01T08:04:00.000Z  one  ci (json-rpc 10.0.0.7)  deploy Search@2.0.0  done\n',
    });
  });

  test('selects by time and number', async () => {
    expect((await run('audit', '--limit', '1')).stdout).toContain('Search@2.0.0');
    expect((await run('audit', '--limit', '1')).stdout.split('\n')).toHaveLength(2);
    expect((await run('audit', '-n', '0')).stdout).toBe('');
    expect((await run('audit', '--since', '2026-05-01T08:03:30Z')).stdout.split('\n')).toHaveLength(2);
    expect(await run('audit', '--since', '90d')).toMatchObject({ code: 0 });
    expect(await run('audit', '--since', '1m')).toMatchObject({
      code: 0,
      stdout: '',
      stderr: expect.stringContaining('No lines in '),
    });
    expect(await run('audit', '--since', 'soon')).toMatchObject({ code: 2 });
    expect(await run('audit', '--limit', '-1')).toMatchObject({ code: 2 });
  });

  test('prints the lines as they are with --json', async () => {
    const { stdout } = await run('audit', '--json', '--limit', '1');
    expect(JSON.parse(stdout)).toMatchObject({ seq: 4, subject: 'Search@2.0.0', sum: expect.any(String) });
  });

  test('says where it looked when there is no log', async () => {
    const { code, stderr } = await run('audit', '--data-dir', 'nowhere');
    expect(code).toBe(1);
    expect(stderr).toContain(`Cannot read the audit log ${path.join(directory, 'nowhere', 'audit')}: ENOENT`);
    expect(await run('audit', 'verify', '--data-dir', 'nowhere')).toMatchObject({ code: 1 });
    expect(await run('audit', 'verify', 'gone.jsonl')).toMatchObject({ code: 1 });
  });
});

describe('katamari audit verify', () => {
  test('prints the number of lines and the head, and accepts the head later', async () => {
    const { code, stdout } = await run('audit', 'verify');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^4 lines in 1 file are intact, number 1 to 4\.\nhead [0-9a-f]{64}\n$/);
    const head = stdout.trimEnd().split(' ').at(-1) as string;
    expect(await run('audit', 'verify', '--head', head)).toMatchObject({ code: 0 });
    expect(await run('audit', '--data-dir', directory, 'verify', file, '--head', head)).toMatchObject({ code: 0 });
    expect(await run('audit', 'verify', '--head', '0'.repeat(64))).toMatchObject({ code: 1 });
    expect(await run('audit', 'verify', '--head', 'x')).toMatchObject({ code: 2 });
    expect(JSON.parse((await run('audit', 'verify', '--json')).stdout)).toMatchObject({
      isIntact: true,
      lines: 4,
      head,
    });
  });

  test('names the first broken line', async () => {
    const text = readFileSync(file, 'utf8');
    const lines = text.trimEnd().split('\n');
    for (const at of lines.keys()) {
      writeFileSync(file, `${lines.with(at, (lines[at] as string).replace('2026', '2025')).join('\n')}\n`);
      const broken = await run('audit', 'verify');
      expect(broken).toMatchObject({ code: 1, stdout: '' });
      expect(broken.stderr).toBe(
        `${file}:${at + 1}: the sum of the line does not match its text: the line was altered\n`,
      );
    }
    // The last line, removed as a whole.
    writeFileSync(file, text.slice(0, text.trimEnd().lastIndexOf('\n') + 1));
    expect((await run('audit', 'verify')).stderr).toContain(
      `${file}:4: the log ends here, but it had a line with the hash `,
    );
    rmSync(path.join(directory, 'audit', 'head.json'));
    expect((await run('audit', 'verify')).stdout).toContain('head.json is missing: ');
  });
});

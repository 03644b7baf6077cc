// `katamari conform` on content servers with one fault each, named for the fault. It must report that fault with a
// helpful message.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { scriptCommand } from '../../../../core/mod.ts';
import type { Result, Summary } from '../../../../services/cli/conform/report.ts';
import { runInside } from '../run-inside.ts';

/** Chassis start slowly on a machine that runs all tests at once. */
const BUSY_MS = 120_000;

/** The fault, the check that finds it, the expected and the actual result. */
const FAULTS: readonly (readonly [fault: string, check: string, expected: RegExp, came: RegExp])[] = [
  ['does-not-tell', 'content-told', /^holdsShards true$/, /^holdsShards nothing$/],
  ['counts-opens', 'content-reopen', /^facts 3 entries after close and open$/, /^facts 4 entries$/],
  [
    'ignores-paths',
    'content-other-path',
    /^exception ShardRefused for a shard that is open from /,
    /^facts: 3 entries$/,
  ],
  ['confuses-damage', 'content-damaged', /^isDamaged true for .*damaged$/, /^isDamaged false, why "the checksum/],
  [
    'throws-plainly',
    'content-damaged',
    /^facts, or exception ShardRefused, in reply to open$/,
    /^TApplicationException/,
  ],
  [
    'gives-no-reason',
    'content-missing',
    /^words in ShardRefused.why for a path that does not exist$/,
    /^an empty string$/,
  ],
  ['closes-once', 'content-close', /^an empty result of close$/, /conform@1\.0\.0\/shard is unknown/],
  [
    'keeps-paths',
    'content-reopen',
    /^facts of the shard .*same-elsewhere$/,
    /^exception ShardRefused: .* is open from /,
  ],
  ['closes-by-path', 'content-names', /^after conform@1\.0\.0\/shard-0 was closed: shards \[/, /^shards \[\]$/],
  ['opens-alone', 'content-together', /^facts of the shard /, /^exception ShardRefused: .* is being opened$/],
  [
    'close-overtakes',
    'content-order',
    /^after open and close together: shards \[\]$/,
    /^shards \["conform@1\.0\.0\/shard"\]$/,
  ],
  ['keeps-files', 'content-files', /^no open file below .*good after close$/, /good$/],
  ['leaks', 'content-leaks', /^\d+ open files after 100 opens and closes, as after 10$/, /^\d+ open files$/],
  [
    'takes-empty-for-none',
    'shards-all',
    /^shards \["conform@1\.0\.0\/a","conform@1\.0\.0\/b"\] from hold$/,
    /^shards \[\]$/,
  ],
  ['answers-for-fewer', 'shards-unknown', /^an exception with error code 1 \(NO_POOL\)/, /^a result$/],
  [
    'fails-plainly',
    'shards-unknown',
    /^an exception with error code 1 \(NO_POOL\)/,
    /^TApplicationException .* without it$/,
  ],
  ['confuses-damage', 'shards-refused', /^why "the checksum of page 7 differs", isDamaged true$/, /"isDamaged":false/],
  [
    'closes-at-once',
    'close-waits',
    /^the reply to close after those of the calls that use the shard$/,
    /^it came before$/,
  ],
  ['lists-the-closing', 'close-waits', /^no open shard while close waits$/, /^\["conform@1\.0\.0\/a"\]$/],
  [
    'waits-for-calls',
    'control-busy',
    /^replies to open, ping and close of other shards while calls run$/,
    /^they waited/,
  ],
  ['blocks', 'open-slow', /^a reply to a ping while it opens a shard$/, /^the ping waited for open$/],
  ['opens-alone', 'open-slow-together', /^facts of the shard .*slow$/, /^exception ShardRefused: .* is being opened$/],
  ['close-overtakes', 'open-slow-together', /^the reply to close after that to open$/, /^it came before$/],
];

async function conform(fault: string, ...options: string[]): Promise<Summary> {
  const command = scriptCommand(new URL('../../../fixtures/chassis/content-faults.ts', import.meta.url));
  const words = ['conform', '--json', '--start-timeout', '60s', ...options, '--', ...command];
  const { stdout, stderr } = await runInside(words, {
    cwd: os.tmpdir(),
    env: { ...process.env, CONTENT_FAULT: fault },
  });
  expect(stderr).toBe('');
  return JSON.parse(stdout) as Summary;
}

const failed = ({ checks }: Summary): Result[] => checks.filter(({ verdict }) => verdict === 'failed');

describe('katamari conform', () => {
  test(
    'finds nothing wrong with a content server by hand',
    async () => {
      const ofContent = FAULTS.map(([, check]) => check);
      const { checks, counts } = await conform('', '--only', ...new Set(ofContent));
      expect(checks.filter(({ verdict }) => verdict !== 'ok')).toEqual([]);
      expect(counts.ok).toBeGreaterThan(15);
    },
    BUSY_MS,
  );

  test(
    'says once that a content server does not open the shard it is given, and skips what needs it',
    async () => {
      const folder = mkdtempSync(path.join(os.tmpdir(), 'katamari-refused-'));
      onTestFinished(() => rmSync(folder, { recursive: true }));
      const shard = path.join(folder, 'part-0');
      writeFileSync(shard, 'refused it has format 9\n');
      const summary = await conform('', '--content', shard, '--only', 'content-open', 'content-close', 'content-order');
      const [first, ...others] = failed(summary);
      expect([first?.id, others]).toEqual(['content-open', []]);
      expect(first?.came).toBe('exception ShardRefused: it has format 9');
      expect(first?.advice).toContain('correct the function that opens a shard');
      const skipped = summary.checks.filter(({ verdict }) => verdict === 'skipped').map(({ id }) => id);
      expect(skipped).toEqual(['content-close', 'content-order']);
    },
    BUSY_MS,
  );

  test.each(FAULTS)(
    'finds that a content server %s, by %s',
    async (fault, check, expected, came) => {
      const [first, ...others] = failed(await conform(fault, '--only', check));
      expect([first?.id, others.map(({ id }) => id)]).toEqual([check, []]);
      expect(first?.expected).toMatch(expected);
      expect(first?.came).toMatch(came);
      expect(first?.advice.length).toBeGreaterThan(20);
    },
    BUSY_MS,
  );
});

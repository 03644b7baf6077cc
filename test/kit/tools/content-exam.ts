// The exam of a content server: `katamari conform` on a chassis that implements idl/content_conformance.thrift.

import path from 'node:path';
import { expect } from 'vitest';
import type { Summary } from '../../../services/cli/conform/report.ts';
import { REPOSITORY } from './repository.ts';
import { runKatamari } from './run.ts';

/** Interface of the fixtures that take the exam. */
export const CONTENT_CONFORMANCE: string = path.join(REPOSITORY, 'idl', 'content_conformance.thrift');

/** Expects that a fixture passes every check of content servers, and that no call waits while it opens a shard. */
export async function expectContentConformance(
  command: readonly string[],
  concurrency: string,
  env: Readonly<Record<string, string>> = {},
): Promise<void> {
  const { stdout, stderr } = await runKatamari(['conform', '--json', '--', ...command], {
    env: { ...env, CONFORMANCE_CONCURRENCY: concurrency },
  });
  expect(stderr).toBe('');
  const { checks, chassis } = JSON.parse(stdout) as Summary;
  expect(chassis).toMatchObject({ serviceName: 'ContentConformance', concurrency: Number(concurrency) });
  // The others need idl/conformance.thrift.
  const noted = checks.filter(({ verdict, id }) => verdict === 'failed' || CONTENT.test(id));
  expect(noted.filter(({ verdict }) => verdict !== 'ok')).toEqual([]);
  expect(noted.length).toBe(CHECKS);
  expect(noted.find(({ id }) => id === 'open-slow')?.note).toBe('');
}

const CONTENT = /^(content|shards|close|control|open)-/;
const CHECKS = 20;

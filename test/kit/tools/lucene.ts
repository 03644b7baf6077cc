// The Lucene servers, built from Debian's packages as a user does.

import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { builtOnce } from './built-once.ts';
import { REPOSITORY } from './repository.ts';
import { toolPath } from './tools.ts';

/** `lucene` reads indexes of Lucene 7 and 8, `lucene3` older ones. */
export type LuceneName = 'lucene' | 'lucene3';

/** Timeout for hooks that build: a busy machine takes a minute. */
export const LUCENE_BUILD_MS = 240_000;

/** Returns the command of a server. */
export async function luceneCommand(name: LuceneName): Promise<readonly string[]> {
  const inputs = ['chassis-sdk/java', 'content-servers/lucene', 'idl/search.thrift', 'idl/content.thrift'];
  const folder = await builtOnce('lucene', inputs, async (into) => {
    const env = { ...process.env, THRIFT: toolPath('thrift') };
    const build = path.join(REPOSITORY, 'content-servers', 'lucene', 'build.sh');
    await promisify(execFile)('sh', [build, into], { env, timeout: LUCENE_BUILD_MS });
  });
  return [path.join(folder, name)];
}

/** Builds shards from files with a JSON object a line, all of them in one process. */
export async function buildLuceneShards(
  name: LuceneName,
  jobs: readonly { readonly ndjson: string; readonly shard: string }[],
): Promise<void> {
  const folder = mkdtempSync(path.join(tmpdir(), 'katamari-lucene-build-'));
  try {
    const list = path.join(folder, 'list');
    writeFileSync(list, jobs.map(({ ndjson, shard }) => `${ndjson}\t${shard}\n`).join(''));
    await luceneBuild(name, ['--each', list]);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Runs the builder. Returns what it says. */
export async function luceneBuild(name: LuceneName, args: readonly string[]): Promise<string> {
  const [program = ''] = await luceneCommand(name);
  const { stdout } = await promisify(execFile)(program, ['build', ...args], { timeout: LUCENE_BUILD_MS });
  return stdout.trim();
}

/** The file of a shard with the terms (Lucene 8) or the postings (Lucene 3). */
export function luceneFileOf(shard: string): string {
  const found = readdirSync(shard).find((file) => /\.(tim|frq)$/.test(file));
  if (found === undefined) throw new Error(`${shard} has no terms`);
  return path.join(shard, found);
}

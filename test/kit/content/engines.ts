// The engines that sit the exam for content servers. To add one: a command that starts it, and a function that builds
// shards from NDJSON files, all of them in one go so that a slow start counts once.

import { mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { buildShards } from '../../../content-servers/text/mod.ts';
import { runtimeName, scriptCommand } from '../../../core/mod.ts';
import { buildLuceneShards, luceneCommand, luceneFileOf, type LuceneName } from '../tools/lucene.ts';
import { CORPUS_OTHER_FIELDS, CORPUS_TEXT_FIELDS } from './corpus.ts';

/** A shard to build. */
export interface ShardJob {
  /** One JSON object a line: text is indexed and stored, numbers and bytes (`{"$binary": base64}`) are stored. */
  readonly ndjson: string;
  /** File or folder to make. */
  readonly shard: string;
}

export interface ContentEngine {
  readonly name: string;
  readonly command: () => readonly string[] | Promise<readonly string[]>;
  readonly build: (jobs: readonly ShardJob[]) => Promise<void>;
  /** A file of a shard that is there for each engine to damage. */
  readonly fileOf: (shard: string) => string;
  /** Queries that it refuses, and the place that it names. */
  readonly badQueries: readonly (readonly [query: string, at: number])[];
  /** Splits that the property tests try. */
  readonly runs: number;
}

const lucene = (name: string, program: LuceneName): ContentEngine => ({
  name,
  command: () => luceneCommand(program),
  build: (jobs) => buildLuceneShards(program, jobs),
  fileOf: luceneFileOf,
  badQueries: [
    ['', 0],
    ['ka AND', 6],
    ['(ka OR lo', 9],
    ['ka "lo mi', 9],
    ['ka )', 3],
  ],
  // Each starts a JVM to build its shards.
  runs: 4,
});

export const CONTENT_ENGINES: readonly ContentEngine[] = [
  {
    name: 'TextSearch',
    command: () => scriptCommand(new URL('../../../content-servers/text/main.ts', import.meta.url)),
    build: async (jobs) => {
      const fields = Object.fromEntries([
        ...CORPUS_TEXT_FIELDS.map((field) => [field, 'text'] as const),
        ...CORPUS_OTHER_FIELDS.map((field) => [field, 'stored'] as const),
      ]);
      for (const { ndjson, shard } of jobs) {
        mkdirSync(path.dirname(shard), { recursive: true });
        const output = mkdtempSync(`${shard}-`);
        await buildShards({ inputs: [ndjson], output, shards: 1, fields });
        renameSync(path.join(output, 'part-00000'), shard);
        rmSync(output, { recursive: true });
      }
    },
    fileOf: (shard) => shard,
    badQueries: [
      ['', 0],
      ['ka AND', 6],
      ['(ka OR lo', 0],
      ['ka "lo mi', 3],
      ['ka )', 3],
      ['NOT ka', 0],
      ['ka nosuchfield:lo', 3],
    ],
    runs: 12,
  },
  // The runtime makes no difference to programs in Java.
  ...(runtimeName() === 'node' ? [lucene('Lucene', 'lucene'), lucene('Lucene3', 'lucene3')] : []),
];

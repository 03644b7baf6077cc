// Indices of TextSearch for tests on clusters, made of random words. How often a word occurs in each is known.

import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { buildShards } from '../../../content-servers/text/mod.ts';
import { scriptCommand } from '../../../core/mod.ts';
import type { DeploymentText } from '../mesh/mesh.ts';
import { REPOSITORY } from '../tools/repository.ts';
import type { Random } from '../tools/random.ts';

export const WORDS: readonly string[] = ['the', 'cat', 'and', 'dog', 'rabbit', 'hole'];

/** TextSearch in the configuration of a manager. */
export const TEXT_SEARCH: DeploymentText = {
  service: 'TextSearch',
  version: '1.0.0',
  command: scriptCommand(path.join(REPOSITORY, 'content-servers/text/main.ts')),
  count: 1,
};

/** Builds the shards in a folder. Returns the number of documents that have each word. */
export async function buildText(
  folder: string,
  random: Random,
  { documents, shards }: { readonly documents: number; readonly shards: number },
): Promise<Readonly<Record<string, number>>> {
  const counts = Object.fromEntries(WORDS.map((word) => [word, 0]));
  const lines = Array.from({ length: documents }, (_, id) => {
    const words = Array.from({ length: random.between(1, 8) }, () => random.pick(WORDS));
    for (const word of new Set(words)) counts[word] = (counts[word] ?? 0) + 1;
    return JSON.stringify({ text: words.join(' '), id });
  });
  mkdirSync(folder, { recursive: true });
  const file = `${folder}.ndjson`;
  writeFileSync(file, lines.join('\n'));
  await buildShards({ inputs: [file], output: folder, shards });
  return counts;
}

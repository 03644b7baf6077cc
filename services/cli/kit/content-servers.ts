// The content servers that come with Katamari and run on the runtime of this process, and which of them serves the
// shards of a folder.

import { open, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { scriptCommand } from '../../../core/mod.ts';
import { didYouMean, EXIT, ExitError } from '../../config/mod.ts';

export type ContentServerName = 'TextSearch' | 'MapFileLookup';

const PROGRAMS: Readonly<Record<ContentServerName, URL>> = {
  TextSearch: new URL('../../../content-servers/text/main.ts', import.meta.url),
  MapFileLookup: new URL('../../../content-servers/map-file/main.ts', import.meta.url),
};

/** @throws ExitError for an unknown name */
export function contentServerOf(name: string): ContentServerName {
  if (Object.hasOwn(PROGRAMS, name)) return name as ContentServerName;
  const names = Object.keys(PROGRAMS);
  throw new ExitError(
    EXIT.usage,
    `Found ${JSON.stringify(name)}, expected ${names.join(' or ')}${didYouMean(name, names)}`,
  );
}

/** The command line of a content server. */
export function contentServerCommand(name: ContentServerName): string[] {
  return scriptCommand(PROGRAMS[name]);
}

/** Runs a content server in this process. */
export async function runContentServer(name: ContentServerName): Promise<void> {
  const { href } = PROGRAMS[name];
  // In dist/ there are only built files.
  await import(import.meta.url.endsWith('.js') ? href.replace(/\.ts$/, '.js') : href);
}

/** Finds out from its first shard which content server serves a folder. @throws ExitError */
export async function serverOfFolder(folder: string): Promise<ContentServerName> {
  const { isNoShard } = await import('../../../core/mod.ts');
  const names = (await readdir(folder).catch(() => [])).filter((name) => !isNoShard(name)).sort();
  const [first] = names;
  if (first === undefined) throw new ExitError(EXIT.failed, `${folder} has no shards; katamari index build makes some`);
  if (isMapFile(names) || names.some(isLuceneFile))
    throw new ExitError(EXIT.failed, `${folder} is itself one shard; name the folder that it is in`);
  const shard = path.join(folder, first);
  if ((await stat(shard)).isDirectory()) {
    const files = await readdir(shard);
    if (isMapFile(files)) return 'MapFileLookup';
    if (files.some(isLuceneFile))
      throw new ExitError(
        EXIT.failed,
        `${shard} is a Lucene index. Deploy Lucene, or Lucene3 for Lucene 3.6 and older (docs/lucene.md), and add the ` +
          'index with katamari index add',
      );
  } else if ((await headOf(shard)).startsWith('SQLite format 3')) return 'TextSearch';
  throw new ExitError(
    EXIT.failed,
    `${shard} is neither a shard of TextSearch nor a MapFile. Make shards of documents with katamari index build, or ` +
      'deploy a content server of your own and add the index with katamari index add',
  );
}

function isMapFile(names: readonly string[]): boolean {
  return names.includes('data') && names.includes('index');
}

function isLuceneFile(name: string): boolean {
  return /^segments(_[0-9a-z]+|\.gen)$/.test(name);
}

async function headOf(file: string): Promise<string> {
  const handle = await open(file, 'r');
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(16), 0, 16, 0);
    return buffer.toString('latin1', 0, bytesRead);
  } finally {
    await handle.close();
  }
}

// Which content server serves the shards of a folder.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { buildShards } from '../../../../content-servers/text/mod.ts';
import { serverOfFolder } from '../../../../services/cli/kit/content-servers.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'katamari-servers-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('serverOfFolder()', () => {
  test('looks at the first shard, and not at the marks of the program that wrote the folder', async () => {
    const documents = path.join(folder, 'documents.ndjson');
    writeFileSync(documents, '{"text":"the cat"}');
    const text = path.join(folder, 'text');
    await buildShards({ inputs: [documents], output: text, shards: 1 });
    expect(await serverOfFolder(text)).toBe('TextSearch');
    const maps = path.join(folder, 'maps');
    mkdirSync(path.join(maps, 'part-00000'), { recursive: true });
    for (const name of ['_SUCCESS', 'shards.json', 'part-00000/data', 'part-00000/index'])
      writeFileSync(path.join(maps, name), '');
    expect(await serverOfFolder(maps)).toBe('MapFileLookup');
    rmSync(path.join(maps, 'part-00000'), { recursive: true });
    await expect(serverOfFolder(maps)).rejects.toThrow('has no shards; katamari index build makes some');
  });

  test('tells a Lucene index, and a folder that is itself a shard', async () => {
    const lucene = path.join(folder, 'lucene');
    mkdirSync(path.join(lucene, 'part-00000'), { recursive: true });
    writeFileSync(path.join(lucene, 'part-00000', 'segments_2'), '');
    await expect(serverOfFolder(lucene)).rejects.toThrow('part-00000 is a Lucene index. Deploy Lucene, or Lucene3');
    await expect(serverOfFolder(path.join(lucene, 'part-00000'))).rejects.toThrow(
      'is itself one shard; name the folder that it is in',
    );
  });
});

// A content server that answers wrongly costs its own index an error that says what is wrong, and nobody anything else.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { consulClient } from '../../services/consul/mod.ts';
import { documentSigner } from '../../services/mesh/mod.ts';
import { addIndex } from '../kit/mesh/index-source.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { fixture, work } from '../kit/mesh/mesh.ts';
import { until } from '../kit/tools/wait.ts';

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

interface Status {
  readonly name: string;
  readonly state: string;
  readonly entries: number;
  readonly conditions: readonly string[];
}

const OPENED = [
  'another_type',
  'no_value',
  'largest_counts',
  'odd_scores',
  'too_many_hits',
  'hit_elsewhere',
  'too_much_coverage',
  'other_coverage',
  'long_coverage',
  'bare_coverage',
  'long_cursor',
];
const REFUSED = ['negative_entries', 'too_many_entries', 'no_facts', 'long_refusal'];
let folder: string;
let mesh: MeshProcess;

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-lies-'));
  mesh = await startMeshProcess({
    directory: folder,
    settings: { timeout: '5s' },
    deployments: [work({ service: 'Liar', command: fixture('lying-engine.ts'), count: 2 })],
  });
  const secret = readFileSync(path.join(folder, 'data/link-secret'), 'utf8').trim();
  const signer = documentSigner('test', () => [secret]);
  const client = consulClient({ address: mesh.addresses.consul, token: mesh.consulToken, signer });
  for (const name of ['honest', ...OPENED, ...REFUSED]) {
    mkdirSync(path.join(folder, name));
    writeFileSync(path.join(folder, name, 'a'), name);
    writeFileSync(path.join(folder, name, 'b'), 'honest');
    await addIndex(client, path.join(folder, name), '1.0.0', { name, contentService: 'Liar', contentRange: '' });
  }
  for (const name of ['honest', ...OPENED])
    await until(`${name} to be served`, async () => {
      const { error } = await mesh.call(`${name}.count`, { query: 'x' });
      return error?.data?.['code'] !== 'no_pool';
    });
}, 90_000);
afterAll(async () => {
  await mesh?.end();
  rmSync(folder, { recursive: true, force: true });
});

async function indices(): Promise<readonly Status[]> {
  const args = { token: mesh.adminToken, name: '', withShards: false };
  const { result, error } = await mesh.call('KatamariIndices.getIndices', args);
  if (error !== undefined) throw new Error(error.message);
  return result as readonly Status[];
}

async function conditionsOf(index: string): Promise<string> {
  return (await indices()).find(({ name }) => name === index)?.conditions.join('; ') ?? '';
}

interface Found {
  readonly total: number | string;
  readonly hits: readonly { readonly shard: string; readonly document: number; readonly score: number | string }[];
  readonly coverage: { readonly complete: number; readonly missing: readonly { why: string }[] };
  readonly cursor: string;
}

async function search(index: string, params: Readonly<Record<string, unknown>> = {}): Promise<Found> {
  const { result, error } = await mesh.call(`${index}.search`, { query: 'x', count: 3, ...params });
  if (error !== undefined) throw new Error(`${String(error.data?.['code'])}: ${error.message}`);
  return result as Found;
}

describe('A content server that opens a shard', () => {
  test.each([
    ['negative_entries', 'says that it has -5 entries, expected 0 to 1099511627776; mend the content server'],
    ['too_many_entries', 'says that it has 9223372036854775807 entries, expected 0 to 1099511627776'],
    ['no_facts', 'expected ShardFacts or an exception, got neither'],
    ['long_refusal', 'refused it: xxx'],
  ])('with %s is named with the reason, and the other shard is served', async (index, why) => {
    const told = await until('the reason', async () => {
      const conditions = await conditionsOf(index);
      return conditions.includes(why) ? conditions : undefined;
    });
    expect(told.length).toBeLessThan(2_000);
    const found = (await indices()).find(({ name }) => name === index);
    expect(found).toMatchObject({ state: 'LOADING', entries: 1 });
  });
});

describe('An answer of a content server', () => {
  test('that is right is passed on', async () => {
    expect(await search('honest')).toMatchObject({ total: 2, coverage: { complete: 2 } });
  });

  test('with another type, or none, is a failure of its shard', async () => {
    const type = 'another_type@1.0.0/a FAILED (the reply of one cannot be decoded: success: expected map<string, i64>';
    await expect(search('another_type')).rejects.toThrow(type);
    await expect(search('no_value')).rejects.toThrow('no_value@1.0.0/a FAILED (one returned no value)');
    expect(await search('another_type', { minCoverage: 0.5 })).toMatchObject({ coverage: { complete: 1 } });
    const { error } = await mesh.call('another_type.count', { query: 'x' });
    // The other shard may not have answered when it is certain that one is missing.
    expect(error?.message).not.toContain('in time');
  });

  test('with numbers that no sum can have is refused', async () => {
    await expect(search('largest_counts')).rejects.toThrow(
      'internal: The sum of the results of statistics does not fit into 64 bits: 9223372036854775808',
    );
  });

  test('with scores that are no numbers, or out of order, is put in order', async () => {
    const { hits } = await search('odd_scores', { count: 5 });
    expect(hits.map(({ score }) => score)).toEqual(['Infinity', 5, 1, 1, 'NaN']);
  });

  test('with more hits than were asked for is cut', async () => {
    expect((await search('too_many_hits')).hits.map(({ document }) => document)).toEqual([0, 1, 2]);
  });

  test('with a hit of another index is refused', async () => {
    await expect(search('hit_elsewhere')).rejects.toThrow(
      'internal: A content server of hit_elsewhere@1.0.0 has found a document in the shard "other@9.0.0/part", and ' +
        'hit_elsewhere@1.0.0 has no such shard; mend the content server',
    );
  });

  test('counts for its own shards alone, whatever coverage it claims', async () => {
    expect(await search('too_much_coverage')).toMatchObject({ coverage: { complete: 2, missing: [] } });
    await expect(search('other_coverage')).rejects.toThrow(
      /^incomplete: 1 of 2 shards .+: 1 that the content servers do not name/,
    );
    await expect(search('bare_coverage')).rejects.toThrow('bare_coverage@1.0.0/a FAILED. See');
  });

  test('with a reason or a cursor of megabytes becomes no such answer', async () => {
    const { coverage } = await search('long_coverage', { minCoverage: 0.5 });
    expect(coverage.missing.map(({ why }) => why)).toEqual([expect.stringMatching(/^x{497}\.\.\.$/)]);
    const refused = await search('long_coverage').catch((error: Error) => error.message);
    expect((refused as string).length).toBeLessThan(1_000);
    expect((await search('long_cursor')).cursor.length).toBeLessThan(1_000);
  });
});

describe('Names that a caller has made up', () => {
  const long = 'y'.repeat(1_000_000);

  test.each([
    ['shards', 'honest.count', { query: 'x', shards: [long] }, /^honest@1\.0\.0 has no shard "y{197}\.\.\."; its/],
    ['a pattern', 'KatamariSearch.count', { query: 'x', indices: [`${long}*`] }, /^No index is called y{197}\.\.\.; /],
    ['patterns', 'KatamariSearch.count', { query: 'x', indices: Array(5_000).fill('*x*') }, /^The search is in 5000 /],
  ])('as %s are refused with a short error', async (_, method, params, why) => {
    const { error } = await mesh.call(method, params);
    expect(error?.message).toMatch(why);
    expect(error?.message.length).toBeLessThan(1_000);
  });
});

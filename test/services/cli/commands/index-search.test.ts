// `katamari index search`: what it asks, what it prints, and what it refuses before it asks.

import { afterEach, describe, expect, test } from 'vitest';
import { runInside } from '../run-inside.ts';
import { startRpcServer, type RpcServer } from '../rpc-server.ts';

let server: RpcServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});

const TEXT = 'a rabbit '.repeat(20).trim();
const FOUND = {
  total: 1,
  hits: [{ shard: 'wiki@1.0.0/part-00000', document: 3, score: 1.5, fields: { text: [{ text: TEXT }] } }],
  cursor: '',
  coverage: { shards: 4, complete: 4, missing: [] },
};

async function search(
  args: readonly string[],
  answer: Parameters<typeof startRpcServer>[0],
  screen?: [number, number],
) {
  server = await startRpcServer(answer, { 'katamari-version': '1.0.0' });
  const options = { cwd: '/', ...(screen === undefined ? {} : { screen }) };
  return runInside(['index', 'search', ...args, '--mesh', server.url], options);
}

describe('katamari index search', () => {
  test('joins the words of a query that is not in quotes, and passes all options', async () => {
    const args = ['wiki@^1', 'rabbit', 'hole', '--count', '2', '--min-coverage', '0.5', '--sort', '-line'];
    const { code } = await search(args, () => ({ result: FOUND }));
    expect(code).toBe(0);
    expect(server?.asked[0]).toMatchObject({
      path: '/rpc/wiki',
      params: {
        query: 'rabbit hole',
        count: 2,
        fields: ['*'],
        minCoverage: 0.5,
        sort: [{ field: 'line', descending: true }],
      },
      headers: { 'katamari-version': '^1' },
    });
  });

  test('cuts a text to the screen, and not in a pipe', async () => {
    const shown = await search(['wiki', 'rabbit'], () => ({ result: FOUND }), [40, 20]);
    expect(shown.stdout).not.toContain(TEXT);
    await server?.close();
    const piped = await search(['wiki', 'rabbit'], () => ({ result: FOUND }));
    expect(piped.stdout).toContain(`       text: ${TEXT}\n`);
  });

  test('names the version of one index, and none for several', async () => {
    const one = await search(['wiki', 'rabbit'], () => ({ result: FOUND }));
    expect(one.stdout).toContain('1 document of 4 shards, version 1.0.0\n');
    await server?.close();
    const several = await search(['wiki,news_*', 'rabbit'], () => ({ result: FOUND }));
    expect(several.stdout).toContain('1 document of 4 shards\n');
    expect(server?.asked[0]).toMatchObject({ path: '/rpc/KatamariSearch', params: { indices: ['wiki', 'news_*'] } });
  });

  test('tells of a field that no hit has', async () => {
    const { code, stderr } = await search(['wiki', 'rabbit', '--fields', 'text,titel'], () => ({ result: FOUND }));
    expect([code, stderr]).toEqual([0, 'No hit has a stored field "titel".\n']);
  });

  test('shows the place in the query, or in the filter', async () => {
    const refuse = (why: string) => () => ({
      error: { code: -32000, message: 'm', data: { exception: 'BadQuery', why, at: 7 } },
    });
    const query = await search(['wiki', 'rabbit ('], refuse('found the end'));
    expect([query.code, query.stderr]).toEqual([1, 'katamari: found the end\n  rabbit (\n         ^\n']);
    await server?.close();
    const filter = await search(['wiki', 'x', '--filter', 'queen  ('], refuse('in the filter: found the end'));
    expect(filter.stderr).toBe('katamari: in the filter: found the end\n  queen  (\n         ^\n');
  });

  test.each([
    [['wi#ki', 'x'], 'Found "wi#ki", expected the name of an index'],
    [['my wiki', 'x'], 'Found "my wiki", expected the name of an index'],
    [['wiki@1.0.0@2', 'x'], 'Found "wiki@1.0.0@2", expected the name of an index'],
    [['wiki,', 'x'], 'Found "", expected the name of an index'],
    [
      ['wiki', 'x', '--count', '10001'],
      '--count: found "10001", expected 0 to 10000; --after gets the hits after them',
    ],
    [['wiki', 'x', '--count', '10000000'], '--count: found "10000000", expected 0 to 10000'],
    [['wiki', 'x', '--min-coverage', '90%'], '--min-coverage: found "90%", expected 0 to 1'],
    [['wiki'], "missing required argument 'query'\n(see `katamari index search --help`)"],
  ])('refuses %j and asks nothing', async (args, why) => {
    const { code, stderr } = await search(args, () => ({ result: FOUND }));
    expect([code, server?.asked]).toEqual([2, []]);
    expect(stderr).toContain(`katamari: ${why}`);
  });
});

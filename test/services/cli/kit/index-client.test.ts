// The client of commands for indices, with a mesh whose calls time out.

import { afterEach, describe, expect, test } from 'vitest';
import { AdminClient } from '../../../../services/cli/kit/admin-client.ts';
import { IndexClient, type NewIndex } from '../../../../services/cli/kit/index-client.ts';
import { startRpcServer, type RpcServer } from '../rpc-server.ts';

type Answer = { result: unknown } | { error: object };

const WIKI: NewIndex = {
  name: 'wiki',
  version: '1.0.0',
  source: 'file:///wiki',
  contentService: 'Words',
  promoteAtReplicas: 1,
};
const TIMED_OUT: Answer = { error: { code: -32003, message: 'The work continues, see katamari events' } };
const refused = (why: string): Answer => ({
  error: { code: -32050, message: 'AdminRefused', data: { exception: 'AdminRefused', code: 'invalid', why } },
});
const answered = (isNew: boolean): Answer => ({ result: { status: { version: '1.0.0' }, warnings: [], isNew } });

let mesh: RpcServer | undefined;
afterEach(async () => await mesh?.close());

/** A mesh that gives each method its answers in turn, the last one for good. */
async function clientOf(answers: Readonly<Record<string, readonly Answer[]>>): Promise<IndexClient> {
  const given: Record<string, number> = {};
  mesh = await startRpcServer(({ method }) => {
    const own = answers[method] ?? [];
    const at = given[method] ?? 0;
    given[method] = at + 1;
    return own[Math.min(at, own.length - 1)];
  });
  return new IndexClient(
    new AdminClient({
      url: mesh.url,
      from: 'the test',
      bearer: '',
      findToken: () => ({ token: 't', from: 'the test' }),
    }),
  );
}

describe('IndexClient.add()', () => {
  test('waits for the version when the call times out, because its work continues', async () => {
    const client = await clientOf({
      addIndex: [TIMED_OUT, TIMED_OUT, answered(false)],
      getIndices: [{ result: [] }, refused('There is no index wiki'), { result: [{ name: 'wiki', version: '1.0.0' }] }],
    });
    expect(await client.add(WIKI)).toEqual({ status: { version: '1.0.0' }, warnings: [], isNew: true });
  });

  test('is refused when another admin has added something else meanwhile', async () => {
    const client = await clientOf({
      addIndex: [TIMED_OUT, refused('wiki@1.0.0 exists, with the source file:///other')],
      getIndices: [{ result: [{ name: 'wiki', version: '1.0.0' }] }],
    });
    await expect(client.add(WIKI)).rejects.toThrow('exists, with the source file:///other');
  });

  test('says where the reason is when the version does not come', async () => {
    const client = await clientOf({ addIndex: [TIMED_OUT], getIndices: [{ result: [] }] });
    await expect(client.add(WIKI, 0)).rejects.toThrow('wiki@1.0.0 is not added after 0ms: the mesh could not list');
  });

  test('reports a refusal at once', async () => {
    const client = await clientOf({ addIndex: [refused('the source has no shards')] });
    await expect(client.add(WIKI)).rejects.toThrow('the source has no shards');
    expect(mesh?.asked.length).toBe(1);
  });
});

describe('IndexClient.status()', () => {
  test('is tried again after a timeout', async () => {
    const client = await clientOf({ getIndices: [TIMED_OUT, { result: [{ name: 'wiki' }] }] });
    expect(await client.status('wiki', false)).toEqual([{ name: 'wiki' }]);
  });
});

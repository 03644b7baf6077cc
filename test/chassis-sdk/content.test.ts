// The shards of a content server, through its control service.
import { describe, expect, test } from 'vitest';
import { Content, type ContentOptions, DamagedShard } from '../../chassis-sdk/typescript/mod.ts';
import { decodeResult, encodeParams } from '../../core/idl/mod.ts';
import { systemClock } from '../../core/mod.ts';
import { contentInterface, createCall, dispatchOf } from '../../core/rpc/mod.ts';
import { readApplicationException, type Method } from '../../core/thrift/mod.ts';

function start(options: Partial<ContentOptions<string>> = {}) {
  const told: string[] = [];
  const content = new Content<string>({
    open: (path, name) => {
      told.push(`open ${name}`);
      return { shard: `opened ${path}`, entries: 3 };
    },
    close: (_, name) => void told.push(`close ${name}`),
    ...options,
  });
  const dispatch = dispatchOf(content.control());
  const ask = async (name: string, params: Readonly<Record<string, unknown>>): Promise<unknown> => {
    const method = contentInterface().methods.get(name) as Method;
    const args = encodeParams(method, params);
    const call = { service: 'katamari.Content', method: name, args, deadlineMs: systemClock.nowMs() + 10_000 };
    const reply = await dispatch(createCall(call));
    if (reply.isException) throw new Error(readApplicationException(reply.body).message);
    const result = decodeResult(method, reply.body);
    return result.ok ? result.value : { exception: result.exception, ...result.fields };
  };
  const open = (shard: string, path = '/a'): Promise<unknown> => ask('open', { shard, path });
  return { content, told, open, close: (shard: string) => ask('close', { shard }), shards: () => ask('shards', {}) };
}

/** A promise and the functions that settle it. */
function gate<T = void>() {
  let release: (value: T) => void = () => undefined;
  const passed = new Promise<T>((resolve) => (release = resolve));
  return { passed, release };
}
const turns = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));

describe('A content server', () => {
  test('opens a shard once, and answers with the same facts again', async () => {
    const { open, shards, told } = start();
    const facts = { entries: 3, more: {} };
    expect(await Promise.all([open('i@1/a'), open('i@1/a')])).toEqual([facts, facts]);
    expect(await open('i@1/a')).toEqual(facts);
    expect(told).toEqual(['open i@1/a']);
    await open('i@1/b');
    expect(await shards()).toEqual(['i@1/a', 'i@1/b']);
  });

  test('refuses a shard that is open from another path', async () => {
    const { open } = start();
    await open('i@1/a', '/a');
    expect(await open('i@1/a', '/b')).toEqual({
      exception: 'ShardRefused',
      why: 'i@1/a is open from /a; close it first',
      isDamaged: false,
    });
  });

  test.each([
    [new Error('no licence'), { why: 'no licence', isDamaged: false }],
    [new DamagedShard('checksum differs'), { why: 'checksum differs', isDamaged: true }],
  ])('that throws %s refuses the shard, and opens it when it is asked again', async (error, refusal) => {
    let tries = 0;
    const { open, shards } = start({
      open: () => {
        if (tries++ === 0) throw error;
        return { shard: 'good', entries: 1 };
      },
    });
    expect(await open('i@1/a')).toEqual({ exception: 'ShardRefused', ...refusal });
    expect(await shards()).toEqual([]);
    expect(await open('i@1/a')).toEqual({ entries: 1, more: {} });
  });

  test('closes a shard when the calls that use it have ended', async () => {
    const { content, open, close, shards, told } = start();
    await open('i@1/a');
    const [first, second] = [gate(), gate()];
    const calls = [first, second].map(({ passed }) => content.use(['i@1/a'], async () => await passed));
    const closed = close('i@1/a').then(() => told.push('answered'));
    const closedAgain = close('i@1/a');
    await turns();
    expect(await shards()).toEqual([]);
    await expect(content.use(['i@1/a'], () => 'used')).rejects.toMatchObject({
      code: 'no_pool',
      message: 'Shard i@1/a is not open here; open are none',
    });
    first.release();
    await turns();
    expect(told).toEqual(['open i@1/a']);
    second.release();
    await Promise.all([closed, closedAgain, ...calls]);
    expect(told).toEqual(['open i@1/a', 'close i@1/a', 'answered']);
    await close('i@1/a');
    expect(told.length).toBe(3);
  });

  test('closes what is still being opened, and opens a shard again only when it is closed', async () => {
    const opening = gate();
    const closing = gate();
    const told: string[] = [];
    const { open, close, shards } = start({
      open: async () => {
        told.push('open');
        await opening.passed;
        return { shard: 'x', entries: 1 };
      },
      close: async () => {
        await closing.passed;
        told.push('closed');
      },
    });
    const first = open('i@1/a');
    const closed = close('i@1/a');
    const second = open('i@1/a');
    opening.release();
    await turns();
    expect(told).toEqual(['open']);
    closing.release();
    await Promise.all([first, closed, second]);
    expect(told).toEqual(['open', 'closed', 'open']);
    expect(await shards()).toEqual(['i@1/a']);
  });

  test('gives a call the shards that it names, or all', async () => {
    const { content, open } = start();
    await open('i@1/a', '/x');
    await open('i@1/b', '/y');
    const used = (names?: string[]): Promise<[string, string][]> => content.use(names, (shards) => [...shards]);
    expect(await used(['i@1/b'])).toEqual([['i@1/b', 'opened /y']]);
    const all = [
      ['i@1/a', 'opened /x'],
      ['i@1/b', 'opened /y'],
    ];
    expect(await used()).toEqual(all);
    expect(await used([])).toEqual(all);
  });

  test('releases the shards of a call that throws', async () => {
    const { content, open, close, told } = start();
    await open('i@1/a');
    await expect(
      content.use(['i@1/a'], () => {
        throw new Error('bad query');
      }),
    ).rejects.toThrow('bad query');
    await close('i@1/a');
    expect(told).toEqual(['open i@1/a', 'close i@1/a']);
  });

  test('whose close fails says so, and can open the shard again', async () => {
    let tries = 0;
    const { open, close } = start({
      close: () => {
        if (tries++ === 0) throw new Error('the file is locked');
      },
    });
    await open('i@1/a');
    await expect(close('i@1/a')).rejects.toThrow('the file is locked');
    expect(await open('i@1/a')).toEqual({ entries: 3, more: {} });
  });
});

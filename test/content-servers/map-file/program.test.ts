// The program MapFileLookup as a process under a resource manager, which opens and closes its shards and calls it.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { getMany, MapFile, SegmentCache } from '../../../content-servers/map-file/mod.ts';
import { decodeResult, encodeParams, parseIdl, readIdlFile } from '../../../core/idl/mod.ts';
import { DEFAULT_LIMITS, scriptCommand, systemClock } from '../../../core/mod.ts';
import { contentInterface, createCall, type Dispatch, dispatchOf } from '../../../core/rpc/mod.ts';
import { type Interface, type Method, readApplicationException } from '../../../core/thrift/mod.ts';
import { type Pair, writeMapFile } from '../../kit/content/map-file-writer.ts';
import { ManagerBench, workDeployment } from '../../kit/mesh/manager-fixture.ts';
import { REPOSITORY } from '../../kit/tools/repository.ts';
import { Random } from '../../kit/tools/random.ts';
import { until } from '../../kit/tools/wait.ts';

import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const MODULE = new URL('../../../content-servers/map-file/', import.meta.url);
const LOOKUP = parseIdl(readIdlFile(fileURLToPath(new URL('map_file_lookup.thrift', MODULE)))).services.get(
  'MapFileLookup',
) as Interface;

let folder: string;
let bench: ManagerBench;
let control: Dispatch | undefined;
beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-map-file-program-'));
  control = undefined;
  bench = new ManagerBench({
    limits: { ...DEFAULT_LIMITS, frameBytesMax: 500_000 },
    prepare: (chassis) => {
      expect(chassis.holdsShards).toBe(true);
      control = chassis.dispatch;
      return Promise.resolve();
    },
  });
  const command = scriptCommand(fileURLToPath(new URL('main.ts', MODULE)));
  bench.manager.setDeployments('file', [workDeployment({ service: 'MapFileLookup', version: '1.0.0', command })]);
  await until('the program to be ready', () => bench.serving()['MapFileLookup@1.0.0'] === 1);
}, 60_000);
afterEach(async () => {
  await bench.end();
  rmSync(folder, { recursive: true, force: true });
});

async function send(dispatch: Dispatch, service: string, method: Method, params: object): Promise<unknown> {
  const args = encodeParams(method, params as Readonly<Record<string, unknown>>);
  const deadlineMs = systemClock.nowMs() + 20_000;
  const version = service === 'MapFileLookup' ? '1.0.0' : '';
  const reply = await dispatch(createCall({ service, version, method: method.name, args, deadlineMs }));
  if (reply.isException) throw new Error(readApplicationException(reply.body).message);
  const result = decodeResult(method, reply.body);
  return result.ok ? result.value : { exception: result.exception, ...result.fields };
}

const content = (name: string, params: object = {}): Promise<unknown> =>
  send(control as Dispatch, 'katamari.Content', contentInterface().methods.get(name) as Method, params);
const lookup = (name: string, params: object): Promise<unknown> =>
  send(dispatchOf(bench.manager.send), 'MapFileLookup', LOOKUP.methods.get(name) as Method, params);
const open = (name: string, at: string): Promise<unknown> => content('open', { shard: `i@1.0.0/${name}`, path: at });
const base64 = (text: string): string => Buffer.from(text).toString('base64');
/** An entry, in the JSON form of the IDL. */
const entry = (shard: string, key: string, value: string): object => ({
  shard: `i@1.0.0/${shard}`,
  key: base64(key),
  value: base64(value),
});
const answer = (shards: number, ...entries: object[]): object => ({
  entries,
  coverage: { shards, complete: shards, missing: [], retried: 0, hedged: 0 },
});

const pairs = (prefix: string, count: number): Pair[] =>
  Array.from({ length: count }, (_, at): Pair => {
    const key = `${prefix}${String(at).padStart(6, '0')}`;
    return [Buffer.from(key), Buffer.from(`value of ${key}`)];
  });

function shard(name: string, entries: readonly Pair[], compression: 'NONE' | 'RECORD' | 'BLOCK' = 'BLOCK'): string {
  writeMapFile(path.join(folder, name), entries, { compression, blockBytes: 20_000 });
  return path.join(folder, name);
}

describe('MapFileLookup', () => {
  test('opens shards, answers in their order and in that of the keys, and closes them', async () => {
    expect(await open('a', shard('a', pairs('k', 300)))).toEqual({
      entries: 300,
      more: { format: 'Hadoop MapFile', keys: 'Text', values: 'Text', compression: 'BLOCK zlib', index: '1 entries' },
    });
    await open('b', shard('b', [...pairs('k', 2), ...pairs('x', 5)], 'NONE'));
    const [a, b] = ['i@1.0.0/a', 'i@1.0.0/b'];
    const [one, other] = [
      ['k000001', 'value of k000001'],
      ['x000004', 'value of x000004'],
    ] as const;
    expect(await lookup('get', { key: base64(one[0]) })).toEqual(answer(2, entry('a', ...one), entry('b', ...one)));
    expect(await lookup('get', { shards: [b, a], key: base64(one[0]) })).toEqual(
      answer(2, entry('b', ...one), entry('a', ...one)),
    );
    expect(await lookup('get', { shards: [a], key: base64(other[0]) })).toEqual(answer(1));
    const keys = [other[0], 'k', one[0]].map(base64);
    expect(await lookup('getMany', { keys })).toEqual(
      answer(2, entry('a', ...one), entry('b', ...other), entry('b', ...one)),
    );
    await content('close', { shard: a });
    await expect(lookup('get', { shards: [a], key: base64('k') })).rejects.toThrow(
      'Shard i@1.0.0/a is not open here; open are i@1.0.0/b',
    );
    expect(await content('shards')).toEqual([b]);
  }, 60_000);

  test('holds no file of a shard that it has closed', async () => {
    const at = shard('a', pairs('k', 300));
    await open('a', at);
    await lookup('get', { key: base64('k000001') });
    await content('close', { shard: 'i@1.0.0/a' });
    writeMapFile(at, pairs('n', 3));
    expect(await open('a', at)).toMatchObject({ entries: 3 });
    expect(await lookup('get', { key: base64('k000001') })).toEqual(answer(1));
    expect(await lookup('get', { key: base64('n000001') })).toEqual(
      answer(1, entry('a', 'n000001', 'value of n000001')),
    );
  }, 60_000);

  test('refuses calls that can never be answered as bad requests', async () => {
    await open('a', shard('a', pairs('k', 3)));
    await expect(lookup('getMany', { keys: Array.from({ length: 10_001 }, () => base64('k')) })).rejects.toMatchObject({
      code: 'bad_request',
      message: 'The call has 10001 keys, the limit is 10000; make more calls',
    });
  }, 60_000);

  test('refuses a damaged shard as damaged, and one that it cannot read as not damaged', async () => {
    const cut = shard('cut', pairs('k', 300));
    truncateSync(path.join(cut, 'data'), 1_500);
    expect(await open('cut', cut)).toMatchObject({
      exception: 'ShardRefused',
      isDamaged: true,
      why: expect.stringMatching(/^(data|index) is damaged at byte \d+: /),
    });
    writeMapFile(path.join(folder, 'other'), [], { compression: 'BLOCK', codec: 'SnappyCodec' });
    expect(await open('other', path.join(folder, 'other'))).toMatchObject({
      isDamaged: false,
      why: expect.stringContaining('SnappyCodec" cannot be read'),
    });
    expect(await open('none', path.join(folder, 'none'))).toMatchObject({ isDamaged: false });
    expect(await content('shards')).toEqual([]);
  }, 60_000);

  test('names the shard whose damage a call meets, and goes on', async () => {
    const at = shard('a', pairs('k', 1_000), 'RECORD');
    await open('a', at);
    const data = readFileSync(path.join(at, 'data'));
    data[data.indexOf('k000100') + 12] = 0;
    writeFileSync(path.join(at, 'data'), data);
    await expect(lookup('get', { key: base64('k000100') })).rejects.toThrow(
      /i@1.0.0\/a: data is damaged at byte \d+: zlib/,
    );
    expect(await lookup('get', { key: base64('k000900') })).toEqual(
      answer(1, entry('a', 'k000900', 'value of k000900')),
    );
  }, 60_000);

  test('refuses too many keys, answers that are too large, and keys that no record can have', async () => {
    const values = Array.from({ length: 6 }, (_, at): Pair => [Buffer.from(`k${at}`), Buffer.alloc(100_000, at)]);
    await open('a', shard('a', values));
    const keys = (count: number): string[] => Array.from({ length: count }, (_, at) => base64(`k${at}`));
    await expect(lookup('getMany', { keys: keys(10_001) })).rejects.toThrow('has 10001 keys, the limit is 10000');
    const found = async (count: number): Promise<number> =>
      ((await lookup('getMany', { keys: keys(count) })) as { entries: unknown[] }).entries.length;
    await expect(found(6)).rejects.toThrow(/more than 434464 bytes.*ask for fewer keys/);
    expect(await found(4)).toBe(4);
    const number: Pair = [Buffer.alloc(8), Buffer.from('zero')];
    writeMapFile(path.join(folder, 'n'), [number], { keyClass: 'LongWritable' });
    await open('n', path.join(folder, 'n'));
    await expect(lookup('get', { shards: ['i@1.0.0/n'], key: base64('k1') })).rejects.toThrow(
      'i@1.0.0/n: The key has 2 bytes; keys of this index are numbers or hashes of 8 bytes',
    );
  }, 60_000);

  test('answers a call with many keys, and gives it up when its time is over', async () => {
    const entries = pairs('k', 3_000);
    await open('a', shard('a', entries));
    const keys = entries.map(([key]) => key.toString('base64'));
    const { entries: found } = (await lookup('getMany', { keys })) as { entries: { value: string }[] };
    expect(found.map(({ value }) => value)).toEqual(entries.map(([, value]) => value.toString('base64')));
    const file = await MapFile.open(path.join(folder, 'a'), new SegmentCache(1_000_000));
    const limits = { keysMax: 10_000, answerBytesMax: 1_000_000 };
    let checks = 0;
    const late = getMany(
      new Map([['a', file]]),
      entries.map(([key]) => key),
      limits,
      () => (++checks === 3 ? 0 : 1),
    );
    await expect(late).rejects.toMatchObject({
      code: 'timeout',
      message: '768 look-ups took all the time of the call',
    });
    await file.close();
  }, 60_000);

  test('answers 15 callers at once', async () => {
    const entries = pairs('k', 20_000);
    await open('a', shard('a', entries.slice(0, 7_000)));
    await open('b', shard('b', entries.slice(7_000, 12_000), 'RECORD'));
    await open('c', shard('c', entries.slice(12_000), 'NONE'));
    const random = new Random(Number(process.env['SEED'] ?? 15));
    const wrong: string[] = [];
    const caller = async (): Promise<void> => {
      for (let call = 0; call < 300; call++) {
        const at = random.below(entries.length);
        const [key, value] = entries[at] as Pair;
        const wanted = answer(3, entry(at < 7_000 ? 'a' : at < 12_000 ? 'b' : 'c', String(key), String(value)));
        const found = await lookup('get', { key: key.toString('base64') });
        if (JSON.stringify(found) !== JSON.stringify(wanted)) wrong.push(`${String(key)}: ${JSON.stringify(found)}`);
      }
    };
    await Promise.all(Array.from({ length: 15 }, caller));
    expect([random.seed, wrong.slice(0, 3)]).toEqual([random.seed, []]);
  }, 60_000);

  // Data that is not in the repository.
  const katta = path.join(process.env['KATTA_DATA'] ?? path.join(REPOSITORY, '../shared/katta-data'), 'testMapFileA');
  test.skipIf(!existsSync(katta))(
    `has the 12 entries of the shards in ${katta}`,
    async () => {
      const names = ['a1', 'a2', 'a3', 'a4'];
      const opened = await Promise.all(names.map((name) => open(name, path.join(katta, name))));
      expect(opened.map((facts) => (facts as { entries: number }).entries)).toEqual([3, 3, 2, 4]);
      const text = (value: string): string => Buffer.from(value, 'base64').toString();
      const keys = 'a.txt b.xml c.log d.html e.txt f.log g.log h.txt i.xml j.log k.out l.txt'.split(' ');
      const found = (await lookup('getMany', { keys: [...keys, 'z.txt'].map(base64) })) as {
        entries: { shard: string; key: string; value: string }[];
      };
      expect(found.entries.map(({ key }) => text(key))).toEqual(keys);
      expect(found.entries.map(({ shard: name }) => name.slice(-2)).join(' ')).toBe(
        'a1 a1 a1 a2 a2 a2 a3 a3 a4 a4 a4 a4',
      );
      expect(text(found.entries[0]?.value ?? '')).toBe('This is a test');
      expect(await lookup('get', { key: base64('z.txt') })).toEqual(answer(4));
    },
    60_000,
  );
});

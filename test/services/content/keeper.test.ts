// The keeper with a real manager, real content servers and the real fetch process: a shard is announced when every copy
// has it open, and given up without a call that fails.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { decodeResult, encodeParams, parseIdl, readIdlFile } from '../../../core/idl/mod.ts';
import { systemClock } from '../../../core/mod.ts';
import { createCall, dispatchOf } from '../../../core/rpc/mod.ts';
import type { Interface, Method } from '../../../core/thrift/mod.ts';
import { listSource } from '../../../services/content/fetch/source-listing.ts';
import { FileSource } from '../../../services/content/fetch/sources/file-source.ts';
import { Fetcher, Keeper, type ShardOrder, ShardStore } from '../../../services/content/mod.ts';
import { EventLog, type Holding } from '../../../services/mesh/mod.ts';
import { ManagerBench, workDeployment } from '../../kit/mesh/manager-fixture.ts';
import { fixture } from '../../kit/mesh/mesh.ts';
import { until } from '../../kit/tools/wait.ts';

import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const WORDS = parseIdl(
  readIdlFile(fileURLToPath(new URL('../../fixtures/chassis/words.thrift', import.meta.url))),
).services.get('Words') as Interface;
const TIMEOUT_MS = 300;

const MANIFEST = 'a'.repeat(64);
let folder: string;
let keeper: Keeper;
let fetcher: Fetcher;
let bench: ManagerBench;
let events: EventLog;
let fetches: string[];
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-keeper-'));
  fetches = [];
  events = new EventLog('one');
  fetcher = new Fetcher([pathToFileURL(folder).href]);
  keeper = newKeeper();
  bench = new ManagerBench({
    prepare: (chassis) => keeper.prepare(chassis),
    watch: (iface) => keeper.watch(iface),
  });
});
afterEach(async () => {
  await keeper.close();
  fetcher.close();
  await bench.end();
  rmSync(folder, { recursive: true, force: true });
});

const at = (...parts: string[]): string => path.join(folder, ...parts);

function newKeeper(onRecord: () => void = () => undefined, verifyEveryMs = 0): Keeper {
  return new Keeper({
    onRecord,
    store: new ShardStore(at('shards')),
    fetch: (job, onBytes, signal) => {
      fetches.push(job.shard);
      return fetcher.fetch(job, onBytes, signal);
    },
    verify: fetcher.verify,
    events,
    clock: systemClock,
    timeoutMs: () => TIMEOUT_MS,
    openTimeoutMs: 60_000,
    verifyEveryMs,
  });
}

/** Writes a shard of the source; more files tell the test chassis how to behave. */
function writeShard(name: string, words: string, more: Readonly<Record<string, string>> = {}): void {
  mkdirSync(at('source', name), { recursive: true });
  for (const [file, text] of Object.entries({ 'words.txt': words, ...more }))
    writeFileSync(at('source', name, file), text);
}

async function orders(change: Partial<ShardOrder> = {}): Promise<ShardOrder[]> {
  const shards = await listSource(pathToFileURL(at('source')).href, new FileSource());
  return shards.map(({ name, source, bytes, digest }, place) => ({
    indexVersion: 'wiki@1.0.0',
    manifest: MANIFEST,
    name,
    place,
    source,
    bytes,
    digest,
    contentService: 'Words',
    contentRange: '^1',
    ...change,
  }));
}

function deploy(count = 1, version = '1.0.0'): void {
  const env = { WORDS_LEDGER: at('ledger'), WORDS_VERSION: version };
  bench.manager.setDeployments('file', [
    workDeployment({ service: 'Words', version, command: fixture('words.ts'), count, env }),
  ]);
}

async function call(method: string, params: Readonly<Record<string, unknown>>, version = '1.0.0'): Promise<unknown> {
  const found = WORDS.methods.get(method) as Method;
  const deadlineMs = systemClock.nowMs() + 20_000;
  const args = encodeParams(found, params);
  const reply = await dispatchOf(bench.manager.send)(
    createCall({ service: 'Words', version, method, args, deadlineMs }),
  );
  if (reply.isException) throw new Error(Buffer.from(reply.body).toString('latin1'));
  const result = decodeResult(found, reply.body);
  if (!result.ok) throw new Error(result.exception);
  return result.value;
}

const holdings = async (): Promise<readonly Holding[]> => (await keeper.holdings('', 0, 0)).holdings;
const places = async (): Promise<string> =>
  (await holdings()).map((one) => `${one.indexVersion} ${one.places}`).join('; ');
const served = (wanted: string): Promise<boolean> =>
  until(
    () => `${wanted} to be served: ${JSON.stringify(keeper.status())}`,
    async () => (await places()) === wanted,
  );
const stateOf = (name: string): string =>
  keeper
    .status()
    .filter((one) => one.name === `wiki@1.0.0/${name}`)
    .map(({ state, why }) => (why === '' ? state : `${state}: ${why}`))
    .join();
const ledger = (): string[] =>
  existsSync(at('ledger')) ? readFileSync(at('ledger'), 'utf8').trimEnd().split('\n') : [];
const openPids = (name: string): number[] => {
  const open = new Set<number>();
  for (const line of ledger()) {
    const [what, shard, pid] = line.split(' ');
    if (shard !== `wiki@1.0.0/${name}`) continue;
    if (what === 'open') open.add(Number(pid));
    else open.delete(Number(pid));
  }
  return [...open];
};

describe('Ordered shards', () => {
  test('are fetched, opened in every copy and announced, and calls find them by name', async () => {
    writeShard('a', 'the cat and the dog');
    writeShard('b', 'the end');
    deploy(2);
    keeper.setOrders(await orders());
    await served('wiki@1.0.0 0-1');
    expect(await holdings()).toEqual([
      { indexVersion: 'wiki@1.0.0', places: '0-1', serviceName: 'Words', serviceVersion: '1.0.0', manifest: MANIFEST },
    ]);
    expect(openPids('a').sort()).toEqual(bench.alive().sort());
    expect(keeper.status()).toMatchObject([
      { name: 'wiki@1.0.0/a', state: 'serving', entries: 5, why: '', tries: 0 },
      { name: 'wiki@1.0.0/b', state: 'serving', entries: 2, why: '', tries: 0 },
    ]);
    expect(await call('count', { word: 'the', shards: ['wiki@1.0.0/a', 'wiki@1.0.0/b'] })).toEqual({
      'wiki@1.0.0/a': 2,
      'wiki@1.0.0/b': 1,
    });
    expect(await call('count', { word: 'the', shards: ['wiki@1.0.0/b'] })).toEqual({ 'wiki@1.0.0/b': 1 });
    expect(await call('count', { word: 'end' })).toEqual({ 'wiki@1.0.0/a': 0, 'wiki@1.0.0/b': 1 });
    await expect(call('count', { word: 'x', shards: ['wiki@1.0.0/z'] })).rejects.toThrow(
      'Shard wiki@1.0.0/z is not open here; open are wiki@1.0.0/a, wiki@1.0.0/b',
    );
    // The same orders again change nothing.
    keeper.setOrders(await orders());
    expect(fetches.sort()).toEqual(['wiki@1.0.0/a', 'wiki@1.0.0/b']);
  });

  test('wait for a copy of the content service, and say so', async () => {
    writeShard('a', 'hello');
    keeper.setOrders(await orders());
    await until(
      'the reason',
      () => stateOf('a') === 'opening: no copy of the content service Words@^1 serves on this manager',
    );
    expect(await holdings()).toEqual([]);
    deploy();
    await served('wiki@1.0.0 0');
  });

  test('are not opened by a version out of their range', async () => {
    writeShard('a', 'hello');
    deploy(1, '2.0.0');
    await bench.untilServing({ 'Words@2.0.0': 1 });
    keeper.setOrders(await orders());
    await until('the reason', () => stateOf('a').startsWith('opening: no copy'));
    expect(ledger()).toEqual([]);
  });

  test('are open in a new copy before it joins the pool', async () => {
    for (const name of ['a', 'b', 'c']) writeShard(name, 'hello', { slow: '200' });
    deploy(2);
    keeper.setOrders(await orders());
    await served('wiki@1.0.0 0-2');
    const [victim = 0] = bench.alive();
    const before = bench.launches;
    process.kill(victim, 'SIGKILL');
    await until('another start', () => bench.launches === before + 1);
    // Calls go on in the other copy, and in the new one when it has everything open.
    for (let n = 0; n < 40; n++) {
      const answer = (await call('count', { word: 'hello', shards: ['wiki@1.0.0/a', 'wiki@1.0.0/c'] })) as object;
      expect(answer).toEqual({ 'wiki@1.0.0/a': 1, 'wiki@1.0.0/c': 1 });
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await bench.untilServing({ 'Words@1.0.0': 2 });
    expect(await places()).toBe('wiki@1.0.0 0-2');
    expect(new Set(openPids('c'))).toEqual(new Set([victim, ...bench.alive()]));
    expect(fetches.length).toBe(3);
  });

  test('are told to be on the disk before a copy serves them', async () => {
    writeShard('a', 'the cat');
    deploy();
    keeper.setOrders(await orders());
    await served('wiki@1.0.0 0');
    await keeper.close();
    const told: string[] = [];
    // No copy joins the next keeper.
    keeper = newKeeper(() => told.push(JSON.stringify(keeper.record())));
    keeper.setOrders(await orders());
    await until('the record', () => told.length > 0);
    expect(JSON.parse(told.at(-1) ?? '')).toMatchObject({ serving: {}, onDisk: { 'wiki@1.0.0': '0' } });
  });

  test('are served from the disk by the next keeper, without a fetch', async () => {
    writeShard('a', 'hello');
    deploy();
    keeper.setOrders(await orders());
    await served('wiki@1.0.0 0');
    await bench.end();
    await keeper.close();
    rmSync(at('source'), { recursive: true });
    const [only] = [
      {
        indexVersion: 'wiki@1.0.0',
        manifest: MANIFEST,
        name: 'a',
        place: 0,
        bytes: 5,
        contentService: 'Words',
        contentRange: '^1',
      },
    ];
    const { digest } = JSON.parse(readFileSync(at('shards/live/wiki@1.0.0/a/shard.json'), 'utf8')) as {
      digest: string;
    };
    keeper = newKeeper();
    bench = new ManagerBench({ prepare: (chassis) => keeper.prepare(chassis) });
    deploy();
    keeper.setOrders([{ ...only, digest, source: 'file:///gone' }]);
    await served('wiki@1.0.0 0');
    expect(fetches).toEqual(['wiki@1.0.0/a']);
  });
});

describe('A shard that is not ordered any more', () => {
  test('is withdrawn at once, closed after the global timeout, and kept on disk for its return', async () => {
    writeShard('a', 'hello');
    writeShard('b', 'hello');
    deploy(2);
    const all = await orders();
    keeper.setOrders(all);
    await served('wiki@1.0.0 0-1');
    const held = call('hold', { ms: 2_500, shards: ['wiki@1.0.0/b'] });
    keeper.setOrders(all.slice(0, 1));
    await served('wiki@1.0.0 0');
    // Who has heard of it before may still call it.
    expect(await call('count', { word: 'hello', shards: ['wiki@1.0.0/b'] })).toEqual({ 'wiki@1.0.0/b': 1 });
    expect(stateOf('b')).toBe('leaving');
    expect(await held).toEqual(['wiki@1.0.0/b']);
    await until('it to be gone', () => stateOf('b') === '');
    expect(openPids('b')).toEqual([]);
    expect(openPids('a').length).toBe(2);
    expect(readdirSync(at('shards/live/wiki@1.0.0'))).toEqual(['a']);
    expect(readdirSync(at('shards/old/wiki@1.0.0'))).toEqual(['b']);
    keeper.setOrders(all);
    await served('wiki@1.0.0 0-1');
    expect(fetches.length).toBe(2);
  });

  test('and is ordered again meanwhile is not closed', async () => {
    writeShard('a', 'hello');
    deploy();
    const all = await orders();
    keeper.setOrders(all);
    await served('wiki@1.0.0 0');
    keeper.setOrders([]);
    await served('');
    keeper.setOrders(all);
    await served('wiki@1.0.0 0');
    expect(ledger().filter((line) => line.startsWith('close'))).toEqual([]);
    expect(fetches.length).toBe(1);
  });

  test('is left on the disk by a manager that was killed, and removed by the next one', async () => {
    writeShard('a', 'hello');
    deploy();
    keeper.setOrders(await orders());
    await served('wiki@1.0.0 0');
    await keeper.close();
    keeper = newKeeper();
    keeper.setOrders([]);
    await until('the files to be moved', () => !existsSync(at('shards/live/wiki@1.0.0')));
  });
});

describe('A shard that cannot be served', () => {
  test.each<[string, Record<string, string>, string]>([
    ['is refused', { refused: '' }, 'refused it: words.txt has version 9, this server reads 1 to 8'],
    ['is damaged at its source', { damaged: '' }, 'refused it: words.txt ends too early'],
  ])('because it %s is named once with the reason, and the others are served', async (_, more, why) => {
    writeShard('a', 'hello');
    writeShard('b', 'hello', more);
    deploy(2);
    keeper.setOrders(await orders());
    await served('wiki@1.0.0 0');
    await until('three tries', () => (keeper.status()[1]?.tries ?? 0) >= 3);
    expect(stateOf('b')).toMatch(/^(backing_off|opening|fetching): Words@1\.0\.0\/\d /);
    expect(stateOf('b')).toContain(why);
    const told = events.after(0).filter(({ kind }) => kind === 'shard_failed');
    // Two copies may refuse it, each in its turn.
    expect(new Set(told.map(({ subject }) => subject))).toEqual(new Set(['wiki@1.0.0/b']));
    expect(told.length).toBeLessThanOrEqual(3);
    // Its files are as they were fetched, so that fetching them again would not help.
    expect(fetches.filter((name) => name.endsWith('/b')).length).toBe(1);
  });

  test('because its source has changed says what to do', async () => {
    writeShard('a', 'hello');
    const before = await orders();
    writeShard('a', 'hello again');
    deploy();
    keeper.setOrders(before);
    await until('the reason', () =>
      stateOf('a').includes('the source of wiki@1.0.0 has changed since it was added: make it a new version'),
    );
    expect(await holdings()).toEqual([]);
    expect(existsSync(at('shards/live'))).toBe(false);
  });

  test('because its files were damaged later is withdrawn when a new copy finds it, fetched again and served', async () => {
    writeShard('a', 'hello');
    writeShard('b', 'hello');
    deploy(1);
    keeper.setOrders(await orders());
    await served('wiki@1.0.0 0-1');
    writeFileSync(at('shards/live/wiki@1.0.0/b/content/damaged'), '');
    writeFileSync(at('shards/live/wiki@1.0.0/b/content/words.txt'), 'hel');
    const [only = 0] = bench.alive();
    process.kill(only, 'SIGKILL');
    await until('the second fetch', () => fetches.filter((name) => name.endsWith('/b')).length === 2);
    await served('wiki@1.0.0 0-1');
    expect(await call('count', { word: 'hello' })).toEqual({ 'wiki@1.0.0/a': 1, 'wiki@1.0.0/b': 1 });
    expect(
      events
        .after(0)
        .map(({ text }) => text)
        .join(),
    ).toContain('words.txt ends too early');
  });
});

describe('A served shard whose calls fail', () => {
  const total = (word: string): Promise<unknown> =>
    call('total', { word, shards: ['wiki@1.0.0/a', 'wiki@1.0.0/b'] }).catch((error: Error) => error.message);
  const failures = (kind = 'shard_failed'): string[] =>
    events.after(0).flatMap((event) => (event.kind === kind ? [`${event.subject}: ${event.text}`] : []));
  beforeEach(async () => {
    writeShard('a', 'hello');
    writeShard('b', 'hello you', { reads: '' });
    deploy(1);
    keeper.setOrders(await orders());
    await served('wiki@1.0.0 0-1');
    expect(await total('hello')).toBe(2);
  });

  test('because its files were damaged is withdrawn after the third one, fetched again and served', async () => {
    writeFileSync(at('shards/live/wiki@1.0.0/b/content/words.txt'), 'hel');
    await total('hello');
    await total('hello');
    expect(await total('hello')).toContain('words.txt ends too early');
    await served('wiki@1.0.0 0');
    const why =
      'its files on this manager are damaged: words.txt has 3 bytes, and had 9 when it was fetched; ' +
      '3 calls in a row have failed here: ';
    await until('the cause to be told', () => stateOf('b').includes(why));
    const failed = await until('the try to count', () => keeper.record().failed[0]);
    expect(failed).toMatchObject({ indexVersion: 'wiki@1.0.0', place: 1, tries: 1 });
    expect(failed.why).toContain(why);
    await served('wiki@1.0.0 0-1');
    expect(fetches.filter((name) => name.endsWith('/b')).length).toBe(2);
    expect(await total('hello')).toBe(2);
    expect(stateOf('b')).toBe('serving');
    expect(failures('shard_damaged')).toEqual([expect.stringContaining(`wiki@1.0.0/b: ${why}`)]);
    expect(failures()).toEqual([]);
  });

  test('is served on when its files are whole, and they are not checked again soon', async () => {
    const file = at('shards/live/wiki@1.0.0/b/content/fails');
    // A call that is served begins the row anew, and an exception of the interface is none of the server's failures.
    for (const fails of [true, true, false, true, true]) {
      if (fails) writeFileSync(file, '');
      else rmSync(file);
      expect(await total('hello')).toEqual(fails ? expect.stringContaining('it cannot read') : 2);
    }
    expect(await total('no word')).toBe('NotAWord');
    expect(failures()).toEqual([]);
    writeFileSync(file, '');
    const alone = (): Promise<unknown> =>
      call('total', { word: 'hello', shards: ['wiki@1.0.0/b'] }).catch(() => undefined);
    for (let calls = 0; calls < 3; calls++) await alone();
    await until('the check', () => failures().length > 0);
    for (let calls = 0; calls < 6; calls++) await alone();
    expect(failures()).toEqual([
      expect.stringMatching(/^wiki@1.0.0\/b: 3 calls in a row .*its files are as they were fetched.*it cannot read/),
    ]);
    expect([await places(), stateOf('b'), fetches.length]).toEqual(['wiki@1.0.0 0-1', 'serving', 2]);
  });
});

describe('A served shard whose files change on the disk', () => {
  const words = (): string => at('shards/live/wiki@1.0.0/b/content/words.txt');
  const told = (...kinds: string[]): string[] =>
    events.after(0).flatMap(({ kind, subject, text }) => (kinds.includes(kind) ? [`${kind} ${subject}: ${text}`] : []));
  const RESTORED = 'shard_restored wiki@1.0.0/b: Its files were fetched again, and it is served here';
  const damaged = (what: string): string =>
    `shard_damaged wiki@1.0.0/b: its files on this manager are damaged: ${what}. ` +
    'It is withdrawn here, fetched again, and served then';

  async function serve(verifyEveryMs: number): Promise<void> {
    writeShard('a', 'hello');
    writeShard('b', 'hello you', { 'more.txt': 'more' });
    keeper = newKeeper(undefined, verifyEveryMs);
    deploy(2);
    keeper.setOrders(await orders());
    await served('wiki@1.0.0 0-1');
  }

  test.each<[string, () => void, string]>([
    [
      'has a flipped bit',
      () => writeFileSync(words(), 'hellp you'),
      'words.txt has another SHA-256 than when it was fetched',
    ],
    ['is missing', () => rmSync(words()), 'words.txt is missing'],
    ['is shorter', () => writeFileSync(words(), 'hell'), 'words.txt has 4 bytes, and had 9 when it was fetched'],
    [
      'has no record',
      () => rmSync(at('shards/live/wiki@1.0.0/b/shard.json')),
      'shard.json is missing, or cannot be read',
    ],
  ])(
    'because one %s is withdrawn by the check in the background, fetched again and served',
    async (_, change, what) => {
      await serve(200);
      await until('a check of both', () => (keeper.checks().checks['intact'] ?? 0) >= 2);
      change();
      const holders: string[] = [];
      await until('it to be restored', async () => {
        holders.push(await places());
        return told('shard_restored').length > 0;
      });
      expect(told('shard_damaged', 'shard_restored', 'shard_failed')).toEqual([damaged(what), RESTORED]);
      expect(new Set(holders)).toEqual(new Set(['wiki@1.0.0 0-1', 'wiki@1.0.0 0']));
      await served('wiki@1.0.0 0-1');
      expect(await call('count', { word: 'hello' })).toEqual({ 'wiki@1.0.0/a': 1, 'wiki@1.0.0/b': 1 });
      expect(readFileSync(words(), 'utf8')).toBe('hello you');
      expect(fetches.filter((name) => name.endsWith('/b')).length).toBe(2);
      expect(keeper.checks()).toMatchObject({ damaged: 1, checks: { damaged: 1, failed: 0 } });
    },
  );

  test('tells callers why it is not served, until it is', async () => {
    await serve(0);
    const source = at('source/b');
    const away = at('source-b');
    renameSync(source, away);
    writeFileSync(words(), 'hellp you');
    expect(await keeper.holdings('', 0, 0)).toMatchObject({ failed: [] });
    keeper.verify('one', (shard) => shard === 'wiki@1.0.0/b');
    await served('wiki@1.0.0 0');
    expect((await keeper.holdings('', 0, 0)).failed).toEqual([
      {
        indexVersion: 'wiki@1.0.0',
        place: 1,
        why: 'its files on this manager are damaged: words.txt has another SHA-256 than when it was fetched',
      },
    ]);
    // A next process must not trust the files either.
    await until('the record to go', () => !existsSync(at('shards/live/wiki@1.0.0/b/shard.json')));
    await until('the failed fetch', async () =>
      ((await keeper.holdings('', 0, 0)).failed[0]?.why ?? '').includes('source/b'),
    );
    renameSync(away, source);
    await served('wiki@1.0.0 0-1');
    expect(await keeper.holdings('', 0, 0)).toMatchObject({ failed: [] });
    expect(keeper.verification('one')).toMatchObject([{ shard: 'wiki@1.0.0/b', state: 'damaged', replica: 'serving' }]);
  });

  test.each<[string, () => void, string]>([
    ['is missing', () => rmSync(words()), 'words.txt is missing'],
    [
      'has a flipped bit',
      () => writeFileSync(words(), 'hellp you'),
      'words.txt has another SHA-256 than when it was fetched',
    ],
  ])('because one %s after a time without a manager is fetched again by the next one', async (_, change, what) => {
    await serve(0);
    await keeper.close();
    await bench.end();
    change();
    // Long before the next check is due.
    keeper = newKeeper(undefined, 86_400_000);
    bench = new ManagerBench({ prepare: (chassis) => keeper.prepare(chassis) });
    deploy();
    keeper.setOrders(await orders());
    await until('the event', () => told('shard_restored').length > 0);
    await served('wiki@1.0.0 0-1');
    expect(told('shard_damaged', 'shard_restored')).toEqual([damaged(what), RESTORED]);
    expect(await call('count', { word: 'hello' })).toEqual({ 'wiki@1.0.0/a': 1, 'wiki@1.0.0/b': 1 });
    expect(fetches.filter((name) => name.endsWith('/a')).length).toBe(1);
    expect(fetches.filter((name) => name.endsWith('/b')).length).toBe(2);
  });

  test('and is given up while it is checked is not damaged', async () => {
    await serve(20);
    const all = await orders();
    for (let turn = 0; turn < 8; turn++) {
      keeper.setOrders(all.slice(0, 1));
      await until('it to be gone', () => stateOf('b') === '');
      keeper.setOrders(all);
      await served('wiki@1.0.0 0-1');
    }
    expect(told('shard_damaged', 'shard_failed')).toEqual([]);
    expect(fetches.length).toBe(2);
  });
});

describe('A shard that ends each content server that opens it', () => {
  const FATAL = /^backing_off: copies of Words@1\.0\.0 fail while they open it, the last time with: .+; see what they/;

  test('is opened ever more seldom and by one copy at a time, and the others are served', async () => {
    writeShard('a', 'hello');
    writeShard('b', 'hello', { kills: '' });
    deploy(2);
    keeper.setOrders(await orders());
    await until('the reason', () => FATAL.test(stateOf('b')));
    await served('wiki@1.0.0 0');
    await bench.untilServing({ 'Words@1.0.0': 2 });
    const opens = (): number => ledger().filter((line) => line.startsWith('open wiki@1.0.0/b')).length;
    const [before, triesBefore] = [opens(), keeper.status()[1]?.tries ?? 0];
    await until('two more tries', () => (keeper.status()[1]?.tries ?? 0) >= triesBefore + 2);
    expect(opens() - before).toBe(2);
    await served('wiki@1.0.0 0');
    expect(await call('count', { word: 'hello' })).toEqual({ 'wiki@1.0.0/a': 1 });
  });

  test('though it was served before is withdrawn, and new copies come up without it', async () => {
    writeShard('a', 'hello');
    writeShard('b', 'hello');
    deploy(1);
    keeper.setOrders(await orders());
    await served('wiki@1.0.0 0-1');
    writeFileSync(at('shards/live/wiki@1.0.0/b/content/kills'), '');
    const [only = 0] = bench.alive();
    process.kill(only, 'SIGKILL');
    await until('the reason', () => FATAL.test(stateOf('b')));
    await served('wiki@1.0.0 0');
    rmSync(at('shards/live/wiki@1.0.0/b/content/kills'));
    await served('wiki@1.0.0 0-1');
    expect(await call('count', { word: 'hello' })).toEqual({ 'wiki@1.0.0/a': 1, 'wiki@1.0.0/b': 1 });
  });
});
describe('A new copy that refuses what another one serves', () => {
  test('does not come up, and the shard is served on', async () => {
    writeShard('a', 'hello');
    deploy(2);
    keeper.setOrders(await orders());
    await served('wiki@1.0.0 0');
    const refuse = at('shards/live/wiki@1.0.0/a/content/refused');
    writeFileSync(refuse, '');
    const [victim = 0] = bench.alive();
    process.kill(victim, 'SIGKILL');
    await until('the new copy to fail', () => bench.told().some((line) => line.includes('this server reads 1 to 8')));
    expect(bench.told().find((line) => line.includes('reads 1 to 8'))).toContain('start_failed');
    expect(await places()).toBe('wiki@1.0.0 0');
    expect(await call('count', { word: 'hello' })).toEqual({ 'wiki@1.0.0/a': 1 });
    expect(ledger().filter((line) => line.startsWith('close'))).toEqual([]);
    rmSync(refuse);
    await bench.untilServing({ 'Words@1.0.0': 2 });
    expect(fetches.length).toBe(1);
  });
});

describe('A content server that blocks', () => {
  test('while it opens a shard is not taken for dead', async () => {
    for (const name of ['a', 'b', 'c', 'd']) writeShard(name, 'hello', { blocks: '700' });
    const times = { ...workDeployment().times, pingEveryMs: 100, pingTimeoutMs: 500 };
    bench.manager.setDeployments('file', [
      workDeployment({ service: 'Words', command: fixture('words.ts'), times, env: { WORDS_LEDGER: at('ledger') } }),
    ]);
    keeper.setOrders(await orders());
    await served('wiki@1.0.0 0-3');
    expect(bench.launches).toBe(1);
  });
});

describe('A changed order', () => {
  test('with another content is fetched and opened anew', async () => {
    writeShard('a', 'hello');
    deploy();
    keeper.setOrders(await orders());
    await served('wiki@1.0.0 0');
    writeShard('a', 'hello hello');
    keeper.setOrders(await orders());
    await until('the new content', async () => {
      const counted = (await call('count', { word: 'hello' })) as Record<string, number>;
      return counted['wiki@1.0.0/a'] === 2;
    });
    await served('wiki@1.0.0 0');
    expect(fetches.length).toBe(2);
  });

  test('names only a version of the content service that has the shard open', async () => {
    writeShard('a', 'hello');
    const copies = (version: string): ReturnType<typeof workDeployment> =>
      workDeployment({ service: 'Words', version, command: fixture('words.ts'), env: { WORDS_VERSION: version } });
    bench.manager.setDeployments('file', [copies('1.0.0'), copies('2.0.0')]);
    await bench.untilServing({ 'Words@1.0.0': 1, 'Words@2.0.0': 1 });
    keeper.setOrders(await orders());
    await served('wiki@1.0.0 0');
    expect(await holdings()).toMatchObject([{ serviceVersion: '1.0.0' }]);
    keeper.setOrders(await orders({ contentRange: '^2' }));
    await until('the other version', async () => (await holdings())[0]?.serviceVersion === '2.0.0');
    expect(await call('count', { word: 'hello' }, '2.0.0')).toEqual({ 'wiki@1.0.0/a': 1 });
  });
});

describe('The question for holdings', () => {
  test('waits for a change, and ends when the manager drains', async () => {
    writeShard('a', 'hello');
    deploy();
    await bench.untilServing({ 'Words@1.0.0': 1 });
    const first = await keeper.holdings('', 0, 30_000);
    expect(first.holdings).toEqual([]);
    const asked = keeper.holdings(first.start, first.seq, 30_000);
    keeper.setOrders(await orders());
    const second = await asked;
    expect(second).toMatchObject({ start: first.start, holdings: [{ places: '0' }] });
    expect(second.seq).toBeGreaterThan(first.seq);
    // Who knows another start, or an older state, is answered at once.
    expect(await keeper.holdings('other', second.seq, 30_000)).toEqual(second);
    expect(await keeper.holdings(first.start, first.seq, 30_000)).toEqual(second);
    const last = keeper.holdings(second.start, second.seq, 30_000);
    keeper.drain();
    expect(await last).toEqual(second);
    // What is served stays announced while the calls in flight finish.
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await keeper.holdings('', 0, 0)).toEqual(second);
  });
});

// A byte flips on the disk of a manager, or a file goes, while clients read an index whose right values are known. The
// manager finds it, asked by an operator or by itself, withdraws the shard and fetches it again. No call fails while
// another replica serves, and none is wrong once the shard is withdrawn. The only replica is withdrawn, too.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { AnyService } from '../../../client/mod.ts';
import { scriptCommand } from '../../../core/mod.ts';
import type { MeshEvent } from '../../../core/rpc/mod.ts';
import { ClientCallers } from '../../kit/cluster/client-callers.ts';
import { startCluster, type Cluster } from '../../kit/cluster/cluster.ts';
import { IndexOperator } from '../../kit/cluster/index-operator.ts';
import { katamariIndex, servedOf } from '../../kit/cluster/index-view.ts';
import type { ClusterProcess } from '../../kit/cluster/process.ts';
import { eventsOf, untilSpread } from '../../kit/cluster/view.ts';
import { writeMapFile } from '../../kit/content/map-file-writer.ts';
import { jsonRpc } from '../../kit/mesh/mesh.ts';
import { sumOf } from '../../kit/mesh/metrics.ts';
import { REPOSITORY } from '../../kit/tools/repository.ts';
import { until } from '../../kit/tools/wait.ts';

const BUSY_MS = 600_000;
const SHARDS = 3;
const ENTRIES = 60;
const CALLERS = 4;
const VERIFY_EVERY = '2s';
const DAMAGED = 'data has another SHA-256 than when it was fetched';

let folder: string;
let cluster: Cluster;
let pairs: IndexOperator;
/** Each has one replica. */
let single: IndexOperator;

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-damage-'));
  for (let shard = 0; shard < SHARDS; shard++)
    writeMapFile(
      path.join(folder, 'pairs', `part-${shard}`),
      NUMBERS.filter((number) => number % SHARDS === shard).map((number) => [keyOf(number), valueOf(number)]),
      { indexInterval: 4 },
    );
  cluster = await startCluster({
    consuls: 1,
    masters: 1,
    managers: 2,
    faceplates: 1,
    // The second manager checks by itself, the first one only when it is asked.
    settings: (name) => ({
      timeout: '8s',
      content: {
        sources: [pathToFileURL(folder).href],
        verifyEvery: name === 'manager-2' ? VERIFY_EVERY : 'off',
      },
    }),
    deployments: [MAP_FILES],
  });
  await untilSpread(cluster, { 'manager-1': 1, 'manager-2': 1 });
  pairs = await added('pairs', 2);
  single = await added('single', 1);
}, BUSY_MS);
afterAll(async () => {
  await cluster?.end();
  rmSync(folder, { recursive: true, force: true });
}, BUSY_MS);

const NUMBERS = Array.from({ length: ENTRIES }, (_, number) => number);
const keyOf = (number: number): Buffer => Buffer.from(`key-${String(number).padStart(3, '0')}`);
const valueOf = (number: number): Buffer => Buffer.from(`the value of ${number}`);
const MAP_FILES = {
  service: 'MapFileLookup',
  version: '1.0.0',
  command: scriptCommand(path.join(REPOSITORY, 'content-servers/map-file/main.ts')),
  count: 1,
};
const VALUES = NUMBERS.map((number) => valueOf(number).toString()).sort();

async function added(name: string, replicas: number): Promise<IndexOperator> {
  const operator = new IndexOperator(cluster, name);
  const source = pathToFileURL(path.join(folder, 'pairs')).href;
  const index = { source, contentService: 'MapFileLookup', replicas, promoteAtReplicas: 1 };
  await operator.untilAddable('1.0.0', index);
  await operator.add('1.0.0', index);
  await operator.untilReplicas('1.0.0', SHARDS, replicas);
  return operator;
}

const live = (manager: string, shard: string): string =>
  path.join(cluster.process(manager).directory, 'data/shards/live', shard);

/** Changes one letter of a value in the file of a shard. */
function flip(manager: string, shard: string): void {
  const file = path.join(live(manager, shard), 'content/data');
  const bytes = readFileSync(file);
  const at = bytes.indexOf('the value of');
  bytes[at] = (bytes[at] as number) ^ 1;
  writeFileSync(file, bytes);
}

/** Kills the content server of a manager, and waits for the next one to serve. */
async function replaceServer(manager: string): Promise<void> {
  const serverOf = async (): Promise<number | undefined> => {
    const { pools } = await cluster.process(manager).status();
    return pools.find(({ alive }) => alive > 0)?.resources[0]?.pid;
  };
  const pid = await until(`the content server of ${manager}`, serverOf);
  process.kill(pid, 'SIGKILL');
  await until(`the next content server of ${manager}`, async () => ![undefined, pid].includes(await serverOf()));
}

/** '' when the service has all values; else what it has. */
async function check(service: AnyService): Promise<string> {
  const params = { keys: NUMBERS.map(keyOf) };
  const answer = (await service['getMany']?.(params)) as { entries: readonly { value: Uint8Array }[] } | undefined;
  const found = (answer?.entries ?? []).map(({ value }) => Buffer.from(value).toString()).sort();
  return JSON.stringify(found) === JSON.stringify(VALUES) ? '' : JSON.stringify(found);
}

/** Damage that the manager has found since its start. */
const damaged = async (manager: string): Promise<number> =>
  sumOf(await cluster.process(manager).metrics(), 'katamari_shards_damaged_total');

async function told(one: ClusterProcess, kind: MeshEvent['kind'], shard: string): Promise<string[]> {
  return (await eventsOf(one, kind)).filter(({ subject }) => subject === shard).map(({ text }) => text);
}

describe('A damaged shard with another replica', () => {
  let callers: ClientCallers;
  beforeEach(() => startCallers());
  afterEach(async () => await callers.stop());

  function startCallers(): void {
    callers = new ClientCallers({
      addresses: cluster.faceplates.map(({ addresses }) => addresses.thrift),
      callers: CALLERS,
      service: 'pairs',
      call: check,
    });
  }

  async function more(calls: number): Promise<void> {
    const before = callers.sent;
    await until(`${calls} calls`, () => callers.sent - before >= calls, BUSY_MS);
  }

  /** Damages files of shards, and waits until the manager has found it and calls that were under way have ended. */
  async function untilWithdrawn(
    manager: string,
    shards: readonly string[],
    damage: () => void | Promise<void>,
  ): Promise<{ readonly untilServed: () => Promise<void> }> {
    await more(50);
    expect([callers.failed, callers.wrong]).toEqual([[], []]);
    const one = cluster.process(manager);
    const restoredOf = async (shard: string): Promise<number> => (await told(one, 'shard_restored', shard)).length;
    const before = await damaged(manager);
    const restored = await Promise.all(shards.map(restoredOf));
    await damage();
    await until('the damage to be found', async () => (await damaged(manager)) === before + shards.length);
    await more(CALLERS * 10);
    const wrong = callers.wrong.length;
    return {
      untilServed: async () => {
        await until('all to be served again', async () => {
          const now = await Promise.all(shards.map(restoredOf));
          return now.every((count, at) => count > (restored[at] as number));
        });
        await pairs.untilComplete('1.0.0');
        await more(200);
        console.log(`${manager}: ${callers.line}, ${wrong} of them before it was withdrawn`);
        expect(callers.failed).toEqual([]);
        expect(callers.wrong.slice(wrong)).toEqual([]);
        expect(await damaged(manager)).toBe(before + shards.length);
        for (const shard of shards)
          for (const file of ['data', 'index'])
            expect(readFileSync(path.join(live(manager, shard), 'content', file))).toEqual(
              readFileSync(path.join(folder, 'pairs', shard.slice('pairs@1.0.0/'.length), file)),
            );
      },
    };
  }

  test.each<[string, () => void, string]>([
    ['a flipped byte', () => flip('manager-2', SHARD), DAMAGED],
    ['a missing file', () => rmSync(path.join(live('manager-2', SHARD), 'content/index')), 'index is missing'],
  ])(
    'because of %s, which its manager finds by itself, is fetched again, and no call is wrong meanwhile',
    async (_, damage, why) => {
      const { untilServed } = await untilWithdrawn('manager-2', [SHARD], damage);
      await untilServed();
      expect(await told(cluster.process('manager-2'), 'shard_damaged', SHARD)).toContain(
        `its files on this manager are damaged: ${why}. It is withdrawn here, fetched again, and served then`,
      );
    },
    BUSY_MS,
  );

  test(
    'which gives wrong answers and an operator finds, is fetched again, and no call is wrong meanwhile',
    async () => {
      let output = '';
      const { untilServed } = await untilWithdrawn('manager-1', SHARD_NAMES, async () => {
        for (const shard of SHARD_NAMES) flip('manager-1', shard);
        // A content server has the right values in memory. The manager would check by itself if its end cut off calls.
        await callers.stop();
        await replaceServer('manager-1');
        startCallers();
        // While that of the other manager is away, calls come here.
        await replaceServer('manager-2');
        await until('a wrong answer', () => callers.wrong.length > 0);
        const { stdout, code } = await katamariIndex(cluster, 'verify', 'pairs@1.0.0');
        expect(code).toBe(1);
        output = stdout;
      });
      await untilServed();
      expect(output).toContain(`pairs@1.0.0: ${SHARDS * 2} of ${SHARDS * 2} replicas checked\n`);
      const rows = SHARD_NAMES.flatMap((shard) => [`${shard} manager-1 damaged`, `${shard} manager-2 ok`]);
      expect(rowsOf(output)).toEqual(rows);
      expect(output).toContain(`! ${SHARD} on manager-1: its files on this manager are damaged: ${DAMAGED}\n`);
    },
    BUSY_MS,
  );

  test(
    'is ok in the next check, of one shard and as JSON',
    async () => {
      const { stdout, code } = await katamariIndex(cluster, 'verify', 'pairs', 'part-1', '--json');
      expect(code).toBe(0);
      expect((JSON.parse(stdout) as { replicas: object[] }).replicas).toMatchObject(
        ['manager-1', 'manager-2'].map((manager) => ({ shard: SHARD, manager, state: 'INTACT', replica: 'serving' })),
      );
      const unknown = await katamariIndex(cluster, 'verify', 'pairs', 'part-9');
      expect([unknown.code, unknown.stderr]).toEqual([
        1,
        expect.stringContaining('pairs@1.0.0 has no shard part-9; shards are part-0, part-1, part-2'),
      ]);
    },
    BUSY_MS,
  );
});

describe('A damaged shard without another replica', () => {
  test(
    'is missing with its cause until it is back',
    async () => {
      const served = await servedOf(cluster, 'single@1.0.0');
      const [[manager, places]] = Object.entries(served) as [[string, string]];
      const name = `part-${places.slice(0, 1)}`;
      const url = `${cluster.faceplates[0]?.addresses.jsonRpc}/rpc`;
      const read = async (): Promise<string> => {
        const params = { keys: NUMBERS.map((number) => keyOf(number).toString('base64')) };
        const headers = { 'katamari-timeout-ms': '500' };
        const { result, error } = await jsonRpc(url, 'single.getMany', params, headers);
        if (error !== undefined) return error.message;
        const { entries } = result as { entries: readonly { value: string }[] };
        return JSON.stringify(entries.map(({ value }) => Buffer.from(value, 'base64').toString()).sort());
      };
      await until('an answer', async () => (await read()) === JSON.stringify(VALUES));
      flip(manager, `single@1.0.0/${name}`);
      const { code } = await katamariIndex(cluster, 'verify', 'single', name);
      expect(code).toBe(manager === 'manager-1' ? 1 : expect.any(Number));
      const answers: string[] = [];
      await until('the cause', async () => {
        answers.push(await read());
        return answers.at(-1)?.includes('NO_REPLICA') === true;
      });
      expect(answers.at(-1)).toContain(`2 of ${SHARDS} shards of single@1.0.0 are in the answer`);
      expect(answers.at(-1)).toContain(
        `single@1.0.0/${name} NO_REPLICA (${manager}: its files on this manager are damaged: ${DAMAGED})`,
      );
      await until('it to be back', async () => {
        answers.push(await read());
        return answers.at(-1) === JSON.stringify(VALUES);
      });
      // From the first error to the last answer, nothing was wrong.
      const since = answers.findIndex((answer) => answer.includes('NO_REPLICA'));
      expect(
        answers.slice(since).filter((one) => !one.includes('single@1.0.0') && one !== JSON.stringify(VALUES)),
      ).toEqual([]);
      await single.untilComplete('1.0.0');
    },
    BUSY_MS,
  );
});

const SHARD = 'pairs@1.0.0/part-1';
const SHARD_NAMES = Array.from({ length: SHARDS }, (_, shard) => `pairs@1.0.0/part-${shard}`);

/** Shard, manager and result of each row of the table. */
function rowsOf(text: string): string[] {
  const rows = text.split('\n').filter((line) => /^pairs@\S+\/part/.test(line));
  return rows.map((line) => {
    const [shard, manager, , result] = line.split(/ {2,}/);
    return `${shard} ${manager} ${result}`;
  });
}

// No loop without a pause: whatever part of the network fails, no process works without calls, neither while the fault
// lasts nor after it. Packets are lost in both directions or in one, connections fail at once, and interfaces are down
// or gone. Needs root for network namespaces.
//
// Pairs of a kind are cut together. KATAMARI_CUTS=all has all faults of all kinds, which takes seven minutes;
// KATAMARI_CUTS=each cuts every pair of hosts alone, which takes an hour.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { untilRegistered } from '../../kit/cluster/registrations.ts';
import { measureRest, restless, type Resting } from '../../kit/cluster/rest.ts';
import { poolsOf, untilSpread } from '../../kit/cluster/view.ts';
import { startCluster, tally, type Cluster } from '../../kit/cluster/cluster.ts';
import { reportFailures } from '../../kit/cluster/failure-report.ts';
import { sleep } from '../../../core/mod.ts';

const CUTS = process.env['KATAMARI_CUTS'] ?? 'some';
const IS_EACH = CUTS === 'each';
/** Those of a short run: the first of each can lead to requests without an answer, the second to errors at once. */
const SOME: ReadonlySet<string> = new Set([
  'every process and Consul, to the first',
  'every process and Consul, without a route',
  'faceplates and managers, both ways',
  'faceplates and managers, without a route',
  'gone, of manager-1',
  'down, of consul-1',
]);
const isRun = (what: string): boolean => CUTS !== 'some' || SOME.has(what);
/** From a fault to its measurement: links notice a cut within two seconds, then close and reconnect. */
const SETTLE_MS = 7_000;
const WINDOW_MS = 4_000;
const WINDOWS_MAX = 8;
const WHOLE_MS = 60_000;

let cluster: Cluster;
reportFailures(() => cluster);
const report: string[] = [];

beforeAll(async () => {
  cluster = await startCluster({ network: 'namespaces', wanted: [tally({ count: 6 })] });
  await untilSpread(cluster, SPREAD);
  await untilRegistered(cluster, WHOLE_MS);
}, 120_000);

afterAll(async () => {
  console.log(`busiest process at rest:\n${report.join('\n')}`);
  await cluster?.end();
});

const SPREAD = { 'manager-1': 2, 'manager-2': 2, 'manager-3': 2 };
const CONSULS = ['consul-1', 'consul-2', 'consul-3'];
const MASTERS = ['master-1', 'master-2'];
const MANAGERS = Object.keys(SPREAD);
const FACEPLATES = ['faceplate-1', 'faceplate-2'];
const OWN = [...MASTERS, ...MANAGERS, ...FACEPLATES];

type Pair = readonly [from: string, to: string];

function pairsOf(some: readonly string[], others: readonly string[]): Pair[] {
  return some.flatMap((one) => others.map((other): Pair => [one, other]));
}

/** What is cut together, by name. */
function groups(): [string, readonly Pair[]][] {
  const toConsul = pairsOf(OWN, CONSULS);
  const links = pairsOf(FACEPLATES, MANAGERS);
  const managers: Pair[] = [
    ['manager-1', 'manager-2'],
    ['manager-1', 'manager-3'],
    ['manager-2', 'manager-3'],
  ];
  if (IS_EACH) {
    const others = [...pairsOf(MASTERS, [...MANAGERS, ...FACEPLATES]), ['master-1', 'master-2'] as const];
    const all = [...toConsul, ...links, ...managers, ...others];
    return all.map((pair) => [pair.join(' and '), [pair]]);
  }
  return [
    ['every process and Consul', toConsul],
    ['faceplates and managers', links],
    ['all of them', [...toConsul, ...links, ...managers]],
  ];
}

const FAULTS: readonly [string, (pair: Pair) => Promise<void>, (pair: Pair) => Promise<void>][] = [
  ['both ways', ([a, b]) => cluster.cut(a, b), ([a, b]) => cluster.heal(a, b)],
  ['to the second', ([a, b]) => cluster.cut(a, b, 'one way'), ([a, b]) => cluster.heal(a, b, 'one way')],
  ['to the first', ([a, b]) => cluster.cut(b, a, 'one way'), ([a, b]) => cluster.heal(b, a, 'one way')],
  [
    'without a route',
    ([a, b]) => cluster.namespaces.forbid(cluster.host(a), cluster.host(b)),
    ([a, b]) => cluster.namespaces.allow(cluster.host(a), cluster.host(b)),
  ],
];

describe('Every process is at rest while pairs of hosts are cut, and afterwards', () => {
  for (const [what, pairs] of groups()) {
    for (const [how, begin, end] of FAULTS) {
      const name = `${what}, ${how}`;
      test.runIf(isRun(name))(name, () => checkRest(name, pairs, begin, end), 200_000);
    }
  }
});

describe('Every process is at rest while the interface of a host is', () => {
  for (const name of IS_EACH ? [...OWN, ...CONSULS] : ['manager-1', 'faceplate-1', 'consul-1']) {
    for (const how of ['down', 'gone'] as const) {
      test.runIf(isRun(`${how}, of ${name}`))(
        `${how}, of ${name}`,
        () =>
          checkRest(
            `${name} ${how}`,
            [name],
            (host) => cluster.namespaces.unplug(cluster.host(host), how),
            (host) => cluster.namespaces.plugIn(cluster.host(host)),
          ),
        200_000,
      );
    }
  }
});

async function checkRest<T>(
  what: string,
  where: readonly T[],
  begin: (at: T) => Promise<void>,
  end: (at: T) => Promise<void>,
): Promise<void> {
  for (const at of where) await begin(at);
  await sleep(SETTLE_MS);
  const during = await rest(`${what}: during it`);
  for (const at of where) await end(at);
  await untilSpread(cluster, SPREAD, WHOLE_MS);
  await untilRegistered(cluster, WHOLE_MS);
  const after = await rest(`${what}: after it`);
  expect({ during, after }).toEqual({ during: [], after: [] });
  expect((await poolsOf(cluster)).every(({ alive, wanted }) => alive === wanted)).toBe(true);
}

/** The processes of the mesh that do not come to rest. */
async function rest(what: string): Promise<string[]> {
  const processes: Resting[] = OWN.map((name) => ({ name, pid: cluster.process(name).pid }));
  const found = await measureRest(processes, { windowMs: WINDOW_MS, windows: WINDOWS_MAX });
  const [busiest] = [...found].sort(([, a], [, b]) => b.share - a.share);
  report.push(`${what}: ${busiest?.[0] ?? ''} ${((busiest?.[1].share ?? 0) * 100).toFixed(2)} %`);
  return restless(found);
}

// The indices in the chaos test: adds them, calls them, changes their versions while other faults happen, damages
// shards on the disks of managers, takes sources away, kills the leader during changes, and checks at the end that
// everything is whole.

import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { sleep } from '../../../core/mod.ts';
import { findDamage } from '../../../services/content/fetch/find-damage.ts';
import type { Cluster } from '../cluster/cluster.ts';
import { liveFiles } from '../cluster/index-view.ts';
import type { ClusterProcess } from '../cluster/process.ts';
import { jsonRpc } from '../mesh/mesh.ts';
import type { Random } from '../tools/random.ts';
import { until } from '../tools/wait.ts';
import type { ChaosAdmin } from './admin.ts';
import type { Fault, FaultKind } from './faults.ts';
import { ChaosIndexCallers } from './index-callers.ts';
import {
  type KnownIndices,
  PAIRS_ENTRIES,
  PAIRS_SHARDS,
  WIKI_DOCUMENTS,
  WIKI_SHARDS,
  WIKI_VERSIONS,
} from './known-indices.ts';

export interface IndexChaosOptions {
  readonly cluster: Cluster;
  readonly admin: ChaosAdmin;
  readonly indices: KnownIndices;
  readonly timeoutMs: number;
  readonly begin: (kind: FaultKind, target: string, how?: string) => Fault;
  readonly end: (fault: Fault) => void;
  /** Kills the leader, starts it again, and resolves when it is ready. */
  readonly killLeader: () => Promise<void>;
}

interface ShardStatus {
  readonly name: string;
  readonly replicas: readonly { readonly manager: string; readonly state: string; readonly why: string }[];
}

interface IndexStatus {
  readonly name: string;
  readonly version: string;
  readonly state: string;
  readonly entries: number;
  readonly shards: number;
  readonly served: number;
  readonly conditions: readonly string[];
  readonly shardList: readonly ShardStatus[];
}

/** When answers of a version of `wiki` are right. */
interface Lifetime {
  readonly version: string;
  readonly fromMs: number;
  untilMs: number;
}

export class IndexChaos {
  readonly #options: IndexChaosOptions;
  readonly #lifetimes: Lifetime[] = [];
  #callers: ChaosIndexCallers | undefined;
  #current: string = WIKI_VERSIONS[0];

  constructor(options: IndexChaosOptions) {
    this.#options = options;
  }

  /** Clients so far, of the last `call()`. */
  get callers(): ChaosIndexCallers | undefined {
    return this.#callers;
  }

  /** Adds both indices and waits until they are served as they are to be. */
  async start(): Promise<void> {
    this.#lifetimes.push({ version: this.#current, fromMs: 0, untilMs: Number.POSITIVE_INFINITY });
    await this.#add('wiki', this.#current, 'TextSearch', 1);
    await this.#add('pairs', '1.0.0', 'MapFileLookup', 1);
    await this.untilReplicated();
    for (const { name } of this.#options.cluster.faceplates) await this.#untilAnswers(name, this.#current);
  }

  call(clients: number, seed: number): ChaosIndexCallers {
    const { indices, cluster, timeoutMs } = this.#options;
    const versions = (fromMs: number, untilMs: number): readonly string[] =>
      this.#lifetimes.filter((life) => life.fromMs <= untilMs && life.untilMs >= fromMs).map(({ version }) => version);
    this.#callers = new ChaosIndexCallers({ indices, doors: cluster.doors, clients, timeoutMs, seed, versions });
    return this.#callers;
  }

  /** One fault of the sources or one change of the versions. */
  async strike(random: Random): Promise<void> {
    if (random.chance(0.3)) await this.#takeSourceAway(random);
    else await this.#rollOut(random);
  }

  /** Damages a shard of the manager, has it opened again, and waits until it is whole. */
  async damage(random: Random, manager: ClusterProcess): Promise<void> {
    const files = Object.keys(liveFiles(this.#options.cluster, manager.name)).filter(
      (name) =>
        !name.endsWith('shard.json') && (name.startsWith(`wiki@${this.#current}/`) || name.startsWith('pairs@')),
    );
    if (files.length === 0) return;
    const name = random.pick(files);
    const live = path.join(manager.directory, 'data/shards/live');
    const kind = random.pick(['shard damaged', 'shard gone'] as const);
    const fault = this.#options.begin(kind, manager.name, ` ${name}`);
    const file = path.join(live, name);
    try {
      if (kind === 'shard gone') rmSync(file);
      else {
        const bytes = readFileSync(file);
        // Where a content server finds it when it opens the file.
        const at = random.below(4);
        bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
        writeFileSync(file, bytes);
      }
    } catch (error) {
      // The shard left meanwhile: that is no fault.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    await this.#killContentServers(manager);
    const [index = '', shard = ''] = name.split('/');
    const folder = path.join(live, index, shard);
    await until(
      () => `${index}/${shard} at ${manager.name} to be whole again after ${kind}: ${this.#complaints(manager)}`,
      async () => !existsSync(folder) || (await isIntact(folder)),
      WHOLE_MS,
    );
    this.#options.end(fault);
  }

  /** Waits until every shard that callers are sent to has both replicas. */
  async untilReplicated(withinMs: number = WHOLE_MS): Promise<number> {
    const since = performance.now();
    let seen = 'nothing';
    await until(
      () => `every shard to have ${REPLICAS} replicas: ${seen}`,
      async () => {
        const found = await this.#statuses();
        if (typeof found === 'string') seen = found;
        else seen = this.#lacking(found).join('; ');
        return seen === '';
      },
      withinMs,
    );
    return performance.now() - since;
  }

  /** Checks after the last fault that indices, disks and numbers are as they should be. Returns what is not. */
  async checkWhole(): Promise<{ readonly wholeAfterMs: number; readonly violations: readonly string[] }> {
    const violations: string[] = [];
    const say = (error: Error): void => void violations.push(`Indices at the end: ${error.message}`);
    const since = performance.now();
    await this.untilReplicated().catch(say);
    // Versions that are gone leave the disks after the global timeout.
    await until(
      () => `the disks to have what is served: ${this.#strayFiles().join(', ')}`,
      () => this.#strayFiles().length === 0,
      WHOLE_MS,
    ).catch(say);
    const wholeAfterMs = performance.now() - since;
    for (const { name, directory } of this.#options.cluster.managers) {
      const live = path.join(directory, 'data/shards/live');
      for (const shard of shardsIn(live))
        if (!(await isIntact(path.join(live, shard))))
          violations.push(`${name} serves ${shard}, whose files are not as they were fetched`);
    }
    const found = await this.#statuses();
    if (typeof found === 'string') violations.push(`The state of the indices cannot be read: ${found}`);
    else {
      const told = found.map(({ name, version, state, entries }) => `${name}@${version} ${state} ${entries}`).sort();
      const expected = [`pairs@1.0.0 COMPLETE ${PAIRS_ENTRIES}`, `wiki@${this.#current} COMPLETE ${WIKI_DOCUMENTS}`];
      if (JSON.stringify(told) !== JSON.stringify(expected))
        violations.push(`The indices are ${told.join(', ')}; expected ${expected.join(', ')}`);
    }
    return { wholeAfterMs, violations };
  }

  async #rollOut(random: Random): Promise<void> {
    const { begin, end, admin } = this.#options;
    const old = this.#current;
    const next = WIKI_VERSIONS[(WIKI_VERSIONS.indexOf(old as never) + 1) % WIKI_VERSIONS.length] as string;
    const isByItself = random.chance(0.5);
    const how = isByItself ? 'promotes itself' : 'promoted by hand';
    const fault = begin('index rollout', `wiki@${next}`, `, ${how}`);
    const life = { version: next, fromMs: performance.now(), untilMs: Number.POSITIVE_INFINITY };
    this.#lifetimes.push(life);
    const added = this.#add('wiki', next, 'TextSearch', isByItself ? REPLICAS : 0);
    if (random.chance(0.5)) {
      const killed = begin('leader kill', 'the leader', ` while wiki@${next} is added`);
      await sleep(random.below(LEADER_KILL_MAX_MS));
      await Promise.all([this.#options.killLeader(), added]);
      end(killed);
    }
    await added;
    await this.#untilWhole(next);
    if (!isByItself) await admin.ask('KatamariIndices.promoteIndex', { name: 'wiki', version: next, force: false });
    for (const { name } of this.#options.cluster.faceplates) await this.#untilAnswers(name, next);
    this.#current = next;
    for (const one of this.#lifetimes) if (one.version === old) one.untilMs = Math.min(one.untilMs, performance.now());
    await this.#remove(old);
    end(fault);
  }

  async #takeSourceAway(random: Random): Promise<void> {
    const { indices, begin, end, admin } = this.#options;
    const isOfNext = random.chance(0.5);
    const at = WIKI_VERSIONS.indexOf(this.#current as never) + (isOfNext ? 1 : 0);
    const version = WIKI_VERSIONS[at % WIKI_VERSIONS.length] as string;
    const source = indices.source('wiki', version);
    const fault = begin('source away', `wiki@${version}`);
    renameSync(source, `${source}-away`);
    try {
      if (isOfNext) {
        const answer = await admin.try('KatamariIndices.addIndex', {
          index: this.#newIndex('wiki', version, 'TextSearch', 0),
        });
        if (answer.isOk) throw new Error(`wiki@${version} was added though its source is away`);
      }
      await sleep(random.between(500, AWAY_MAX_MS));
    } finally {
      renameSync(`${source}-away`, source);
      end(fault);
    }
  }

  #newIndex(name: string, version: string, contentService: string, promoteAtReplicas: number): Record<string, unknown> {
    const source = this.#options.indices.sourceUrl(name, version);
    return { name, version, source, contentService, replicas: REPLICAS, promoteAtReplicas };
  }

  async #add(name: string, version: string, contentService: string, promoteAtReplicas: number): Promise<void> {
    const index = this.#newIndex(name, version, contentService, promoteAtReplicas);
    await this.#options.admin.ask('KatamariIndices.addIndex', { index });
  }

  /** A removal whose answer was lost has been made. */
  async #remove(version: string): Promise<void> {
    let said = 'nothing';
    await until(
      () => `wiki@${version} to be removed: ${said}`,
      async () => {
        const answer = await this.#options.admin.try('KatamariIndices.removeIndex', { name: 'wiki', version });
        said = answer.isOk ? 'removed' : answer.why;
        const found = await this.#statuses();
        return typeof found !== 'string' && found.every((one) => one.name !== 'wiki' || one.version !== version);
      },
      WHOLE_MS,
    );
  }

  /** Waits until each shard of the version has all its replicas. */
  async #untilWhole(version: string): Promise<void> {
    let seen = 'nothing';
    await until(
      () => `wiki@${version} to have ${REPLICAS} replicas of each shard: ${seen}`,
      async () => {
        const found = await this.#statuses();
        if (typeof found === 'string') return (seen = found) === '';
        const one = found.find((status) => status.name === 'wiki' && status.version === version);
        seen = one === undefined ? 'it is not there' : lackingOf(one).join('; ');
        return seen === '';
      },
      WHOLE_MS,
    );
  }

  /** Waits until the faceplate sends calls to this version. */
  async #untilAnswers(name: string, version: string): Promise<void> {
    const { cluster, indices } = this.#options;
    const process = cluster.process(name);
    const { method, params, judge } = indices.versionCall();
    let said = 'nothing';
    await until(
      () => `${name} to answer from wiki@${version}: ${said}`,
      async () => {
        // One that is down learns the routes before it is ready.
        if (!process.isRunning) return false;
        const answer = await jsonRpc(`${process.addresses.jsonRpc}/rpc`, method, params).catch((error: Error) => error);
        if (answer instanceof Error) said = answer.message;
        else said = answer.error?.message ?? judge(answer.result, version);
        return said === '';
      },
      WHOLE_MS,
    );
  }

  /** Why not every shard that is called has all its replicas. */
  #lacking(found: readonly IndexStatus[]): readonly string[] {
    const called = [`wiki@${this.#current}`, 'pairs@1.0.0'];
    const asked = found.filter(({ name, version }) => called.includes(`${name}@${version}`));
    if (asked.length < called.length) return [`there are ${asked.map(({ name }) => name).join(', ') || 'no indices'}`];
    return asked.flatMap(lackingOf);
  }

  async #statuses(): Promise<readonly IndexStatus[] | string> {
    const answer = await this.#options.admin.try('KatamariIndices.getIndices', { name: '', withShards: true });
    return answer.isOk ? (answer.result as readonly IndexStatus[]) : answer.why;
  }

  async #killContentServers(manager: ClusterProcess): Promise<void> {
    const { pools } = await manager.status();
    const servers = pools.filter(({ service }) => service === 'TextSearch' || service === 'MapFileLookup');
    for (const { pid } of servers.flatMap(({ resources }) => resources)) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It was replaced meanwhile.
      }
    }
  }

  /** The last lines about shards in the log of a manager. */
  #complaints(manager: ClusterProcess): string {
    return manager
      .log()
      .split('\n')
      .filter((line) => line.includes('shard'))
      .slice(-3)
      .join(' | ');
  }

  /** Shards on the disks that nobody serves, and leftovers of fetches. */
  #strayFiles(): string[] {
    const versions = [`wiki@${this.#current}`, 'pairs@1.0.0'];
    let [live, strays] = [0, [] as string[]];
    for (const { name, directory } of this.#options.cluster.managers) {
      const root = path.join(directory, 'data/shards');
      for (const shard of shardsIn(path.join(root, 'live')))
        if (versions.includes(shard.split('/')[0] as string)) live++;
        else strays.push(`${name}/live/${shard}`);
      for (const part of ['part', 'trash'])
        strays.push(...shardsIn(path.join(root, part)).map((one) => `${name}/${part}/${one}`));
    }
    const expected = REPLICAS * (WIKI_SHARDS + PAIRS_SHARDS);
    if (live !== expected) strays.push(`${live} shards in live, expected ${expected}`);
    return strays;
  }
}

function lackingOf({ name, version, shardList, shards, conditions }: IndexStatus): string[] {
  const lacking = shardList.flatMap(({ name: shard, replicas }) => {
    const serving = replicas.filter(({ state }) => state === 'SERVING').length;
    const states = replicas.map(({ manager, state, why }) => `${manager} ${state} ${why}`);
    return serving === REPLICAS ? [] : [`${name}@${version}/${shard} has ${serving} (${states.join(', ')})`];
  });
  if (shardList.length < shards) lacking.push(`${name}@${version} lists ${shardList.length} of ${shards} shards`);
  return lacking.length === 0 ? [] : [...lacking.slice(0, 3), ...conditions];
}

/** Whether the files of a shard are as they were fetched. */
async function isIntact(folder: string): Promise<boolean> {
  return (await findDamage(folder, () => undefined).catch(() => 'gone')) === '';
}

/** `wiki@1.0.0/part-00000` */
function shardsIn(live: string): string[] {
  return namesIn(live).flatMap((index) => namesIn(path.join(live, index)).map((shard) => `${index}/${shard}`));
}

function namesIn(folder: string): string[] {
  try {
    return statSync(folder).isDirectory() ? readdirSync(folder) : [];
  } catch {
    return [];
  }
}

const REPLICAS = 2;
const AWAY_MAX_MS = 6_000;
const LEADER_KILL_MAX_MS = 1_500;
const WHOLE_MS = 90_000;

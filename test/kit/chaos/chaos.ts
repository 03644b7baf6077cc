// The chaos test: a whole cluster under clients that call chassis and indices without pause, while random faults are
// injected. Four loops inject them at the same time: one into the masters and Consul, one into the faceplates, one
// into the managers, their chassis, shards and the deployments, one into the versions of an index and its sources.
// Each loop waits until its target has recovered before the next fault, so that a part always works. During and after
// the run it checks the call counters of every process, that a fault explains each failed call, every answer of an
// index, the ledger of the chassis, and at the end the whole mesh.
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { CallCounters } from './call-counters.ts';
import { ChaosAdmin } from './admin.ts';
import { explains, explainsIndexCall, noticed, type Fault, type FaultKind } from './faults.ts';
import type { ChaosIndexCallers } from './index-callers.ts';
import { IndexChaos } from './index-chaos.ts';
import { KnownIndices } from './known-indices.ts';
import { checkLedger, ClusterCallers, type CallRecord } from '../cluster/callers.ts';
import type { ClusterProcess } from '../cluster/process.ts';
import { untilRegistered } from '../cluster/registrations.ts';
import { measureRest, restless } from '../cluster/rest.ts';
import { leadOf } from '../cluster/view.ts';
import { startCluster, tally, type Cluster } from '../cluster/cluster.ts';
import { scriptCommand, sleep } from '../../../core/mod.ts';
import { isAlive, type DeploymentText } from '../mesh/mesh.ts';
import { sumOf } from '../mesh/metrics.ts';
import { Random } from '../tools/random.ts';
import { Starvation } from '../mesh/starvation.ts';
import { until } from '../tools/wait.ts';

export interface ChaosOptions {
  readonly seconds: number;
  readonly clients: number;
  /** The same seed gives the same choices, but not at the same moments. */
  readonly seed: number;
  /** Network partitions are possible in namespaces only, which need root. */
  readonly network: 'loopback' | 'namespaces';
  readonly directory?: string;
  /** Called about once a second and with each fault. */
  readonly onProgress?: (progress: ChaosProgress) => void;
}

export interface ChaosProgress {
  readonly secondsLeft: number;
  readonly sent: number;
  readonly failed: number;
  readonly faults: number;
  /** A fault that has just begun; '' for a periodic report. */
  readonly news: string;
}

export interface ChaosReport {
  readonly seed: number;
  readonly lastedMs: number;
  readonly sent: number;
  readonly ends: Readonly<Record<string, number>>;
  readonly faults: Readonly<Partial<Record<FaultKind, number>>>;
  /** Failed calls by the fault that explains them. */
  readonly explained: Readonly<Record<string, number>>;
  readonly executions: number;
  readonly ranAgain: number;
  /** Calls whose connection a stopping faceplate closed before it read them. None of them ran. */
  readonly crossed: number;
  /** Number of times that a client could connect to no faceplate. */
  readonly nobodyTook: number;
  readonly tookMs: { readonly p50: number; readonly p99: number; readonly most: number };
  /** How late the latest call was that no fault explains, in ms after its deadline. */
  readonly worstLateMs: number;
  readonly wholeAfterMs: number;
  readonly registeredAfterMs: number;
  readonly countersRead: number;
  /** Calls of the final phase without faults, all of which must be answered. */
  readonly calm: number;
  readonly indices: IndexFigures;
  /** CPU time of the busiest process at rest, as a share of one processor. */
  readonly restCpu: number;
  /** Violated invariants; empty if the run succeeded. */
  readonly violations: readonly string[];
}

/** The calls of indices. */
export interface IndexFigures {
  readonly sent: number;
  readonly ends: Readonly<Record<string, number>>;
  readonly explained: Readonly<Record<string, number>>;
  /** From the end of the last fault until every shard has its replicas and no disk has anything else. */
  readonly wholeAfterMs: number;
  readonly calm: number;
}

/** @throws Error when the cluster does not start */
export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const indices = await KnownIndices.make(new Random(options.seed ^ 0x44));
  try {
    return await runWith(indices, options);
  } finally {
    indices.remove();
  }
}

async function runWith(indices: KnownIndices, options: ChaosOptions): Promise<ChaosReport> {
  const cluster = await startCluster({
    network: options.network,
    hasProxies: true,
    hasSmallDisks: options.network === 'namespaces',
    diskMiB: DISK_MIB,
    settings: { timeout: `${TIMEOUT_MS}ms`, content: { sources: [pathToFileURL(indices.directory).href] } },
    wanted: [chaosTally(COPIES), contentServer('TextSearch', 'text'), contentServer('MapFileLookup', 'map-file')],
    ...(options.directory === undefined ? {} : { directory: options.directory }),
    onProgress: (news) => options.onProgress?.({ secondsLeft: options.seconds, sent: 0, failed: 0, faults: 0, news }),
  });
  const chaos = new Chaos(cluster, indices, options);
  try {
    return await chaos.run();
  } finally {
    await chaos.close();
    await cluster.end();
  }
}

class Chaos {
  readonly #cluster: Cluster;
  readonly #options: ChaosOptions;
  readonly #faults: Fault[] = [];
  readonly #violations: string[] = [];
  readonly #counters: CallCounters;
  readonly #starvation: Starvation;
  readonly #random: Random;
  readonly #admin: ChaosAdmin;
  readonly #indices: IndexChaos;
  #callers: ClusterCallers | undefined;
  #copies = COPIES;
  #endAt = 0;
  /** Two loops strike masters, one at a time. */
  #mastersTurn: Promise<unknown> = Promise.resolve();

  constructor(cluster: Cluster, indices: KnownIndices, options: ChaosOptions) {
    this.#cluster = cluster;
    this.#admin = new ChaosAdmin(cluster);
    this.#indices = new IndexChaos({
      cluster,
      indices,
      admin: this.#admin,
      timeoutMs: TIMEOUT_MS,
      begin: (kind, target, how) => this.#begin(kind, target, '', '', how),
      end: (fault) => this.#end(fault),
      killLeader: () => this.#killLeader(),
    });
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#counters = new CallCounters(cluster);
    this.#starvation = new Starvation([...cluster.processes, { name: CLIENTS, pid: process.pid }]);
  }

  async run(): Promise<ChaosReport> {
    const { seconds, clients, seed } = this.#options;
    const cluster = this.#cluster;
    await this.#whole();
    await untilRegistered(cluster, WHOLE_MS);
    await this.#indices.start();
    const callers = this.#call(clients, seed);
    const indexCallers = this.#indices.call(INDEX_CLIENTS, seed);
    const startedAt = performance.now();
    this.#endAt = startedAt + seconds * 1_000;
    this.#counters.start();
    const hands = [
      this.#strikeMastersAndConsul(),
      this.#strikeFaceplates(),
      this.#strikeManagers(),
      this.#strikeIndices(),
    ];
    while (performance.now() < this.#endAt) {
      await sleep(Math.min(1_000, Math.max(1, this.#endAt - performance.now())));
      this.#progress('');
    }
    await Promise.all(hands);
    const lastedMs = performance.now() - startedAt;
    this.#progress('the last fault is undone, waiting for the mesh to be whole');
    const wholeAfterMs = await this.#whole();
    const registeredAfterMs = await untilRegistered(cluster, WHOLE_MS).catch((error: Error) => {
      this.#violations.push(`Not everything is registered at the end: ${error.message}`);
      return WHOLE_MS;
    });
    const indices = await this.#indices.checkWhole();
    this.#violations.push(...indices.violations);
    await Promise.all([callers.stop(), indexCallers.stop()]);
    await this.#checkLeader();
    const ledger = cluster.ledger();
    const { explained, crossed } = this.#checkFailures(callers, ledger);
    const worstLateMs = this.#checkDeadlines(callers);
    const { executions, ranAgain } = this.#checkLedger(callers, ledger);
    const explainedIndex = this.#checkIndexCalls(indexCallers);
    const calm = await this.#calm();
    const calmIndex = await this.#calmIndices();
    await this.#counters.stop();
    this.#violations.push(...this.#counters.faults);
    const restCpu = await this.#checkRest();
    await this.#checkStrays();
    await this.#checkEnd();
    const faults: Partial<Record<FaultKind, number>> = {};
    for (const { kind } of this.#faults) faults[kind] = (faults[kind] ?? 0) + 1;
    return {
      seed,
      lastedMs,
      sent: callers.sent,
      ends: callers.ends,
      faults,
      explained,
      executions,
      ranAgain,
      crossed,
      nobodyTook: callers.nobodyTook,
      tookMs: { p50: callers.tookMs(50), p99: callers.tookMs(99), most: callers.tookMs(100) },
      worstLateMs,
      wholeAfterMs,
      registeredAfterMs,
      countersRead: this.#counters.read,
      calm,
      indices: {
        sent: indexCallers.sent,
        ends: indexCallers.ends,
        explained: explainedIndex,
        wholeAfterMs: indices.wholeAfterMs,
        calm: calmIndex,
      },
      restCpu,
      violations: this.#violations,
    };
  }

  async close(): Promise<void> {
    this.#endAt = 0;
    this.#starvation.close();
    await Promise.all([this.#callers?.stop(), this.#indices.callers?.stop(), this.#counters.stop()]);
  }

  #call(clients: number, seed: number): ClusterCallers {
    this.#callers = new ClusterCallers({ doors: this.#cluster.doors, clients, timeoutMs: TIMEOUT_MS, seed });
    return this.#callers;
  }

  // Fault injection.

  /** Kills, stops and freezes masters, and kills or freezes one or all Consul servers. None of this may fail a call. */
  async #strikeMastersAndConsul(): Promise<void> {
    const random = new Random(this.#random.seed ^ 0x11);
    await this.#strikeOnAndOn(random, () =>
      this.#inMastersTurn(async () => {
        const dice = random.below(100);
        if (dice < 55) return await this.#strikeProcess(random, random.pick(this.#cluster.masters), ANY_OF_PROCESS);
        if (dice < 75) return await this.#strikeConsul(random, [random.below(3)]);
        if (dice < 90) return await this.#lie(random);
        return await this.#strikeConsul(random, [0, 1, 2]);
      }),
    );
  }

  async #inMastersTurn(work: () => Promise<void>): Promise<void> {
    const before = this.#mastersTurn;
    const turn = before.then(work);
    this.#mastersTurn = turn.catch(() => undefined);
    await turn;
  }

  async #killLeader(): Promise<void> {
    await this.#inMastersTurn(async () => {
      const lead = await leadOf(this.#cluster).catch(() => undefined);
      if (lead === undefined) return;
      const leader = this.#cluster.process(lead.name);
      await leader.kill();
      leader.start();
      await leader.untilReady();
    });
  }

  async #strikeIndices(): Promise<void> {
    const random = new Random(this.#random.seed ^ 0x55);
    await this.#strikeOnAndOn(random, () => this.#indices.strike(random));
  }

  async #strikeFaceplates(): Promise<void> {
    const random = new Random(this.#random.seed ^ 0x22);
    await this.#strikeOnAndOn(random, async () => {
      const faceplate = random.pick(this.#cluster.faceplates);
      if (random.chance(0.25)) await this.#starve(random, faceplate);
      else await this.#strikeProcess(random, faceplate, ANY_OF_PROCESS);
    });
  }

  async #strikeManagers(): Promise<void> {
    const random = new Random(this.#random.seed ^ 0x33);
    const cuts = this.#options.network === 'namespaces' ? 15 : 0;
    await this.#strikeOnAndOn(random, async () => {
      const manager = random.pick(this.#cluster.managers);
      const dice = random.below(105 + cuts);
      if (dice < 22) {
        await this.#strikeProcess(random, manager, ANY_OF_PROCESS);
        await this.#untilServes(manager);
      } else if (dice < 30) {
        await this.#starve(random, manager);
        await this.#untilServes(manager);
      } else if (dice < 55) await this.#strikeChassis(random, manager);
      else if (dice < 65) await this.#drain(random, manager);
      else if (dice < 75) await this.#scale(random);
      else if (dice < 85) await this.#roll(random);
      else if (dice < 105) {
        await this.#indices.damage(random, manager);
        await this.#untilServes(manager);
      } else await this.#cut(random, manager);
      // Otherwise the next fault could take the last replica of a shard.
      await this.#indices.untilReplicated();
    });
  }

  /** Injects faults until the time is up. A fault in progress is finished first. */
  async #strikeOnAndOn(random: Random, strike: () => Promise<void>): Promise<void> {
    for (;;) {
      await sleep(random.between(PAUSE_MIN_MS, PAUSE_MAX_MS));
      if (performance.now() >= this.#endAt) return;
      try {
        await strike();
      } catch (error) {
        this.#violations.push(`Did not recover: ${(error as Error).message}`);
      }
    }
  }

  async #strikeProcess(random: Random, process: ClusterProcess, kinds: readonly ProcessFault[]): Promise<void> {
    const kind = random.pick(kinds);
    const fault = this.#begin(kind, process.name);
    switch (kind) {
      case 'freeze':
        process.signal('SIGSTOP');
        await sleep(random.between(500, FROZEN_MAX_MS));
        process.signal('SIGCONT');
        this.#end(fault);
        return;
      case 'kill':
        await process.kill();
        break;
      case 'term': {
        const { code } = await process.stop();
        if (code !== 0) this.#violations.push(`${process.name} ended with ${code} on SIGTERM, expected 0`);
      }
    }
    this.#end(fault);
    await sleep(random.below(DOWN_MAX_MS));
    process.start();
    await process.untilReady();
  }

  async #strikeConsul(random: Random, servers: readonly number[]): Promise<void> {
    const { consul } = this.#cluster;
    const what = servers.length === 1 ? `consul-${(servers[0] as number) + 1}` : 'all of Consul';
    if (servers.length === 1 && random.chance(0.4)) {
      const fault = this.#begin('consul freeze', what);
      const server = consul.servers[servers[0] as number];
      server?.signal('SIGSTOP');
      await sleep(random.between(500, CONSUL_AWAY_MAX_MS));
      server?.signal('SIGCONT');
      this.#end(fault);
    } else {
      const isWiped = servers.length > 1 && random.chance(0.25);
      const fault = this.#begin(isWiped ? 'consul wipe' : 'consul kill', what);
      await Promise.all(servers.map((server) => consul.kill(server)));
      await sleep(random.between(500, CONSUL_AWAY_MAX_MS));
      if (isWiped) for (const server of servers) consul.wipe(server);
      for (const server of servers) consul.start(server);
      this.#end(fault);
    }
    await consul.waitForLeader();
  }

  /** Lets every proxy in front of Consul answer nonsense for a while. */
  async #lie(random: Random): Promise<void> {
    const { liars, consul } = this.#cluster;
    const fault = this.#begin('consul nonsense', 'all of Consul');
    const before = liars.map((liar) => liar.setLying(true)).reduce((sum, lies) => sum + lies, 0);
    await sleep(random.between(500, CONSUL_AWAY_MAX_MS));
    const after = liars.map((liar) => liar.setLying(false)).reduce((sum, lies) => sum + lies, 0);
    this.#end(fault);
    if (after === before) this.#violations.push('Nobody asked Consul while it answered nonsense');
    await consul.waitForLeader();
  }

  /** Takes files or disk space from a process for a while. */
  async #starve(random: Random, process: ClusterProcess): Promise<void> {
    const disk = this.#cluster.disks.get(process.name);
    if (disk !== undefined && random.chance(0.5)) {
      const fault = this.#begin('disk full', process.name);
      disk.fill();
      await sleep(random.between(500, FROZEN_MAX_MS));
      disk.empty();
      this.#end(fault);
    } else {
      const fault = this.#begin('no files', process.name);
      const open = readdirSync(`/proc/${process.pid}/fd`).length;
      limit(process.pid, 'nofile', `${open}`);
      await sleep(random.between(500, FROZEN_MAX_MS));
      limit(process.pid, 'nofile', `${FILES_MAX}`);
      this.#end(fault);
    }
    await process.untilReady();
  }

  async #strikeChassis(random: Random, manager: ClusterProcess): Promise<void> {
    const { pools } = await manager.status();
    const well = pools.flatMap(({ resources }) =>
      resources.filter(({ state }) => state === 'idle' || state === 'busy'),
    );
    if (well.length === 0) return;
    const { pid, name } = random.pick(well);
    // Content servers have no signal by which they use memory.
    const kinds: readonly ChassisFault[] = name.startsWith('Tally')
      ? ANY_OF_CHASSIS
      : ['chassis kill', 'chassis freeze'];
    const kind = random.pick(kinds);
    const fault = this.#begin(kind, manager.name, name);
    try {
      if (kind === 'chassis out of memory') {
        limit(pid, 'as', `${MEMORY_MIN}`);
        process.kill(pid, 'SIGUSR2');
      } else process.kill(pid, kind === 'chassis kill' ? 'SIGKILL' : 'SIGSTOP');
    } catch {
      // The chassis was replaced since the status was read, so no fault happened.
    }
    // Pings detect a frozen chassis.
    await until(`${name} at ${manager.name} to be replaced`, () => !isAlive(pid), WHOLE_MS);
    this.#end(fault);
    await this.#untilServes(manager);
  }

  async #drain(random: Random, { name: manager }: ClusterProcess): Promise<void> {
    const fault = this.#begin('drain', manager);
    await this.#admin.ask('Katamari.drain', { manager });
    await sleep(random.between(1_000, DOWN_MAX_MS));
    await this.#admin.ask('Katamari.undrain', { manager });
    this.#end(fault);
  }

  async #scale(random: Random): Promise<void> {
    this.#copies = random.between(COPIES - 2, COPIES + 3);
    const fault = this.#begin('scale', `to ${this.#copies}`);
    await this.#admin.ask('Katamari.scale', { serviceName: 'Tally', version: '1.0.0', count: this.#copies });
    this.#end(fault);
  }

  async #roll(random: Random): Promise<void> {
    const serviceName = random.pick(['Tally', 'TextSearch', 'MapFileLookup']);
    const fault = this.#begin('roll', serviceName);
    // The rolling restart continues when the call that started it ends at its deadline or with its faceplate.
    await this.#admin.try('Katamari.restart', { serviceName, version: '', resource: '' });
    this.#end(fault);
  }

  async #cut(random: Random, manager: ClusterProcess): Promise<void> {
    const faceplate = random.pick(this.#cluster.faceplates).name;
    const [from, to] = random.pick([[faceplate, manager.name] as const, [manager.name, faceplate] as const]);
    const ways = random.pick(['both', 'one way'] as const);
    const fault = this.#begin(
      'cut',
      manager.name,
      '',
      faceplate,
      ` ${ways === 'both' ? 'both ways' : `from ${from} to ${to}`}`,
    );
    await this.#cluster.cut(from, to, ways);
    await sleep(random.between(500, CUT_MAX_MS));
    await this.#cluster.heal(from, to, ways);
    this.#end(fault);
  }

  #begin(kind: FaultKind, target: string, resource = '', other = '', how = ''): Fault {
    const fault: Fault = {
      kind,
      target,
      resource,
      other,
      fromMs: performance.now(),
      untilMs: Number.POSITIVE_INFINITY,
    };
    this.#faults.push(fault);
    this.#progress(
      `${kind} ${resource === '' ? '' : `${resource} at `}${target}${other === '' ? '' : ` and ${other}`}${how}`,
    );
    return fault;
  }

  #end(fault: Fault): void {
    fault.untilMs = performance.now();
  }

  /** Waits until all copies that the manager should run are alive. */
  async #untilServes(manager: ClusterProcess): Promise<void> {
    await until(
      `${manager.name} to have what it is to run`,
      async () => {
        const { pools } = await manager.status().catch(() => ({ pools: undefined }));
        return pools?.every(({ alive, wanted }) => alive >= wanted) === true;
      },
      WHOLE_MS,
    );
  }

  /** Waits until every copy is alive, copies are evenly spread and every faceplate reaches all of them. */
  async #whole(): Promise<number> {
    const since = performance.now();
    let seen = '';
    const isSpread = async (faceplate: ClusterProcess): Promise<boolean> => {
      const pools = (await faceplate.status()).pools.filter(({ service }) => service === 'Tally');
      const alive = this.#cluster.managers.map(({ name }) =>
        pools.reduce((sum, pool) => sum + (pool.manager === name ? pool.alive : 0), 0),
      );
      seen = `${faceplate.name} sees ${alive.join(', ')} copies`;
      const sum = alive.reduce((total, one) => total + one, 0);
      return sum === this.#copies && Math.max(...alive) - Math.min(...alive) <= 1;
    };
    await until(
      'the mesh to be whole',
      async () => {
        for (const faceplate of this.#cluster.faceplates)
          if (!(await isSpread(faceplate).catch(() => false))) return false;
        return true;
      },
      WHOLE_MS,
    ).catch((error: Error) => this.#violations.push(`${error.message} with ${this.#copies} copies: ${seen}`));
    return performance.now() - since;
  }

  #progress(news: string): void {
    const all = [this.#callers, this.#indices.callers].filter((callers) => callers !== undefined);
    const ends = all.flatMap((callers) => Object.entries(callers.ends));
    this.#options.onProgress?.({
      secondsLeft: Math.max(0, (this.#endAt - performance.now()) / 1_000),
      sent: all.reduce((sum, { sent }) => sum + sent, 0),
      failed: ends.reduce((sum, [code, count]) => sum + (code === 'ok' ? 0 : count), 0),
      faults: this.#faults.length,
      news,
    });
  }

  // Checks.

  /** Checks that a fault explains every failure. */
  #checkFailures(
    callers: ClusterCallers,
    ledger: readonly string[],
  ): { explained: Record<string, number>; crossed: number } {
    const explained: Record<string, number> = {};
    const failures = callers.failures(ledger);
    for (const record of failures) {
      const causes = this.#faults.filter((fault) =>
        explains(noticed(fault, this.#faults, record.faceplate), record, TIMEOUT_MS),
      );
      const [cause] = causes;
      if (cause === undefined && this.#isStarved(record)) explained[STARVED] = (explained[STARVED] ?? 0) + 1;
      else if (cause === undefined) this.#violations.push(`${describe(record)}: no fault explains it`);
      else explained[cause.kind] = (explained[cause.kind] ?? 0) + 1;
    }
    return { explained, crossed: callers.failedSince(0).length - failures.length };
  }

  /** Checks that every answer of an index is right, and that a fault explains every failure. */
  #checkIndexCalls(callers: ChaosIndexCallers): Record<string, number> {
    const explained: Record<string, number> = {};
    this.#violations.push(...callers.wrong);
    for (const record of callers.failures) {
      const cause = this.#faults.find((fault) =>
        explainsIndexCall(noticed(fault, this.#faults, record.faceplate), record),
      );
      const why = cause?.kind ?? (this.#isStarved(record) ? STARVED : undefined);
      if (why === undefined) this.#violations.push(`${describe(record)}: no fault explains it`);
      else explained[why] = (explained[why] ?? 0) + 1;
    }
    return explained;
  }

  /** Checks that no call settles late, unless a fault explains it. */
  #checkDeadlines(callers: ClusterCallers): number {
    let worstMs = 0;
    for (const record of callers.remarkable) {
      if (record.lateMs <= 0) continue;
      if (this.#faults.some((fault) => explains(fault, { ...record, end: TIMED_OUT }, TIMEOUT_MS))) continue;
      const lateMs = record.lateMs - this.#starvedMs(record);
      worstMs = Math.max(worstMs, lateMs);
      // Load does not explain a delay this long.
      if (lateMs > LATE_MS) this.#violations.push(`${describe(record)}: ${Math.round(lateMs)} ms after its deadline`);
    }
    return worstMs;
  }

  /** Whether the call timed out while the processes it depends on waited for a CPU for a good part of its time. */
  #isStarved(record: CallRecord): boolean {
    return !record.end.ok && record.end.code === 'timeout' && this.#starvedMs(record) > TIMEOUT_MS / STARVED_PART;
  }

  /**
   * How long the processes that the call passes waited for a CPU, in ms; among the managers, the one that waited
   * longest.
   */
  #starvedMs({ faceplate, sentAtMs, settledAtMs }: CallRecord): number {
    const waitedMs = (name: string): number => this.#starvation.waitedMs(name, sentAtMs, settledAtMs);
    const managers = this.#cluster.managers.map(({ name }) => waitedMs(name));
    return waitedMs(CLIENTS) + waitedMs(faceplate) + Math.max(...managers);
  }

  #checkLedger(callers: ClusterCallers, ledger: readonly string[]): { executions: number; ranAgain: number } {
    const { executions, ranAgain, ranTwice, answeredUnrun, refusedRan } = checkLedger(ledger, callers);
    for (const id of ranTwice) this.#violations.push(`Call ${id} ran twice and must not`);
    for (const id of answeredUnrun) this.#violations.push(`Call ${id} was answered and never ran`);
    for (const id of refusedRan) this.#violations.push(`Call ${id} was refused as not run, and ran`);
    return { executions, ranAgain };
  }

  /** Checks that one master leads and that all masters agree on it. */
  async #checkLeader(): Promise<void> {
    await until(
      'one leader',
      async () => {
        const lead = await leadOf(this.#cluster);
        const told = await Promise.all(this.#cluster.masters.map((master) => master.status()));
        return lead !== undefined && told.every(({ leader, term }) => leader === lead.name && term === lead.term);
      },
      WHOLE_MS,
    ).catch((error: Error) => this.#violations.push(error.message));
  }

  /** Checks that without faults the mesh answers every call, and that faceplates and clients count the same. */
  async #calm(): Promise<number> {
    const before = await this.#counters.settled();
    const callers = this.#call(this.#options.clients, this.#options.seed + CALM_SEED);
    await until('calls', () => callers.sent >= CALM_CALLS, WHOLE_MS).catch(() => undefined);
    await callers.stop();
    for (const record of callers.failedSince(0))
      this.#violations.push(`${describe(record)}: no fault was injected any more`);
    const after = await this.#counters.settled();
    for (const what of ['accepted', 'replied'] as const) {
      const counted = after[what] - before[what];
      if (counted !== callers.sent)
        this.#violations.push(`The faceplates counted ${counted} calls ${what}, the clients ${callers.sent}`);
    }
    return callers.sent;
  }

  /** The same for the indices. */
  async #calmIndices(): Promise<number> {
    const counted = async (): Promise<number> => {
      const all = await Promise.all(this.#cluster.faceplates.map((faceplate) => faceplate.metrics()));
      const sums = all.flatMap((metrics) =>
        ['wiki', 'pairs'].map((service) => sumOf(metrics, 'katamari_calls_total', { service, outcome: 'replied' })),
      );
      return sums.reduce((sum, one) => sum + one, 0);
    };
    const before = await counted();
    const callers = this.#indices.call(INDEX_CLIENTS, this.#options.seed + CALM_SEED);
    await until('calls of indices', () => callers.sent >= CALM_INDEX_CALLS, WHOLE_MS).catch(() => undefined);
    await callers.stop();
    this.#violations.push(...callers.wrong);
    for (const record of callers.failures) this.#violations.push(`${describe(record)}: no fault was injected any more`);
    const replied = (await counted()) - before;
    if (replied !== callers.sent)
      this.#violations.push(`The faceplates counted ${replied} replied calls of indices, the clients ${callers.sent}`);
    return callers.sent;
  }

  /** Checks that every process comes to rest. Returns the largest share of a processor that one uses. */
  async #checkRest(): Promise<number> {
    const found = await measureRest(this.#cluster.processes, { windowMs: REST_MS, windows: REST_WINDOWS_MAX });
    this.#violations.push(...restless(found));
    return Math.max(...[...found.values()].map(({ share }) => share));
  }

  async #checkStrays(): Promise<void> {
    await until('strays to end', () => this.#cluster.strays().length === 0, WHOLE_MS).catch(() =>
      this.#violations.push(`Stray processes: ${this.#cluster.strays().join(', ')}`),
    );
  }

  /** Checks that every process exits with status 0 on SIGTERM and leaves nothing behind. */
  async #checkEnd(): Promise<void> {
    await this.#cluster.stop().catch((error: Error) => this.#violations.push(error.message));
    for (const { name, ended, isRunning } of this.#cluster.processes) {
      if (isRunning) continue;
      const { code, signal } = await ended;
      if (code !== 0) this.#violations.push(`${name} ended with ${code ?? signal} on SIGTERM, expected 0`);
    }
    await until('every process to end', () => this.#cluster.descendants().length === 0, WHOLE_MS).catch(() =>
      this.#violations.push(`Left behind: ${this.#cluster.descendants().join(', ')}`),
    );
  }
}

/** The counting chassis, with health checks frequent enough to detect a frozen one soon. */
function chaosTally(count: number) {
  return tally({ count, hangGrace: '500ms', pingEvery: '1s', pingTimeout: '1s' });
}

/** A content server on each manager. */
function contentServer(service: string, folder: string): DeploymentText {
  return {
    service,
    version: '1.0.0',
    command: scriptCommand(new URL(`../../../content-servers/${folder}/main.ts`, import.meta.url)),
    count: 1,
    perManager: true,
    hangGrace: '500ms',
    pingEvery: '1s',
    pingTimeout: '1s',
  };
}

/** Sets the soft limit of a resource of a running process, with util-linux's prlimit. @throws Error when it is gone */
function limit(pid: number, resource: 'nofile' | 'as', value: string): void {
  execFileSync('prlimit', [`--pid=${pid}`, `--${resource}=${value}:`], { stdio: 'pipe' });
}

function describe({ id, method, protocol, faceplate, sentAtMs, settledAtMs, end }: CallRecord): string {
  const how = end.ok ? 'answered' : `${end.code}: ${end.message}`;
  return `Call ${id}, ${method} over ${protocol} at ${faceplate}, from ${Math.round(sentAtMs)} to ${Math.round(settledAtMs)} ms, ${how}`;
}

type ProcessFault = (typeof ANY_OF_PROCESS)[number];

type ChassisFault = (typeof ANY_OF_CHASSIS)[number];

const ANY_OF_CHASSIS = [
  'chassis kill',
  'chassis freeze',
  'chassis out of memory',
] as const satisfies readonly FaultKind[];
const ANY_OF_PROCESS = ['kill', 'term', 'freeze'] as const satisfies readonly FaultKind[];
/** Soft limit of open files, as on most machines. */
const FILES_MAX = 1_024;
/** Address space in bytes; less than any process uses, so that it gets no more. */
const MEMORY_MIN = 1 << 20;
/** The process that runs the clients, which is this one. */
const CLIENTS = 'clients';
const STARVED = 'machine too busy';
/** A call counts as starved when the wait exceeds this fraction (1/n) of the timeout. */
const STARVED_PART = 4;
const TIMED_OUT = { ok: false, code: 'timeout', message: '' } as const;
const COPIES = 7;
/** Global timeout of the mesh under test. */
const TIMEOUT_MS = 5_000;
const PAUSE_MIN_MS = 300;
const PAUSE_MAX_MS = 2_500;
const FROZEN_MAX_MS = 6_000;
/** From the end of a process until it is started again. */
const DOWN_MAX_MS = 4_000;
const CONSUL_AWAY_MAX_MS = 8_000;
const CUT_MAX_MS = 8_000;
const WHOLE_MS = 90_000;
const LATE_MS = 2_000;
const REST_MS = 10_000;
const REST_WINDOWS_MAX = 9;
const CALM_CALLS = 2_000;
const CALM_INDEX_CALLS = 500;
const INDEX_CLIENTS = 6;
/** Managers keep 256 MiB free, and tell the rest in steps of 256 MiB. */
const DISK_MIB = 640;
/** Call ids are unique within one run of callers; a different seed keeps the two runs apart. */
const CALM_SEED = 1_000;

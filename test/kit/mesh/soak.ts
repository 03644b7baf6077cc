// The soak test: a real mesh as a child process under clients that call without pause. Meanwhile chassis are killed
// and stopped at random, crash and hang by themselves, and are restarted one after the other. During and after the
// run it checks that every call settles, that only calls inside a failed chassis fail, that nothing is lost and that
// nothing is left behind.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { jsonRpcCaller, thriftCaller, type CallEnd, type Caller } from './callers.ts';
import { LagMeter } from '../tools/lag-meter.ts';
import { startMeshProcess, type MeshProcess } from './mesh-process.ts';
import { parseIdl, readIdlFile } from '../../../core/idl/mod.ts';
import { scriptCommand, sleep } from '../../../core/mod.ts';
import type { MeshStatus } from '../../../core/rpc/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import { work, isAlive } from './mesh.ts';
import { Random } from '../tools/random.ts';
import { until } from '../tools/wait.ts';

export interface SoakOptions {
  readonly seconds: number;
  readonly clients: number;
  /** Number of chassis to kill or stop. */
  readonly kills: number;
  /** The same seed gives the same calls and victims, but not at the same moments. */
  readonly seed: number;
  /** Called about once a second. */
  readonly onProgress?: (progress: SoakProgress) => void;
}

export interface SoakProgress {
  readonly secondsLeft: number;
  readonly sent: number;
  readonly failed: number;
  readonly incidents: number;
  readonly last: string;
}

/** A fault of a chassis. Times in ms of performance.now(). */
export interface Incident {
  readonly what: 'SIGKILL' | 'SIGSTOP' | 'crash' | 'hang';
  /** `Work@1.0.0/2`; '' when the mesh chose the resource. */
  readonly resource: string;
  readonly pid: number;
  readonly atMs: number;
}

export interface SoakReport {
  readonly seed: number;
  readonly runtime: string;
  readonly lastedMs: number;
  readonly sent: number;
  /** Outcomes of calls by code; `ok` for replies. */
  readonly ends: Readonly<Record<string, number>>;
  readonly byProtocol: Readonly<Record<string, number>>;
  readonly incidents: readonly Incident[];
  /** Time from each SIGKILL to the error of the call that was inside, in ms. */
  readonly killToErrorMs: readonly number[];
  /** How late the latest call was after its deadline, less delays that the mesh did not cause, in ms. */
  readonly worstLateMs: number;
  /** The same without the subtraction. */
  readonly worstLateRawMs: number;
  /** Longest event loop lag of this process. */
  readonly worstLagMs: number;
  /** Share of the time that the mesh was ready to run and got no CPU, 0..1. */
  readonly starvedShare: number;
  readonly wholeAfterMs: number;
  readonly callStats: MeshStatus['calls'];
  readonly restarts: Readonly<Record<string, number>>;
  /** Violated invariants; empty if the run succeeded. */
  readonly violations: readonly string[];
  /** Violated time limits. They are separate, because a loaded machine breaks them too. */
  readonly lateness: readonly string[];
}

/** @throws Error when the mesh does not start */
export async function runSoak(options: SoakOptions): Promise<SoakReport> {
  const mesh = await startMeshProcess({
    settings: { timeout: `${TIMEOUT_MS}ms` },
    deployments: [
      work({ count: 4, ...HEALTH }),
      sample('calculator.ts', 'Calculator', 3),
      sample('troublemaker.ts', 'Troublemaker', 2),
    ],
  });
  const soak = new Soak(mesh, options);
  try {
    return await soak.run();
  } finally {
    soak.close();
    await mesh.end();
  }
}

interface CallRecord {
  readonly protocol: string;
  readonly method: string;
  readonly sentAtMs: number;
  readonly settledAtMs: number;
  readonly end: CallEnd;
}

class Soak {
  readonly #mesh: MeshProcess;
  readonly #options: SoakOptions;
  readonly #random: Random;
  readonly #lag: LagMeter;
  readonly #interfaces = interfaces();
  readonly #callers: Caller[] = [];
  readonly #incidents: Incident[] = [];
  /** Calls without a reply, and slow ones. The others are only counted. */
  readonly #remarkable: CallRecord[] = [];
  readonly #ends: Record<string, number> = {};
  readonly #byProtocol: Record<string, number> = {};
  /** Number of replies of `take` and `takeAgain` by the pid that gave them. */
  readonly #answersOf = new Map<string, number>();
  readonly #violations: string[] = [];
  readonly #lateness: string[] = [];
  #sent = 0;
  #isOver = false;
  #last = 'began';

  constructor(mesh: MeshProcess, options: SoakOptions) {
    this.#mesh = mesh;
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#lag = new LagMeter(mesh.pid);
  }

  async run(): Promise<SoakReport> {
    const { seconds, clients, onProgress } = this.#options;
    const before = (await this.#mesh.status()).calls;
    const startedAt = performance.now();
    const endAt = startedAt + seconds * 1_000;
    const callers = Array.from({ length: clients }, (_, index) => this.#client(index));
    const director = this.#direct(endAt);
    while (performance.now() < endAt) {
      await sleep(Math.min(1_000, Math.max(0, endAt - performance.now())));
      onProgress?.({
        secondsLeft: Math.max(0, (endAt - performance.now()) / 1_000),
        sent: this.#sent,
        failed: Object.entries(this.#ends).reduce((sum, [code, count]) => sum + (code === 'ok' ? 0 : count), 0),
        incidents: this.#incidents.length,
        last: this.#last,
      });
    }
    await director;
    this.#isOver = true;
    await Promise.all(callers);
    const lastedMs = performance.now() - startedAt;
    const wholeAfterMs = await this.#whole();
    const status = await this.#settled();
    this.#checkCounters(before, status.calls);
    const killToErrorMs = this.#checkFailures();
    this.#checkLedger();
    const late = this.#checkDeadlines();
    await this.#checkStrays(status);
    await this.#checkEnd();
    return {
      seed: this.#random.seed,
      runtime: status.runtime,
      lastedMs,
      sent: this.#sent,
      ends: this.#ends,
      byProtocol: this.#byProtocol,
      incidents: this.#incidents,
      killToErrorMs,
      ...late,
      worstLagMs: this.#lag.worstMs,
      starvedShare: this.#lag.waitedShare,
      wholeAfterMs,
      callStats: status.calls,
      restarts: sumOf(status.pools.map(({ restartsByReason }) => restartsByReason)),
      violations: this.#violations,
      lateness: this.#lateness,
    };
  }

  close(): void {
    this.#isOver = true;
    this.#lag.close();
    for (const caller of this.#callers) caller.close();
  }

  /** One client: a quarter framed Thrift, a quarter unframed, half JSON-RPC. */
  async #client(index: number): Promise<void> {
    const { thrift, jsonRpc } = this.#mesh.addresses;
    const port = Number(thrift.split(':').at(-1));
    const caller = index % 2 === 0 ? jsonRpcCaller(jsonRpc) : thriftCaller(port, index % 4 === 1, this.#interfaces);
    this.#callers.push(caller);
    // Each client has its own random generator, so that the clients do not influence one another.
    const random = new Random(this.#options.seed + 1 + index);
    while (!this.#isOver) {
      const [service, method, params] = someCall(random);
      const { end } = await this.#call(caller, service, method, params);
      if (end.ok && (method === 'take' || method === 'takeAgain')) {
        const key = `${method} ${String(end.value)}`;
        this.#answersOf.set(key, (this.#answersOf.get(key) ?? 0) + 1);
      }
    }
  }

  async #call(
    caller: Caller,
    service: string,
    method: string,
    params: Readonly<Record<string, unknown>>,
  ): Promise<CallRecord> {
    this.#sent++;
    this.#byProtocol[caller.protocol] = (this.#byProtocol[caller.protocol] ?? 0) + 1;
    const sentAtMs = performance.now();
    const end = await caller.call(service, method, params, TIMEOUT_MS + PATIENCE_MS);
    const settledAtMs = performance.now();
    const code = end.ok ? 'ok' : end.code;
    this.#ends[code] = (this.#ends[code] ?? 0) + 1;
    const record = { protocol: caller.protocol, method: `${service}.${method}`, sentAtMs, settledAtMs, end };
    if (!end.ok || settledAtMs - sentAtMs > TIMEOUT_MS) this.#remarkable.push(record);
    return record;
  }

  /** Injects faults: kills at even intervals, and between them crashes, hangs and one rolling restart. */
  async #direct(endAt: number): Promise<void> {
    const caller = jsonRpcCaller(this.#mesh.addresses.jsonRpc);
    this.#callers.push(caller);
    const { kills, seconds } = this.#options;
    const stepMs = (seconds * 900) / kills;
    const beganAt = performance.now();
    const trouble = this.#makeTrouble(caller, endAt);
    let rolling: Promise<void> | undefined;
    for (let n = 0; n < kills; n++) {
      await sleep(Math.max(0, beganAt + n * stepMs + this.#random.next() * stepMs * 0.5 - performance.now()));
      // The first two are one of each kind, whatever the random generator says.
      await this.#kill(n === 0 ? 'SIGKILL' : n === 1 ? 'SIGSTOP' : this.#random.pick(['SIGKILL', 'SIGSTOP']));
      if (n === Math.floor(kills / 2)) rolling = this.#roll();
    }
    await Promise.all([trouble, rolling]);
  }

  /** A random copy, but never the last unharmed one of a pool: calls would then rightly time out in the queue. */
  async #kill(what: 'SIGKILL' | 'SIGSTOP'): Promise<void> {
    const victim = await until('a victim', async () => {
      const { pools } = await this.#mesh.status();
      const struck = new Set(this.#incidents.map(({ pid }) => pid));
      const candidates = pools
        .filter(({ service }) => service !== 'Troublemaker')
        .flatMap(({ resources }) => {
          const well = resources.filter(({ pid, state }) => !struck.has(pid) && (state === 'idle' || state === 'busy'));
          return well.length > 1 ? well : [];
        });
      return candidates.length === 0 ? undefined : this.#random.pick(candidates);
    });
    this.#note({ what, resource: victim.name, pid: victim.pid, atMs: performance.now() });
    try {
      process.kill(victim.pid, what);
    } catch {
      // The copy was replaced since the status was read, so no fault happened.
    }
  }

  /** Crashes, hangs and orphaned children, each caused by a call of its own, one after the other. */
  async #makeTrouble(caller: Caller, endAt: number): Promise<void> {
    const lastAt = endAt - HANG_MS;
    for (let n = 0; performance.now() < lastAt; n++) {
      const child = await this.#call(caller, 'Troublemaker', 'spawnChild', {});
      if (!child.end.ok) this.#violations.push(`Troublemaker.spawnChild failed: ${child.end.message}`);
      const what = n % 2 === 0 ? 'crash' : 'hang';
      this.#note({ what, resource: '', pid: 0, atMs: performance.now() });
      // A call that was seen to cost a copy its life is refused. So each exit has a status of its own, and only the
      // first hang of a caller is certain to run.
      const [method, args] = what === 'crash' ? ['exit', { code: n % 250 }] : ['hang', {}];
      const { end } = await this.#call(caller, 'Troublemaker', method, args);
      const expected =
        what === 'crash' ? ['resource_failed'] : n === 1 ? ['timeout'] : ['timeout', 'refused_as_poison'];
      if (end.ok || !expected.includes(end.code))
        this.#violations.push(
          `Troublemaker.${method} ended with ${end.ok ? 'an answer' : end.code}, expected ${expected.join(' or ')}`,
        );
      // Rare enough that the restart rules do not back off.
      await sleep(Math.min(TROUBLE_EVERY_MS, this.#options.seconds * 100) * (0.5 + this.#random.next()));
    }
  }

  async #roll(): Promise<void> {
    this.#last = 'rolling restart of Work';
    const params = { token: this.#mesh.adminToken, serviceName: 'Work', version: '', resource: '' };
    const caller = jsonRpcCaller(this.#mesh.addresses.jsonRpc);
    this.#callers.push(caller);
    // The call itself may time out while its work goes on.
    const { end } = await this.#call(caller, 'Katamari', 'restart', params);
    if (!end.ok && end.code !== 'timeout') this.#violations.push(`The rolling restart was refused: ${end.message}`);
    await until(
      'the rolling restart to end',
      async () => this.#mesh.output().includes('"kind":"rolling_done"'),
      60_000,
    );
  }

  #note(incident: Incident): void {
    this.#incidents.push(incident);
    this.#last = `${incident.what} ${incident.resource || 'Troublemaker'}`;
  }

  /**
   * Waits until the victim has ended (pings detect a stopped copy that gets no calls) and every pool has all its
   * copies.
   */
  async #whole(): Promise<number> {
    const since = performance.now();
    const struck = this.#incidents.filter(({ pid }) => pid !== 0);
    await until('what was struck to end', () => struck.every(({ pid }) => !isAlive(pid)), WHOLE_MS).catch(() => {
      for (const { pid, what, resource } of struck)
        if (isAlive(pid)) this.#violations.push(`${resource}, process ${pid}, still lives after ${what}`);
    });
    try {
      await until(
        'the pools to be whole',
        async () => (await this.#mesh.status()).pools.every(({ alive, wanted }) => alive === wanted),
        WHOLE_MS,
      );
    } catch {
      const { pools } = await this.#mesh.status();
      for (const { id, alive, wanted, note } of pools)
        if (alive !== wanted) this.#violations.push(`${id} has ${alive} of ${wanted} resources afterwards: ${note}`);
    }
    return performance.now() - since;
  }

  /** The status once no call is in flight. */
  async #settled(): Promise<MeshStatus> {
    return await until('the last call to settle', async () => {
      const status = await this.#mesh.status();
      return status.calls.inFlight === 0 ? status : undefined;
    });
  }

  /** Checks that the counters of the mesh add up and agree with those of the clients. */
  #checkCounters(before: MeshStatus['calls'], after: MeshStatus['calls']): void {
    const counted = { ...after };
    for (const key of Object.keys(counted) as (keyof typeof counted)[]) counted[key] -= before[key];
    const { accepted, replied, failed, refused, timed_out, cancelled, inFlight } = counted;
    const sum = replied + failed + refused + timed_out + cancelled + inFlight;
    if (accepted !== sum)
      this.#violations.push(`The counters do not add up: ${accepted} accepted, ${sum} accounted for`);
    const ends = this.#ends;
    const expected = {
      accepted: this.#sent,
      replied: ends['ok'] ?? 0,
      failed: ends['resource_failed'] ?? 0,
      timed_out: ends['timeout'] ?? 0,
      refused: (ends['overloaded'] ?? 0) + (ends['refused_as_poison'] ?? 0),
      cancelled: 0,
      inFlight: 0,
    };
    for (const [key, value] of Object.entries(expected)) {
      const found = counted[key as keyof typeof counted];
      if (found !== value) this.#violations.push(`The mesh counted ${found} calls ${key}, the clients ${value}`);
    }
  }

  /** Checks that every failure names a chassis that had a fault during the call, and at most one call per chassis. */
  #checkFailures(): number[] {
    const killToErrorMs: number[] = [];
    const explained = new Map<Incident, CallRecord>();
    for (const record of this.#remarkable) {
      const { end, method } = record;
      if (end.ok || method.startsWith('Troublemaker.exit') || method.startsWith('Troublemaker.hang')) continue;
      if (method.startsWith('Katamari.')) continue;
      if (end.code !== 'resource_failed' && end.code !== 'timeout') {
        this.#violations.push(`${describe(record)}: expected only resource_failed or timeout`);
        continue;
      }
      // A call that failed at once was inside a killed chassis, if one was killed. The stop of an earlier process of
      // that name may explain another call.
      const causes = this.#incidents.filter((incident) => !explained.has(incident) && explains(incident, record));
      const cause = causes.find(({ what }) => what !== 'SIGSTOP') ?? causes[0];
      if (cause === undefined) {
        this.#violations.push(`${describe(record)}: that chassis had no fault, or another call was in it`);
        continue;
      }
      explained.set(cause, record);
      if (cause.what === 'SIGKILL') killToErrorMs.push(record.settledAtMs - cause.atMs);
      if (IDEMPOTENT.has(method) && end.code === 'resource_failed')
        this.#violations.push(`${describe(record)}: an idempotent call must be retried`);
    }
    return killToErrorMs;
  }

  /**
   * Checks that every call that ran without a reply ran in a chassis that had a fault, one call each: nothing ran
   * twice, and no expired call ran.
   */
  #checkLedger(): void {
    const ran = new Map<string, number>();
    for (const line of this.#mesh.ledger()) {
      const [method = '', , pid = ''] = line.split(' ');
      ran.set(`${method} ${pid}`, (ran.get(`${method} ${pid}`) ?? 0) + 1);
    }
    const struck = new Set(this.#incidents.map(({ pid }) => String(pid)));
    const unanswered = new Map<string, number>();
    for (const [key, count] of ran) {
      const [, pid = ''] = key.split(' ');
      const answered = this.#answersOf.get(key) ?? 0;
      if (count !== answered) unanswered.set(pid, (unanswered.get(pid) ?? 0) + count - answered);
    }
    for (const [key, count] of this.#answersOf)
      if ((ran.get(key) ?? 0) < count)
        this.#violations.push(`${count} answers of "${key}", which ran ${ran.get(key) ?? 0} times`);
    for (const [pid, count] of unanswered) {
      if (!struck.has(pid))
        this.#violations.push(`${count} calls ran without an answer in process ${pid}, to which nothing was done`);
      else if (count !== 1)
        this.#violations.push(`${count} calls ran without an answer in process ${pid}, which takes one at a time`);
    }
  }

  /**
   * Checks that no call settles more than 50 ms after its deadline. Delays that the mesh did not cause are
   * subtracted: the event loop lag of this process at the deadline, and the time that the mesh was ready to run but
   * got no CPU, when it took the call in and from the deadline on.
   */
  #checkDeadlines(): { worstLateMs: number; worstLateRawMs: number } {
    let [worstLateMs, worstLateRawMs] = [0, 0];
    for (const record of this.#remarkable) {
      const { sentAtMs, settledAtMs, end } = record;
      if (!end.ok && (end.code === 'silent' || end.code === 'lost'))
        this.#violations.push(`${describe(record)}: it never settled`);
      const deadlineMs = sentAtMs + (record.method === 'Troublemaker.hang' ? HANG_MS : TIMEOUT_MS);
      const rawMs = settledAtMs - deadlineMs;
      const starvedMs =
        this.#lag.waitedBetween(sentAtMs, sentAtMs + TAKEN_IN_MS) + this.#lag.waitedBetween(deadlineMs, settledAtMs);
      const lateMs = rawMs - this.#lag.worstBetween(deadlineMs, settledAtMs) - starvedMs;
      worstLateMs = Math.max(worstLateMs, lateMs);
      worstLateRawMs = Math.max(worstLateRawMs, rawMs);
      if (lateMs > LATE_MS) this.#lateness.push(`${describe(record)}: ${Math.round(lateMs)} ms after its deadline`);
    }
    return { worstLateMs, worstLateRawMs };
  }

  /** Checks that every process of the mesh belongs to a chassis in the status or is a helper of the mesh. */
  async #checkStrays({ pools }: MeshStatus): Promise<void> {
    const chassis = new Set(pools.flatMap(({ resources }) => resources.map(({ pid }) => pid)));
    const strays = (): number[] =>
      this.#mesh
        .descendants()
        .filter((pid) => !chassis.has(groupOf(pid)) && !commandOf(pid).includes('katamari-reaper'));
    await until('processes that are being ended', () => strays().length === 0, STRAYS_MS).catch(() =>
      this.#violations.push(
        `Stray processes: ${strays()
          .map((pid) => `${pid} (${commandOf(pid)})`)
          .join(', ')}`,
      ),
    );
  }

  /** Checks that the mesh exits with status 0 on SIGTERM and leaves nothing behind. */
  async #checkEnd(): Promise<void> {
    for (const caller of this.#callers) caller.close();
    const code = await this.#mesh.stop();
    if (code !== 0) this.#violations.push(`The mesh ended with ${code} on SIGTERM, expected 0`);
    await until('every process to end', () => this.#mesh.descendants().length === 0, STRAYS_MS).catch(() =>
      this.#violations.push(
        `Left behind: ${this.#mesh
          .descendants()
          .map((pid) => `${pid} (${commandOf(pid)})`)
          .join(', ')}`,
      ),
    );
  }
}

/** A call that any client may make at any time. */
function someCall(random: Random): [service: string, method: string, params: Readonly<Record<string, unknown>>] {
  const dice = random.below(100);
  if (dice < 25) return ['Calculator', 'add', { num1: random.below(1_000), num2: random.below(1_000) }];
  if (dice < 50) return ['Work', 'say', { text: 'x'.repeat(random.below(200)) }];
  if (dice < 70) return ['Work', 'take', { ms: random.below(15) }];
  if (dice < 87) return ['Work', 'takeAgain', { ms: random.below(15) }];
  if (dice < 92) return ['Work', 'spin', { ms: random.below(4) }];
  if (dice < 97) return ['Work', 'sorry', { why: 'so it goes' }];
  return ['Troublemaker', 'pid', {}];
}

function sample(script: string, service: string, count: number): { service: string; version: string } {
  const file = fileURLToPath(new URL(`../../../examples/${script}`, import.meta.url));
  const more = { command: scriptCommand(file), count, ...HEALTH };
  return { service, version: '1.0.0', ...more };
}

function interfaces(): ReadonlyMap<string, Interface> {
  const files = ['../../../examples/calculator.thrift', '../../../examples/troublemaker.thrift'];
  const urls = [...files, '../../fixtures/chassis/work.thrift'].map((file) => new URL(file, import.meta.url));
  return new Map(urls.flatMap((url) => [...parseIdl(readIdlFile(url)).services]));
}

/** Whether the incident concerns the chassis that the error names, while the call was in it or on its way to it. */
function explains({ what, resource, atMs }: Incident, { sentAtMs, settledAtMs, end }: CallRecord): boolean {
  if (end.ok || resource === '') return false;
  const names = end.message.startsWith(`${resource} failed while`) || end.message.includes(`: ${resource} has worked`);
  // A stopped chassis takes one more call, which stays in it until it is killed.
  const untilMs = atMs + (what === 'SIGSTOP' ? 2 * TIMEOUT_MS : NOTICED_MS);
  const fits = what === 'SIGSTOP' || end.code === 'resource_failed';
  return names && fits && sentAtMs <= untilMs && settledAtMs >= atMs;
}

function describe({ protocol, method, sentAtMs, settledAtMs, end }: CallRecord): string {
  const how = end.ok ? 'answered' : `${end.code}: ${end.message}`;
  return `${method} over ${protocol}, ${Math.round(settledAtMs - sentAtMs)} ms, ${how}`;
}

function sumOf(records: readonly Readonly<Partial<Record<string, number>>>[]): Record<string, number> {
  const sum: Record<string, number> = {};
  for (const record of records)
    for (const [key, value] of Object.entries(record)) sum[key] = (sum[key] ?? 0) + (value ?? 0);
  return sum;
}

/** The process group of a process; 0 when the process has ended. */
function groupOf(pid: number): number {
  try {
    // The name in parentheses may contain anything, including parentheses.
    return Number(readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\)/s, '').trim().split(' ')[2]);
  } catch {
    return 0;
  }
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim().slice(-120);
  } catch {
    return 'ended';
  }
}

const IDEMPOTENT: ReadonlySet<string> = new Set(['Calculator.add', 'Work.say', 'Work.takeAgain', 'Troublemaker.pid']);
/** Shorter than the defaults, so that the run does not mostly wait. */
const HEALTH = { hangGrace: '500ms', pingEvery: '1s', pingTimeout: '1s' } as const;
/** Global timeout of the mesh under test. */
const TIMEOUT_MS = 3_000;
/** The annotation of Troublemaker.hang. */
const HANG_MS = 2_000;
/** The promised bound on the delay after the deadline. */
const LATE_MS = 50;
const TROUBLE_EVERY_MS = 5_000;
/** Time from sending a call until the mesh has read it. */
const TAKEN_IN_MS = 50;
/** A client gives up this long after the deadline: the call never settled. */
const PATIENCE_MS = 7_000;
/** Time from a SIGKILL until no call is sent there any more; far more than it takes. */
const NOTICED_MS = 500;
const WHOLE_MS = 30_000;
const STRAYS_MS = 10_000;

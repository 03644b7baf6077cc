// A resource manager in this process with the test chassis, for tests that call it without a mesh: deployments as plain
// data, calls by method name, and every process it ever started by its pid.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { encodeStruct, decodeResult, parseIdl, readIdlFile } from '../../../core/idl/mod.ts';
import { DEFAULT_LIMITS, KatamariError, systemClock } from '../../../core/mod.ts';
import { createCall, dispatchOf, type Call, type Reply } from '../../../core/rpc/mod.ts';
import type { Method } from '../../../core/thrift/mod.ts';
import { EventLog, type Deployment } from '../../../services/mesh/mod.ts';
import type { ManagerOptions } from '../../../services/resource-manager/manager.ts';
import { ResourceManager } from '../../../services/resource-manager/mod.ts';
import { fixture, isAlive } from './mesh.ts';
import { until } from '../tools/wait.ts';

const workIdl = parseIdl(readIdlFile(fileURLToPath(new URL('../../fixtures/chassis/work.thrift', import.meta.url))));

/** Work@version as an assignment or a file has it; `change` overrides keys. */
export function workDeployment(change: Partial<Deployment> = {}): Deployment {
  const version = change.version ?? '1.0.0';
  return {
    service: 'Work',
    version,
    count: 1,
    command: fixture('work.ts'),
    cwd: '',
    listen: 'unix',
    roles: [],
    tags: [],
    more: {},
    idl: null,
    transport: 'framed',
    protocol: 'binary',
    healthCheck: '',
    concurrency: null,
    times: {
      startTimeoutMs: 20_000,
      pingEveryMs: 5_000,
      pingTimeoutMs: 5_000,
      drainTimeoutMs: 20_000,
      stopGraceMs: 2_000,
      hangGraceMs: 1_000,
    },
    restart: { intensity: 5, periodMs: 30_000, backoffFirstMs: 100, backoffMaxMs: 500 },
    recycle: { afterCalls: 0, afterAgeMs: 0, memoryBytesMax: 0 },
    queueMax: 64,
    isolation: null,
    ...change,
    env: { WORK_VERSION: version, ...change.env },
  };
}

export class ManagerBench {
  readonly events: EventLog = new EventLog('one');
  readonly manager: ResourceManager;
  readonly #directory: string = mkdtempSync(path.join(tmpdir(), 'katamari-bench-'));
  readonly #started = new Set<number>();
  changes = 0;

  constructor(options: Partial<ManagerOptions> = {}) {
    writeFileSync(this.#ledgerFile, '');
    this.events.listen(({ kind, text }) => {
      const pid = /^pid (\d+)$/.exec(text)?.[1];
      if (kind === 'resource_starting' && pid !== undefined) this.#started.add(Number(pid));
    });
    this.manager = new ResourceManager({
      name: 'one',
      events: this.events,
      clock: systemClock,
      limits: DEFAULT_LIMITS,
      onLine: () => undefined,
      env: () => ({ WORK_LEDGER: this.#ledgerFile }),
      onPoolsChanged: () => this.changes++,
      ...options,
    });
  }

  get #ledgerFile(): string {
    return path.join(this.#directory, 'ledger');
  }

  /** The ledger of the test chassis, one line an execution: `method argument pid`. */
  ledger(): string[] {
    return readFileSync(this.#ledgerFile, 'utf8')
      .split('\n')
      .filter((line) => line !== '');
  }

  /** Kind, subject and text of each event, one line each. */
  told(): string[] {
    return this.events.after(0).map(({ kind, subject, text }) => `${kind} ${subject} ${text}`);
  }

  /** Pids of the started processes that are alive. */
  alive(): number[] {
    return [...this.#started].filter(isAlive);
  }

  get launches(): number {
    return this.#started.size;
  }

  /** A call as it arrives over the link. */
  call(method: string, args: Readonly<Record<string, unknown>>, change: Partial<Call> = {}): Call {
    return createCall({
      service: 'Work',
      version: '1.0.0',
      method,
      args: encodeStruct(workMethod(method).args, args),
      deadlineMs: systemClock.nowMs() + 10_000,
      ...change,
    });
  }

  reply(method: string, args: Readonly<Record<string, unknown>>, change: Partial<Call> = {}): Promise<Reply> {
    return dispatchOf(this.manager.send)(this.call(method, args, change));
  }

  /** The returned value, or the error as `code: message`, followed by `(ran?)` if the call may have run. */
  async ask(
    method: string,
    args: Readonly<Record<string, unknown>> = {},
    change: Partial<Call> = {},
  ): Promise<unknown> {
    try {
      const result = decodeResult(workMethod(method), (await this.reply(method, args, change)).body);
      return result.ok ? result.value : `exception ${result.exception}`;
    } catch (error) {
      if (!(error instanceof KatamariError)) throw error;
      return `${error.code}${error.facts.notRun === true ? '' : ' (ran?)'}: ${error.message}`;
    }
  }

  /** Serving copies by `Service@version`; pools without any are left out. */
  serving(): Record<string, number> {
    const counts = this.manager
      .status(() => 0)
      .map(({ service, version, alive }): [string, number] => [`${service}@${version}`, alive])
      .filter(([, alive]) => alive > 0);
    return Object.fromEntries(counts);
  }

  /** Waits until exactly these copies serve and no other process is left. */
  async untilServing(wanted: Readonly<Record<string, number>>, withinMs = 30_000): Promise<void> {
    const total = Object.values(wanted).reduce((sum, one) => sum + one, 0);
    const text = (counts: Readonly<Record<string, number>>): string => JSON.stringify(Object.entries(counts).sort());
    try {
      await until(
        `${text(wanted)} to serve`,
        () => text(this.serving()) === text(wanted) && this.alive().length === total,
        withinMs,
      );
    } catch (error) {
      const last = this.told().slice(-15).join('\n');
      const pids = `processes of the manager: ${this.manager.pids().join()}; alive: ${this.alive().join()}`;
      throw new Error(`${(error as Error).message}; it is ${text(this.serving())}; ${pids}\n${last}`, { cause: error });
    }
  }

  async end(): Promise<void> {
    await this.manager.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

function workMethod(name: string): Method {
  const method = workIdl.services.get('Work')?.methods.get(name);
  if (method === undefined) throw new Error(`Work has no method ${name}`);
  return method;
}

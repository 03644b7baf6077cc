// Clients that call the indices of the chaos test without pause, by JSON-RPC. They know what is in each version, judge
// every result, and record every failure. A client that cannot connect to its faceplate uses another one.

import type { CallRecord, Door } from '../cluster/callers.ts';
import { jsonRpc } from '../mesh/mesh.ts';
import { Random } from '../tools/random.ts';
import type { KnownCall, KnownIndices } from './known-indices.ts';
import { sleep } from '../../../core/mod.ts';

export interface ChaosIndexCallersOptions {
  readonly indices: KnownIndices;
  readonly doors: readonly Door[];
  readonly clients: number;
  readonly timeoutMs: number;
  readonly seed: number;
  /** Versions of `wiki` whose answers are right for a call in this time. */
  readonly versions: (fromMs: number, untilMs: number) => readonly string[];
}

export class ChaosIndexCallers {
  readonly ends: Record<string, number> = {};
  readonly failures: CallRecord[] = [];
  /** What was answered and is not so, for people. */
  readonly wrong: string[] = [];
  /** Calls by the faceplate that took them. */
  readonly byFaceplate: Record<string, number> = {};
  sent = 0;
  /** Number of times that a faceplate did not accept the connection. */
  notTaken = 0;
  readonly #options: ChaosIndexCallersOptions;
  readonly #running: Promise<void>[];
  #isOver = false;

  /** The clients start at once. */
  constructor(options: ChaosIndexCallersOptions) {
    this.#options = options;
    this.#running = Array.from({ length: options.clients }, (_, at) => this.#run(at));
  }

  /** Waits until every client has finished its call. */
  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#running);
  }

  async #run(at: number): Promise<void> {
    const { doors, indices, seed } = this.#options;
    const random = new Random(seed ^ (0x1000 + at));
    for (let number = 0, door = at; !this.#isOver; number++) {
      const isTaken = await this.#call(
        `index-${at}-${number}`,
        indices.call(random),
        doors[door % doors.length] as Door,
      );
      if (isTaken) continue;
      door++;
      this.notTaken++;
      await sleep(NOT_TAKEN_MS);
    }
  }

  /** Returns false when the faceplate accepts no connection. */
  async #call(id: string, { method, params, judge }: KnownCall, { name, host, jsonRpcPort }: Door): Promise<boolean> {
    const { versions, timeoutMs } = this.#options;
    const sentAtMs = performance.now();
    let end: CallRecord['end'];
    try {
      const { result, error } = await jsonRpc(`http://${host}:${jsonRpcPort}/rpc`, method, params);
      if (error === undefined) end = { ok: true, value: result };
      else end = { ok: false, code: codeOf(error.data?.['code']), message: error.message };
    } catch (error) {
      const { message, cause } = error as Error;
      const why = cause instanceof Error ? `${message}: ${cause.message}` : message;
      if (NOT_CONNECTED.test(why)) return false;
      end = { ok: false, code: 'lost', message: why };
    }
    const settledAtMs = performance.now();
    this.sent++;
    this.byFaceplate[name] = (this.byFaceplate[name] ?? 0) + 1;
    const code = end.ok ? 'ok' : end.code;
    this.ends[code] = (this.ends[code] ?? 0) + 1;
    if (!end.ok) {
      const lateMs = settledAtMs - sentAtMs - timeoutMs;
      const facts = { id, method, protocol: 'JSON-RPC', faceplate: name, sentAtMs, settledAtMs, lateMs, end };
      this.failures.push({ ...facts, mayHaveCrossed: code === 'lost' });
      return true;
    }
    const wrong = versions(sentAtMs, settledAtMs).map(
      (version) => `${version}: ${judge(end.ok && end.value, version)}`,
    );
    if (wrong.some((line) => line.endsWith(': '))) return true;
    const at = `from ${Math.round(sentAtMs)} to ${Math.round(settledAtMs)} ms`;
    this.wrong.push(`${method} ${JSON.stringify(params)} at ${name} ${at} has a wrong answer; ${wrong.join('; ')}`);
    return true;
  }
}

function codeOf(code: unknown): string {
  return typeof code === 'string' ? code : 'no code';
}

/** What runtimes say of a connection that was not accepted. */
const NOT_CONNECTED = /ECONNREFUSED|ConnectionRefused|Unable to connect|tcp connect error/i;
const NOT_TAKEN_MS = 50;

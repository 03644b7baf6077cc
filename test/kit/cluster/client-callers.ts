// Callers that call a mesh without pause with the client library, and check each answer. Each has a client of its own.

import { sleep } from '../../../core/mod.ts';
import { connect, type AnyService, type Mesh } from '../../../client/mod.ts';

export interface ClientCallersOptions {
  /** HOST:PORT of the Thrift ports; the callers share them. */
  readonly addresses: readonly string[];
  readonly callers: number;
  /** `wiki` */
  readonly service: string;
  /** Makes one call. Resolves to '' for a right answer, else to what is wrong. Rejects when the call fails. */
  readonly call: (service: AnyService, caller: number) => Promise<string>;
  /** Pause of a caller between two calls. */
  readonly pauseMs?: number;
  /** Each caller ends after so many calls. */
  readonly callsMax?: number;
}

export class ClientCallers {
  sent = 0;
  readonly wrong: string[] = [];
  readonly failed: string[] = [];
  readonly #options: ClientCallersOptions;
  readonly #meshes: Mesh[] = [];
  readonly #running: Promise<void>[];
  /** Times of the calls since the last look, in ms. */
  #tookMs: number[] = [];
  #isOver = false;

  /** The callers start at once. */
  constructor(options: ClientCallersOptions) {
    this.#options = options;
    this.#running = Array.from({ length: options.callers }, (_, at) => this.#run(at));
  }

  /** The 99th percentile of the times since the last look, in ms. */
  p99Ms(): number {
    const times = this.#tookMs.splice(0).sort((a, b) => a - b);
    return times[Math.floor(times.length * 0.99)] ?? 0;
  }

  /** For people. */
  get line(): string {
    return `${this.sent.toLocaleString('en-US')} calls, ${this.failed.length} failed, ${this.wrong.length} wrong`;
  }

  /** Resolves when every caller has made its calls. */
  async done(): Promise<void> {
    await Promise.all(this.#running);
  }

  /** Waits until every caller has finished its call. */
  async stop(): Promise<void> {
    this.#isOver = true;
    await this.done();
    for (const mesh of this.#meshes.splice(0)) mesh.close();
  }

  async #run(at: number): Promise<void> {
    const { addresses, service, call, pauseMs = 0, callsMax = Number.POSITIVE_INFINITY } = this.#options;
    const mesh = connect({ addresses: addresses[at % addresses.length] as string });
    this.#meshes.push(mesh);
    const client = mesh.service(service, { i64: 'number' });
    for (let calls = 0; calls < callsMax && !this.#isOver; calls++) {
      const sentAtMs = performance.now();
      try {
        const fault = await call(client, at);
        if (fault !== '') this.wrong.push(fault);
      } catch (error) {
        this.failed.push(String(error));
      }
      this.sent++;
      this.#tookMs.push(performance.now() - sentAtMs);
      if (pauseMs > 0) await sleep(pauseMs);
    }
  }
}

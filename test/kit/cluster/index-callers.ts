// Clients that call an index through faceplates without pause, by JSON-RPC, and know the right answer.

import { jsonRpc } from '../mesh/mesh.ts';

export interface IndexCallersOptions {
  /** Base URLs of the JSON-RPC ports of faceplates; the clients share them. */
  readonly urls: readonly string[];
  readonly clients: number;
  /** `wiki.total` */
  readonly method: string;
  readonly params: unknown;
  /** The right answers, as JSON. */
  readonly answers: readonly string[];
}

export class IndexCallers {
  sent = 0;
  /** Answers that are not right. */
  readonly wrong: string[] = [];
  readonly failed: string[] = [];
  readonly #options: IndexCallersOptions;
  readonly #running: Promise<void>[];
  /** Times of the calls since the last look, in ms. */
  #tookMs: number[] = [];
  #isOver = false;

  /** The clients start at once. */
  constructor(options: IndexCallersOptions) {
    this.#options = options;
    this.#running = Array.from({ length: options.clients }, (_, at) => this.#run(at));
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

  /** Waits until every client has finished its call. */
  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#running);
  }

  async #run(at: number): Promise<void> {
    const { urls, method, params, answers } = this.#options;
    const url = `${urls[at % urls.length]}/rpc`;
    while (!this.#isOver) {
      const sentAtMs = performance.now();
      try {
        const { result, error } = await jsonRpc(url, method, params);
        const text = JSON.stringify(result);
        if (error !== undefined) this.failed.push(`${String(error.data?.['code'])}: ${error.message}`);
        else if (!answers.includes(text)) this.wrong.push(text);
      } catch (error) {
        this.failed.push(String(error));
      }
      this.sent++;
      this.#tookMs.push(performance.now() - sentAtMs);
    }
  }
}

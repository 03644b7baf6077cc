// Polls the call counters of every process of a cluster at /metrics. Invariants, for each series separately: accepted
// = replied + failed + refused + timed out + cancelled + in flight at every moment; no more calls are settled than
// accepted; and nothing is in flight after the last call.
import type { ClusterProcess } from '../cluster/process.ts';
import { sleep } from '../../../core/mod.ts';
import type { Cluster } from '../cluster/cluster.ts';
import { sumOf, type Metrics } from '../mesh/metrics.ts';
import { until } from '../tools/wait.ts';

export interface Sums {
  readonly accepted: number;
  readonly replied: number;
}

export class CallCounters {
  readonly #cluster: Cluster;
  readonly #faults = new Set<string>();
  /** Number of times that the counters of a process were read. */
  read = 0;
  #running: Promise<void> | undefined;
  #isOver = false;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** Invariants that were violated. */
  get faults(): readonly string[] {
    return [...this.#faults];
  }

  /** Polls until `stop()`. */
  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#running;
  }

  /** Waits until no call is in flight anywhere. Returns what the faceplates counted of the users' calls. */
  async settled(): Promise<Sums> {
    await until(
      'nothing to be in flight',
      async () => {
        const all = await Promise.all(this.#cluster.processes.map((process) => process.metrics()));
        return all.every((metrics) =>
          FAMILIES.every((family) => sumOf(metrics, `${family}_in_flight`, OF_USERS) === 0),
        );
      },
      SETTLED_MS,
    ).catch((error: Error) => this.#faults.add(error.message));
    const sums = { accepted: 0, replied: 0 };
    for (const faceplate of this.#cluster.faceplates) {
      const metrics = await faceplate.metrics();
      sums.accepted += sumOf(metrics, 'katamari_calls_accepted_total', OF_USERS);
      sums.replied += sumOf(metrics, 'katamari_calls_total', { ...OF_USERS, outcome: 'replied' });
    }
    return sums;
  }

  async #run(): Promise<void> {
    while (!this.#isOver) {
      await Promise.all(
        this.#cluster.processes.filter(({ isRunning }) => isRunning).map((process) => this.#check(process)),
      );
      await sleep(EVERY_MS);
    }
  }

  async #check(process: ClusterProcess): Promise<void> {
    let metrics: Metrics;
    try {
      metrics = await process.metrics();
    } catch {
      // The process is starting, frozen or gone.
      return;
    }
    this.read++;
    for (const family of FAMILIES) {
      for (const { labels, value: accepted } of metrics.get(`${family}_accepted_total`) ?? []) {
        const settled = sumOf(metrics, `${family}_total`, labels);
        const inFlight = sumOf(metrics, `${family}_in_flight`, labels);
        const what = `${process.name}, ${family} of ${Object.values(labels).join(' ')}`;
        if (accepted !== settled + inFlight)
          this.#faults.add(
            `The counters of ${what} do not add up: ${accepted} accepted, ${settled} settled, ${inFlight} in flight`,
          );
        if (inFlight < 0) this.#faults.add(`The counters of ${what} have ${-inFlight} more settled than accepted`);
      }
    }
  }
}

/** Call counters of faceplates and links, and those of pools. */
const FAMILIES = ['katamari_calls', 'katamari_pool_calls'] as const;
const OF_USERS = { service: 'Tally' } as const;
const EVERY_MS = 500;
const SETTLED_MS = 30_000;

// Brings together what all processes of the mesh have counted of the calls of a service, by version. Managers are asked
// over their links. A process that is no manager tells one of them each second what has changed.

import { mustNotFail, type Clock } from '../../core/mod.ts';
import { pause } from '../consul/mod.ts';
import {
  ManagerClient,
  mergeVersionReports,
  type ObservedVersions,
  pointOf,
  type Peer,
  type VersionReport,
} from '../mesh/mod.ts';

export interface VersionObserverOptions {
  /** Name of this process. */
  readonly name: string;
  readonly clock: Clock;
  readonly peers: () => readonly Peer[];
  /** What this process knows by itself of a service; '' for all. */
  readonly own: (service: string) => readonly VersionReport[];
}

export class VersionObserver {
  readonly #options: VersionObserverOptions;
  readonly #end = new AbortController();
  /** What was told last, by service: the manager, and a text that differs when the counts do. */
  readonly #told = new Map<string, string>();

  constructor(options: VersionObserverOptions) {
    this.#options = options;
  }

  /** Asks all processes about a service. */
  async observe(service: string): Promise<ObservedVersions> {
    const { clock, peers, own } = this.#options;
    const missing: string[] = [];
    const ofPeers = await Promise.all(
      peers().map((peer) =>
        new ManagerClient(peer, clock).observations(service).catch(() => {
          missing.push(peer.name);
          return [];
        }),
      ),
    );
    return mergeVersionReports([...own(service), ...ofPeers.flat()], missing);
  }

  /** Tells a manager each second what has changed, until `close`. */
  start(): void {
    mustNotFail('telling managers what was counted', this.#run());
  }

  /** Tells what is left. */
  async drain(): Promise<void> {
    this.#end.abort();
    await this.#tell();
  }

  close(): void {
    this.#end.abort();
  }

  async #run(): Promise<void> {
    const { signal } = this.#end;
    while (!signal.aborted) {
      await pause(this.#options.clock, TELL_EVERY_MS, signal);
      if (!signal.aborted) await this.#tell();
    }
  }

  async #tell(): Promise<void> {
    const { clock, peers, own, name } = this.#options;
    const usable = peers().filter(({ isUsable }) => isUsable);
    // Faceplates spread over managers.
    const peer = usable[Math.floor(pointOf(SALT, name) * usable.length)];
    if (peer === undefined) return;
    const client = new ManagerClient(peer, clock);
    for (const report of own('')) {
      const { serviceName } = report;
      const state = `${stateOf(report, peer)} ${Math.floor(clock.nowMs() / TELL_AGAIN_MS)}`;
      if (this.#told.get(serviceName) === state) continue;
      try {
        await client.observe(withFewDifferences(report));
        this.#told.set(serviceName, state);
      } catch {
        // The link broke, or an older manager lacks the method. The next turn tells more.
        return;
      }
    }
  }
}

/** A text that differs when there is more to tell, or another manager to tell it to. */
function stateOf({ counts, outcomes, mirrors }: VersionReport, { name, address }: Peer): string {
  const calls = counts.reduce((sum, one) => sum + one.calls, 0);
  const values = outcomes.reduce((sum, one) => sum + one.count, 0);
  const copies = mirrors.counts.reduce((sum, one) => sum + one.equal + one.different + one.failed + one.skipped, 0);
  const since = counts[0]?.splitIndex ?? outcomes[0]?.splitIndex ?? 0;
  return [name, address, since, calls, values, copies].join(' ');
}

/** Each difference holds parts of two answers, so a manager keeps only the latest of other processes. */
function withFewDifferences(report: VersionReport): VersionReport {
  const { mirrors } = report;
  return { ...report, mirrors: { ...mirrors, differences: mirrors.differences.slice(-DIFFERENCES_MAX) } };
}

const TELL_EVERY_MS = 1_000;
/** A manager that has restarted knows nothing. */
const TELL_AGAIN_MS = 60_000;
const DIFFERENCES_MAX = 20;
const SALT = 'version observer';

// How long processes were ready to run and got no CPU because the machine was busy. Linux reports it for each main
// thread (/proc/PID/schedstat). A process that is frozen or busy itself does not count as starved.

import { readFileSync } from 'node:fs';

export interface Watched {
  readonly name: string;
  /** 0 while the process is stopped. It changes with a restart. */
  readonly pid: number;
}

interface Sample {
  readonly atMs: number;
  /** Sum over all its processes so far. */
  readonly waitedMs: number;
}

interface Record {
  readonly samples: Sample[];
  pid: number;
  /** Of the current process, at the last sample. */
  waitedMs: number;
}

export class Starvation {
  readonly #watched: readonly Watched[];
  readonly #records = new Map<string, Record>();
  readonly #timer: NodeJS.Timeout;

  constructor(watched: readonly Watched[]) {
    this.#watched = watched;
    this.#timer = setInterval(() => this.#look(), EVERY_MS);
  }

  /** How long the process waited for a CPU within the span, in ms. The samples cover slightly more than the span. */
  waitedMs(name: string, fromMs: number, toMs: number): number {
    const samples = this.#records.get(name)?.samples ?? [];
    const before = samples.findLast(({ atMs }) => atMs <= fromMs) ?? samples[0];
    const after = samples.find(({ atMs }) => atMs >= toMs) ?? samples.at(-1);
    return before === undefined || after === undefined ? 0 : after.waitedMs - before.waitedMs;
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const atMs = performance.now();
    for (const { name, pid } of this.#watched) {
      const waitedMs = pid === 0 ? undefined : waitOf(pid);
      if (waitedMs === undefined) continue;
      const record = this.#records.get(name) ?? { samples: [], pid, waitedMs: 0 };
      this.#records.set(name, record);
      const since = record.pid === pid ? waitedMs - record.waitedMs : waitedMs;
      record.pid = pid;
      record.waitedMs = waitedMs;
      record.samples.push({ atMs, waitedMs: (record.samples.at(-1)?.waitedMs ?? 0) + since });
    }
  }
}

/** Wait since the process started, in ms; undefined when it cannot be read. */
function waitOf(pid: number): number | undefined {
  try {
    const [, waitedNs = ''] = readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ');
    return Number(waitedNs) / 1e6;
  } catch {
    return undefined;
  }
}

const EVERY_MS = 200;

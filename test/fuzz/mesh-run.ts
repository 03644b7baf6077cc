// One run of the fuzzer against a whole mesh, and what must hold afterwards: level memory, files and CPU.

import { fuzz, type FuzzReport } from './fuzzer.ts';
import type { CanaryReport, MeshTarget, Vitals } from './mesh-target.ts';

export interface MeshRun {
  readonly report: FuzzReport;
  /** Before the first input, and after each window. */
  readonly vitals: readonly Vitals[];
  readonly canaries: CanaryReport;
  /** Share of a core that mesh and chassis use afterwards. */
  readonly restShare: number;
  readonly growth: Growth;
  /** What is not as it should be, one line each. */
  readonly violations: readonly string[];
}

/** Medians of the last third of the windows, minus medians of the second third. The first third warms up. */
export interface Growth {
  readonly heapBytes: number;
  readonly rssBytes: number;
  readonly files: number;
  readonly chassisRssBytes: number;
  readonly chassisFiles: number;
}

/**
 * Limits of the growth, of whatever number of inputs: caches are bounded, and a process at rest has the files that it
 * had. Allocators return pages late and in large pieces.
 */
const GROWTH_MAX: Growth = {
  heapBytes: 4 << 20,
  rssBytes: 48 << 20,
  files: 6,
  chassisRssBytes: 64 << 20,
  chassisFiles: 6,
};

const WINDOWS = 9;

export interface MeshRunOptions {
  readonly seed: number;
  readonly inputs: number;
  readonly only?: { readonly lane: string; readonly number: number };
  readonly onProgress?: (done: number) => void;
  readonly onWindow?: (window: number, vitals: Vitals) => void;
}

/** @throws Error when the mesh ends, or an answer is wrong, during the run */
export async function runMeshFuzz(target: MeshTarget, options: MeshRunOptions): Promise<MeshRun> {
  const vitals = [await target.vitals()];
  const canaries = target.watchCanaries();
  let report: FuzzReport;
  let seen: CanaryReport;
  try {
    report = await fuzz(target, {
      ...options,
      windows: options.only === undefined ? WINDOWS : 1,
      onWindow: async (window) => {
        const now = await target.vitals();
        vitals.push(now);
        options.onWindow?.(window, now);
      },
    });
  } finally {
    seen = await canaries.stop();
  }
  const found: string[] = [];
  const note = (error: unknown): void => void found.push((error as Error).message);
  await target.check().catch(note);
  let restShare = 1;
  await target.rest().then((share) => (restShare = share), note);
  const growth = growthOf(vitals);
  const grown = (Object.keys(GROWTH_MAX) as (keyof Growth)[])
    .filter((name) => growth[name] > GROWTH_MAX[name])
    .map((name) => `${name} grew by ${growth[name]}, limit is ${GROWTH_MAX[name]}`);
  return { report, vitals, canaries: seen, restShare, growth, violations: [...found, ...grown] };
}

function growthOf(vitals: readonly Vitals[]): Growth {
  const third = Math.floor((vitals.length - 1) / 3);
  const rise = (name: keyof Growth): number =>
    median(vitals.slice(-third).map((one) => one[name])) -
    median(vitals.slice(1 + third, 1 + 2 * third).map((one) => one[name]));
  return {
    heapBytes: rise('heapBytes'),
    rssBytes: rise('rssBytes'),
    files: rise('files'),
    chassisRssBytes: rise('chassisRssBytes'),
    chassisFiles: rise('chassisFiles'),
  };
}

function median(numbers: readonly number[]): number {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;
}

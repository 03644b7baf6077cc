// Decides how many copies of each deployment each manager runs: a pure function of desired state, managers and
// current assignment. It returns the target only; `nextStep` finds a path there that keeps capacity.
//
// Copies are distributed twice by the same rules: over machines, then over the managers of each machine. Each gets
// its share by capacity, rounded down or up. A copy that remains after rounding goes to a machine or manager that
// already runs it, so that running copies stay; otherwise to the one with the lowest excess over its share. Finally,
// such copies move from overloaded to underloaded machines or managers, so that a returning manager gets its share.
// Two or more copies are never all on one machine while there is another. A deployment with `perManager` has its copies
// on every manager instead.

import type { Deployment } from '../mesh/mod.ts';

/** A manager that can get copies. */
export interface ManagerView {
  readonly name: string;
  /** '' means a machine that no other manager shares. */
  readonly machine: string;
  /** Relative share of the copies, above 0. It is not a limit. */
  readonly capacity: number;
  /** It must run no copies. */
  readonly isDrained: boolean;
}

/** Copies by manager, then by deployment (`Service@version`). Zeros are left out. */
export type AssignedCopies = ReadonlyMap<string, ReadonlyMap<string, number>>;

/**
 * Returns the target: one entry per manager, empty if the manager runs nothing. If no manager may run copies, all
 * entries are empty. The order of the input does not matter. The function is idempotent: with the target as the
 * current assignment, it returns the same target.
 */
export function assign(
  deployments: ReadonlyMap<string, Deployment>,
  managers: readonly ManagerView[],
  current: AssignedCopies,
): Map<string, Map<string, number>> {
  const shared = [...deployments].filter(([, { perManager = false }]) => !perManager);
  const items = shared.map(([id, { count }]) => ({ id, count })).sort((a, b) => compare(a.id, b.id));
  const open = managers.filter(({ isDrained }) => !isDrained).sort((a, b) => compare(a.name, b.name));
  const machines = new Map<string, ManagerView[]>();
  for (const manager of open) {
    const onMachine = machines.get(machineOf(manager));
    if (onMachine === undefined) machines.set(machineOf(manager), [manager]);
    else onMachine.push(manager);
  }
  const names = [...machines.keys()].sort(compare);

  const bins = names.map((name) => sumOf(machines.get(name) ?? [], current));
  const byMachine = distribute(items, bins, { mustSpread: true });

  const target = new Map(managers.map(({ name }): [string, Map<string, number>] => [name, new Map()]));
  for (const [at, name] of names.entries()) {
    const onMachine = machines.get(name) ?? [];
    const share = items.map(({ id }, item) => ({ id, count: byMachine[at]?.[item] ?? 0 }));
    const managerBins = onMachine.map((manager) => ({
      capacity: manager.capacity,
      has: current.get(manager.name) ?? NO_COPIES,
    }));
    const byManager = distribute(share, managerBins, { mustSpread: false });
    for (const [row, manager] of onMachine.entries()) {
      for (const [item, { id }] of items.entries()) {
        const count = byManager[row]?.[item] ?? 0;
        if (count > 0) target.get(manager.name)?.set(id, count);
      }
    }
  }
  for (const [id, { count, perManager = false }] of deployments) {
    if (perManager && count > 0) for (const { name } of open) target.get(name)?.set(id, count);
  }
  return target;
}

/** A machine or a manager. */
interface Bin {
  readonly capacity: number;
  /** Current copies by deployment. */
  readonly has: ReadonlyMap<string, number>;
}

interface Placement {
  readonly id: string;
  readonly count: number;
}

const NO_COPIES: ReadonlyMap<string, number> = new Map();
/** Shares are sums of fractions. Smaller differences are rounding errors. */
const EPSILON = 1e-9;

/** Distributes items over bins. Returns counts by bin, then item. */
function distribute(
  items: readonly Placement[],
  bins: readonly Bin[],
  rule: { readonly mustSpread: boolean },
): number[][] {
  const counts = bins.map(() => items.map(() => 0));
  if (bins.length === 0) return counts;
  const capacity = bins.reduce((sum, bin) => sum + bin.capacity, 0);
  const bounds = items.map(({ count }) =>
    bins.map((bin) => boundsOf(count, bin.capacity / capacity, bins.length, rule)),
  );
  /** Copies that each bin has above its share, over all items. */
  const excess = bins.map((bin) => -items.reduce((sum, { count }) => sum + (count * bin.capacity) / capacity, 0));
  const give = (bin: number, item: number, by: number): void => {
    (counts[bin] as number[])[item] = countAt(counts, bin, item) + by;
    excess[bin] = (excess[bin] as number) + by;
  };

  // Give each bin its guaranteed minimum. Give the rest to bins that already have a copy, then to any bin, in both
  // cases to the one with the lowest excess.
  const remaining = items.map(({ count }, item) => {
    for (const bin of bins.keys()) give(bin, item, minOf(bounds, item, bin));
    return count - bins.reduce((sum, _, bin) => sum + countAt(counts, bin, item), 0);
  });
  const isOpen = (bin: number, item: number): boolean => countAt(counts, bin, item) < maxOf(bounds, item, bin);
  const assignRest = (isEligible: (bin: number, item: number) => boolean): void => {
    for (const item of items.keys()) {
      while ((remaining[item] as number) > 0) {
        const fit = [...bins.keys()].filter((bin) => isOpen(bin, item) && isEligible(bin, item));
        const best = lowestBy(fit, (bin) => excess[bin] as number);
        if (best === undefined) break;
        give(best, item, 1);
        remaining[item] = (remaining[item] as number) - 1;
      }
    }
  };
  assignRest((bin, item) => (bins[bin]?.has.get(items[item]?.id ?? '') ?? 0) > countAt(counts, bin, item));
  assignRest(() => true);

  for (let next = nextMove(items, bounds, counts, excess); next; next = nextMove(items, bounds, counts, excess)) {
    give(next.from, next.item, -1);
    give(next.to, next.item, 1);
  }
  return counts;
}

interface Bounds {
  readonly min: number;
  readonly max: number;
}

function boundsOf(
  count: number,
  fraction: number,
  bins: number,
  { mustSpread }: { readonly mustSpread: boolean },
): Bounds {
  const share = count * fraction;
  const max = Math.ceil(share - EPSILON);
  const min = Math.floor(share + EPSILON);
  const limit = mustSpread && count > 1 && bins > 1 ? count - 1 : count;
  return { min: Math.min(min, limit), max: Math.min(Math.max(max, min), limit) };
}

/**
 * Returns the next copy to move from an overloaded to an underloaded bin. Each move makes the loads more equal, so
 * the loop terminates.
 */
function nextMove(
  items: readonly Placement[],
  bounds: readonly (readonly Bounds[])[],
  counts: readonly (readonly number[])[],
  excess: readonly number[],
): { from: number; to: number; item: number } | undefined {
  const byExcess = [...excess.keys()].sort((a, b) => (excess[a] as number) - (excess[b] as number) || a - b);
  const lowest = excess[byExcess[0] ?? 0] ?? 0;
  for (const from of byExcess.toReversed()) {
    const highest = excess[from] as number;
    if (highest - lowest <= 1 + EPSILON) return undefined;
    for (const to of byExcess) {
      if (highest - (excess[to] as number) <= 1 + EPSILON) break;
      const item = [...items.keys()].find(
        (one) =>
          countAt(counts, from, one) > minOf(bounds, one, from) && countAt(counts, to, one) < maxOf(bounds, one, to),
      );
      if (item !== undefined) return { from, to, item };
    }
  }
  return undefined;
}

function countAt(counts: readonly (readonly number[])[], bin: number, item: number): number {
  return counts[bin]?.[item] ?? 0;
}

function minOf(bounds: readonly (readonly Bounds[])[], item: number, bin: number): number {
  return bounds[item]?.[bin]?.min ?? 0;
}

function maxOf(bounds: readonly (readonly Bounds[])[], item: number, bin: number): number {
  return bounds[item]?.[bin]?.max ?? 0;
}

/** Returns the first candidate with the lowest value. Differences below EPSILON count as equal. */
function lowestBy(candidates: readonly number[], valueOf: (candidate: number) => number): number | undefined {
  let best: number | undefined;
  for (const candidate of candidates) {
    if (best === undefined || valueOf(candidate) < valueOf(best) - EPSILON) best = candidate;
  }
  return best;
}

function sumOf(managers: readonly ManagerView[], current: AssignedCopies): Bin {
  const has = new Map<string, number>();
  for (const { name } of managers) {
    for (const [id, count] of current.get(name) ?? NO_COPIES) has.set(id, (has.get(id) ?? 0) + count);
  }
  return { capacity: managers.reduce((sum, manager) => sum + manager.capacity, 0), has };
}

/**
 * Returns the key of a machine. A manager without a machine name gets a key of its own; the leading space cannot
 * occur in a name.
 */
function machineOf({ name, machine }: ManagerView): string {
  return machine === '' ? ` ${name}` : machine;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

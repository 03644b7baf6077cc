// Which manager runs how many copies of each deployment: a pure function of what is wanted, who is there and who has
// what now. It decides the target only; how to get there without losing capacity is `nextStep`.
//
// Copies are shared out twice by the same rules, first over machines, then over the managers of each machine.
// Everyone gets its share by capacity, rounded down or up. Who gets the copy that is left over: whoever has it
// already (a copy that works stays where it is), else whoever has the least altogether. At last copies that were left
// over move from those with too many altogether to those with too few, which is how a manager that comes back gets
// its share. Two copies or more are never on one machine alone while there is another.

import type { Deployment } from '../mesh/mod.ts';

/** A manager that is there. */
export interface ManagerView {
  readonly name: string;
  /** '' stands for a machine of its own. */
  readonly machine: string;
  /** Relative share, above 0; no limit. */
  readonly capacity: number;
  /** It is to run nothing. */
  readonly isDrained: boolean;
}

/** Copies by manager, then by deployment (`Service@version`); no zeros. */
export type AssignedCopies = ReadonlyMap<string, ReadonlyMap<string, number>>;

/**
 * The target. Each manager that is there has an entry, an empty one when it is to run nothing; with no manager that
 * may run something nothing is assigned. The order of what is given never matters, and a target is its own target.
 */
export function assign(
  deployments: ReadonlyMap<string, Deployment>,
  managers: readonly ManagerView[],
  current: AssignedCopies,
): Map<string, Map<string, number>> {
  const items = [...deployments].map(([id, { count }]) => ({ id, count })).sort((a, b) => compare(a.id, b.id));
  const open = managers.filter(({ isDrained }) => !isDrained).sort((a, b) => compare(a.name, b.name));
  const machines = new Map<string, ManagerView[]>();
  for (const manager of open) {
    const here = machines.get(machineOf(manager));
    if (here === undefined) machines.set(machineOf(manager), [manager]);
    else here.push(manager);
  }
  const names = [...machines.keys()].sort(compare);

  const bins = names.map((name) => sumOf(machines.get(name) ?? [], current));
  const byMachine = shareOut(items, bins, { isApart: true });

  const target = new Map(managers.map(({ name }): [string, Map<string, number>] => [name, new Map()]));
  for (const [at, name] of names.entries()) {
    const here = machines.get(name) ?? [];
    const share = items.map(({ id }, item) => ({ id, count: byMachine[at]?.[item] ?? 0 }));
    const own = here.map((manager) => ({ capacity: manager.capacity, has: current.get(manager.name) ?? NOTHING }));
    const byManager = shareOut(share, own, { isApart: false });
    for (const [row, manager] of here.entries()) {
      for (const [item, { id }] of items.entries()) {
        const count = byManager[row]?.[item] ?? 0;
        if (count > 0) target.get(manager.name)?.set(id, count);
      }
    }
  }
  return target;
}

/** A machine or a manager, as the sharing out sees it. */
interface Bin {
  readonly capacity: number;
  /** What it has now, by deployment. */
  readonly has: ReadonlyMap<string, number>;
}

interface Placement {
  readonly id: string;
  readonly count: number;
}

const NOTHING: ReadonlyMap<string, number> = new Map();
/** Shares are sums of fractions; what differs by less than this is equal. */
const EPSILON = 1e-9;

/** Counts by bin, then item. */
function shareOut(items: readonly Placement[], bins: readonly Bin[], rule: { readonly isApart: boolean }): number[][] {
  const counts = bins.map(() => items.map(() => 0));
  if (bins.length === 0) return counts;
  const capacity = bins.reduce((sum, bin) => sum + bin.capacity, 0);
  const bounds = items.map(({ count }) =>
    bins.map((bin) => boundsOf(count, bin.capacity / capacity, bins.length, rule)),
  );
  /** How much more than its share each bin has, in copies, all items together. */
  const excess = bins.map((bin) => -items.reduce((sum, { count }) => sum + (count * bin.capacity) / capacity, 0));
  const give = (bin: number, item: number, by: number): void => {
    (counts[bin] as number[])[item] = countAt(counts, bin, item) + by;
    excess[bin] = (excess[bin] as number) + by;
  };

  // What everyone gets in any case, then what is left over to those who have it, of several to those with the least
  // of all.
  const left = items.map(({ count }, item) => {
    for (const bin of bins.keys()) give(bin, item, leastOf(bounds, item, bin));
    return count - bins.reduce((sum, _, bin) => sum + countAt(counts, bin, item), 0);
  });
  const isOpen = (bin: number, item: number): boolean => countAt(counts, bin, item) < mostOf(bounds, item, bin);
  const handOut = (isFor: (bin: number, item: number) => boolean): void => {
    for (const item of items.keys()) {
      while ((left[item] as number) > 0) {
        const fit = [...bins.keys()].filter((bin) => isOpen(bin, item) && isFor(bin, item));
        const best = leastBy(fit, (bin) => excess[bin] as number);
        if (best === undefined) break;
        give(best, item, 1);
        left[item] = (left[item] as number) - 1;
      }
    }
  };
  handOut((bin, item) => (bins[bin]?.has.get(items[item]?.id ?? '') ?? 0) > countAt(counts, bin, item));
  handOut(() => true);

  for (let next = moveOf(items, bounds, counts, excess); next; next = moveOf(items, bounds, counts, excess)) {
    give(next.from, next.item, -1);
    give(next.to, next.item, 1);
  }
  return counts;
}

interface Bounds {
  readonly least: number;
  readonly most: number;
}

function boundsOf(count: number, fraction: number, bins: number, { isApart }: { readonly isApart: boolean }): Bounds {
  const share = count * fraction;
  const most = Math.ceil(share - EPSILON);
  const least = Math.floor(share + EPSILON);
  const limit = isApart && count > 1 && bins > 1 ? count - 1 : count;
  return { least: Math.min(least, limit), most: Math.min(Math.max(most, least), limit) };
}

/**
 * The next copy to move from a bin with too many altogether to one with too few; each move makes the loads more
 * alike, so they end.
 */
function moveOf(
  items: readonly Placement[],
  bounds: readonly (readonly Bounds[])[],
  counts: readonly (readonly number[])[],
  excess: readonly number[],
): { from: number; to: number; item: number } | undefined {
  const byExcess = [...excess.keys()].sort((a, b) => (excess[a] as number) - (excess[b] as number) || a - b);
  const lightest = excess[byExcess[0] ?? 0] ?? 0;
  for (const from of byExcess.toReversed()) {
    const heavy = excess[from] as number;
    if (heavy - lightest <= 1 + EPSILON) return undefined;
    for (const to of byExcess) {
      if (heavy - (excess[to] as number) <= 1 + EPSILON) break;
      const item = [...items.keys()].find(
        (one) =>
          countAt(counts, from, one) > leastOf(bounds, one, from) && countAt(counts, to, one) < mostOf(bounds, one, to),
      );
      if (item !== undefined) return { from, to, item };
    }
  }
  return undefined;
}

function countAt(counts: readonly (readonly number[])[], bin: number, item: number): number {
  return counts[bin]?.[item] ?? 0;
}

function leastOf(bounds: readonly (readonly Bounds[])[], item: number, bin: number): number {
  return bounds[item]?.[bin]?.least ?? 0;
}

function mostOf(bounds: readonly (readonly Bounds[])[], item: number, bin: number): number {
  return bounds[item]?.[bin]?.most ?? 0;
}

/** The first of those with the least; sums that differ by a rounding error only are equal. */
function leastBy(candidates: readonly number[], valueOf: (candidate: number) => number): number | undefined {
  let best: number | undefined;
  for (const candidate of candidates) {
    if (best === undefined || valueOf(candidate) < valueOf(best) - EPSILON) best = candidate;
  }
  return best;
}

function sumOf(managers: readonly ManagerView[], current: AssignedCopies): Bin {
  const has = new Map<string, number>();
  for (const { name } of managers) {
    for (const [id, count] of current.get(name) ?? NOTHING) has.set(id, (has.get(id) ?? 0) + count);
  }
  return { capacity: managers.reduce((sum, manager) => sum + manager.capacity, 0), has };
}

/** A machine without a name is its manager's alone; the space keeps it apart from those that have one. */
function machineOf({ name, machine }: ManagerView): string {
  return machine === '' ? ` ${name}` : machine;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

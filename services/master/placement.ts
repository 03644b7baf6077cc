// Decides which manager holds which shards: a pure function of indices, managers and what they hold now. Shards stay
// where they are. A missing replica goes to another machine if there is one, then to a manager that has the files, then
// to the emptiest. Shards move only while none is missing, one at a time into each manager. A holder gives a shard up
// when enough others serve it. An index that is pinned goes to the named managers only; others keep what they serve of
// it until these serve it.

import { isVersionMatch } from '../mesh/mod.ts';

/** The content service of an index, and the SemVer range of its versions; '' for any. */
export interface ContentChoice {
  readonly contentService: string;
  readonly contentRange: string;
}

export interface IndexToPlace extends ContentChoice {
  /** `name@version` */
  readonly id: string;
  /** Wanted replicas of each shard. */
  readonly replicas: number;
  /** Bytes of each shard, by place. */
  readonly shardBytes: readonly number[];
  /** Names of the only managers that may hold its shards; empty for any. */
  readonly pinnedTo: ReadonlySet<string>;
}

/** A manager that can hold shards. */
export interface ShardManager {
  readonly name: string;
  /** '' means a machine that no other manager shares. */
  readonly machine: string;
  /** Relative share of the bytes, above 0. */
  readonly capacity: number;
  /** It must hold no shards. */
  readonly isDrained: boolean;
  /** Bytes that it can still fetch. */
  readonly freeBytes: number;
  /** Services of which it runs copies. */
  readonly pools: readonly { readonly service: string; readonly version: string }[];
}

/** Places of shards by manager, then by index. */
export type ShardPlaces = ReadonlyMap<string, ReadonlyMap<string, ReadonlySet<number>>>;

export interface PlacementInput {
  readonly indices: readonly IndexToPlace[];
  readonly managers: readonly ShardManager[];
  /** What the managers are ordered to hold. */
  readonly ordered: ShardPlaces;
  readonly serving: ShardPlaces;
  /** Shards whose files are on the disk of a manager. */
  readonly onDisk: ShardPlaces;
  /** Whether a shard has failed on a manager so that it must not be placed there for a while. */
  readonly isAvoided: (manager: string, index: string, place: number) => boolean;
  /** Whether a manager without a copy of the content service is to keep the shards that it holds for a while. */
  readonly mayReturn: (manager: string, index: IndexToPlace) => boolean;
}

export interface ShardPlacement {
  /** The orders: one entry for each manager, empty when it holds nothing. */
  readonly orders: Map<string, Map<string, Set<number>>>;
  /** Why an index lacks replicas, for people; by index. */
  readonly conditions: Map<string, string[]>;
}

/**
 * Returns what each manager is to hold. The order of the input does not matter. The function is idempotent while
 * nothing changes in what is served.
 */
export function placeShards(input: PlacementInput): ShardPlacement {
  return new ShardPlacer(input).place();
}

/** A manager with what it is to hold. */
interface Holder {
  readonly manager: ShardManager;
  readonly machine: string;
  readonly held: Map<string, Set<number>>;
  bytes: number;
  freeBytes: number;
  /** Shards that it is to hold and does not serve yet. */
  getting: number;
}

class ShardPlacer {
  readonly #input: PlacementInput;
  readonly #bins: readonly Holder[];
  readonly #conditions = new Map<string, string[]>();
  /** Managers that may get shards of an index. */
  readonly #openFor = new Map<IndexToPlace, ReadonlySet<Holder>>();
  /** Some shard has fewer serving replicas than wanted. */
  #isIncomplete = false;

  constructor(input: PlacementInput) {
    this.#input = input;
    this.#bins = [...input.managers]
      .sort((a, b) => compare(a.name, b.name))
      .map((manager) => ({
        manager,
        machine: manager.machine === '' ? `manager ${manager.name}` : `machine ${manager.machine}`,
        held: new Map(),
        bytes: 0,
        freeBytes: manager.freeBytes,
        getting: 0,
      }));
  }

  place(): ShardPlacement {
    const indices = [...this.#input.indices]
      .sort((a, b) => compare(a.id, b.id))
      .map((index) => this.#withinPins(index));
    const holders = new Map(indices.map((index) => [index.id, this.#keep(index)]));
    for (const index of indices) this.#addMissing(index, holders.get(index.id) as Holder[][]);
    for (const index of indices) this.#dropSurplus(index, holders.get(index.id) as Holder[][]);
    if (!this.#isIncomplete) this.#balance(indices, holders);
    const orders = new Map(this.#bins.map(({ manager, held }) => [manager.name, held]));
    return { orders, conditions: this.#conditions };
  }

  /** Wants no more replicas than there are managers that the index is pinned to. */
  #withinPins(index: IndexToPlace): IndexToPlace {
    const { replicas, pinnedTo } = index;
    if (pinnedTo.size === 0 || pinnedTo.size >= replicas) return index;
    this.#condition(index, `${replicas} replicas are wanted, and it is pinned to ${pinsText(pinnedTo)}`);
    return { ...index, replicas: pinnedTo.size };
  }

  /** Keeps the present orders. Returns the holders of each shard. */
  #keep(index: IndexToPlace): Holder[][] {
    const holders: Holder[][] = index.shardBytes.map(() => []);
    for (const bin of this.#bins) {
      for (const place of this.#input.ordered.get(bin.manager.name)?.get(index.id) ?? []) {
        const bytes = index.shardBytes[place];
        const isLost = !this.#isServing(bin, index, place) && !this.#mayKeep(bin, index);
        if (bytes === undefined || isLost) continue;
        this.#give(bin, index, place, this.#isServing(bin, index, place));
        (holders[place] as Holder[]).push(bin);
      }
    }
    return holders;
  }

  /** Whether the shard has failed on this holder, which keeps it until another manager takes it. */
  #isFailing(bin: Holder, index: IndexToPlace, place: number): boolean {
    return !this.#isServing(bin, index, place) && this.#input.isAvoided(bin.manager.name, index.id, place);
  }

  #addMissing(index: IndexToPlace, holders: Holder[][]): void {
    const open = this.#bins.filter((bin) => this.#isOpen(bin, index));
    if (open.length === 0 && (index.pinnedTo.size > 0 || holders.every((own) => own.length === 0)))
      this.#condition(index, this.#noManagerText(index));
    const missing = holders
      .map((own, place) => ({
        place,
        good: own.filter((bin) => this.#mayKeep(bin, index) && !this.#isFailing(bin, index, place)),
      }))
      .filter(({ good }) => good.length < index.replicas)
      // Those with the fewest holders first.
      .sort((a, b) => a.good.length - b.good.length || a.place - b.place);
    let unplaced = 0;
    for (const { place, good } of missing) {
      for (let count = good.length; count < index.replicas; count++) {
        const chosen = this.#choose(index, place, open, holders[place] as Holder[]);
        if (chosen === undefined) {
          unplaced++;
          break;
        }
        this.#give(chosen, index, place, false);
        (holders[place] as Holder[]).push(chosen);
      }
    }
    const isShort = holders.some((own, place) => {
      const serving = own.filter((bin) => this.#mayKeep(bin, index) && this.#isServing(bin, index, place));
      return serving.length < index.replicas;
    });
    if (isShort) this.#isIncomplete = true;
    if (unplaced > 0 && open.length > 0) this.#condition(index, this.#tooFewText(index, open.length, unplaced));
  }

  /** The manager for one more replica; undefined when there is none. */
  #choose(index: IndexToPlace, place: number, open: readonly Holder[], holders: readonly Holder[]): Holder | undefined {
    const bytes = index.shardBytes[place] as number;
    const machines = new Set(holders.filter((bin) => this.#mayKeep(bin, index)).map(({ machine }) => machine));
    let best: Holder | undefined;
    let bestRank: readonly number[] = [];
    for (const bin of open) {
      if (holders.includes(bin) || this.#input.isAvoided(bin.manager.name, index.id, place)) continue;
      const isHere = this.#isHere(bin, index, place);
      if (!isHere && bin.freeBytes < bytes) continue;
      const rank = [machines.has(bin.machine) ? 1 : 0, isHere ? 0 : 1, loadOf(bin)];
      if (best === undefined || compareRanks(rank, bestRank) < 0) [best, bestRank] = [bin, rank];
    }
    return best;
  }

  /** Takes shards from holders that are not needed, once enough others serve them. */
  #dropSurplus(index: IndexToPlace, holders: Holder[][]): void {
    for (const [place, own] of holders.entries()) {
      if (own.length <= index.replicas && own.every((bin) => this.#mayKeep(bin, index))) continue;
      const kept = this.#best(index, place, own);
      const serving = kept.filter((bin) => this.#isServing(bin, index, place)).length;
      // Only serving holders count: dropping others takes nothing from callers.
      const needed = Math.min(index.replicas, own.filter((bin) => this.#isServing(bin, index, place)).length);
      for (const bin of own) {
        if (kept.includes(bin)) continue;
        if (this.#isServing(bin, index, place) ? serving < needed : this.#isReturning(bin, index, place)) continue;
        this.#take(bin, index, place);
      }
      holders[place] = own.filter((bin) => bin.held.get(index.id)?.has(place) === true);
    }
  }

  /**
   * Whether a holder does not serve the shard yet and needs no bytes for it. It may have been away for a while, and is
   * counted once it serves.
   */
  #isReturning(bin: Holder, index: IndexToPlace, place: number): boolean {
    return this.#mayKeep(bin, index) && this.#isHere(bin, index, place) && !this.#isFailing(bin, index, place);
  }

  /** The holders that are to stay: on different machines, serving, with the files, and then the emptiest. */
  #best(index: IndexToPlace, place: number, own: readonly Holder[]): readonly Holder[] {
    const left = own.filter((bin) => this.#mayKeep(bin, index));
    const kept: Holder[] = [];
    while (kept.length < index.replicas && left.length > 0) {
      const rankOf = (bin: Holder): readonly number[] => [
        kept.some(({ machine }) => machine === bin.machine) ? 1 : 0,
        this.#isFailing(bin, index, place) ? 1 : 0,
        this.#isServing(bin, index, place) ? 0 : 1,
        this.#isHere(bin, index, place) ? 0 : 1,
        loadOf(bin),
      ];
      left.sort((a, b) => compareRanks(rankOf(a), rankOf(b)));
      kept.push(left.shift() as Holder);
    }
    return kept;
  }

  /**
   * Adds one more holder in an emptier manager. When it serves, the fuller one gives the shard up. Until then every
   * pass makes the same move again: it was dropped as surplus before.
   */
  #balance(indices: readonly IndexToPlace[], holders: ReadonlyMap<string, readonly Holder[][]>): void {
    const byLoad = this.#bins.filter(({ manager }) => !manager.isDrained).sort((a, b) => loadOf(a) - loadOf(b));
    // Moves that have begun go on.
    this.#moveAll(indices, holders, byLoad, true);
    // A move changes loads, so that another one may be due. Each manager gets one shard at most, so this ends.
    while (this.#moveAll(indices, holders, byLoad, false));
  }

  /** Returns whether a shard moves. */
  #moveAll(
    indices: readonly IndexToPlace[],
    holders: ReadonlyMap<string, readonly Holder[][]>,
    byLoad: readonly Holder[],
    hasBegun: boolean,
  ): boolean {
    let isMoving = false;
    for (const to of byLoad) {
      if (to.getting > 0) continue;
      for (const from of byLoad.toReversed()) {
        if (loadOf(from) <= loadOf(to) * UNEVEN_RATIO) break;
        if (!this.#moveOne(indices, holders, from, to, hasBegun)) continue;
        isMoving = true;
        break;
      }
    }
    return isMoving;
  }

  #moveOne(
    indices: readonly IndexToPlace[],
    holders: ReadonlyMap<string, readonly Holder[][]>,
    from: Holder,
    to: Holder,
    hasBegun: boolean,
  ): boolean {
    for (const index of indices) {
      if (!this.#isOpen(to, index)) continue;
      const ordered = this.#input.ordered.get(to.manager.name)?.get(index.id);
      for (const place of [...(from.held.get(index.id) ?? [])].sort((a, b) => a - b)) {
        if (hasBegun && ordered?.has(place) !== true) continue;
        const own = holders.get(index.id)?.[place] as Holder[];
        const bytes = index.shardBytes[place] as number;
        const gain = loadOf(from) - (to.bytes + bytes) / to.manager.capacity;
        // `from` must not become emptier than `to`, or the next pass would undo the move.
        if (gain < bytes / from.manager.capacity || own.length > index.replicas || own.includes(to)) continue;
        if (own.some((bin) => bin !== from && bin.machine === to.machine)) continue;
        if (to.freeBytes < bytes || this.#input.isAvoided(to.manager.name, index.id, place)) continue;
        this.#give(to, index, place, false);
        own.push(to);
        return true;
      }
    }
    return false;
  }

  #give(bin: Holder, index: IndexToPlace, place: number, isServing: boolean): void {
    const bytes = index.shardBytes[place] as number;
    const held = bin.held.get(index.id);
    if (held === undefined) bin.held.set(index.id, new Set([place]));
    else held.add(place);
    bin.bytes += bytes;
    if (isServing) return;
    bin.getting++;
    if (!this.#isHere(bin, index, place)) bin.freeBytes -= bytes;
  }

  #take(bin: Holder, index: IndexToPlace, place: number): void {
    const held = bin.held.get(index.id);
    held?.delete(place);
    if (held?.size === 0) bin.held.delete(index.id);
    const bytes = index.shardBytes[place] as number;
    bin.bytes -= bytes;
    if (this.#isServing(bin, index, place)) return;
    bin.getting--;
    if (!this.#isHere(bin, index, place)) bin.freeBytes += bytes;
  }

  #isServing({ manager }: Holder, { id }: IndexToPlace, place: number): boolean {
    return this.#input.serving.get(manager.name)?.get(id)?.has(place) === true;
  }

  /** Whether the files of the shard are on the disk of the manager. */
  #isHere({ manager }: Holder, { id }: IndexToPlace, place: number): boolean {
    return this.#input.onDisk.get(manager.name)?.get(id)?.has(place) === true;
  }

  /** Whether the manager may hold the shards of the index that it holds. */
  #mayKeep(bin: Holder, index: IndexToPlace): boolean {
    if (this.#isOpen(bin, index)) return true;
    const { name, isDrained } = bin.manager;
    return !isDrained && isAllowed(name, index) && this.#input.mayReturn(name, index);
  }

  /** Whether the manager may get shards of the index: it has a copy of its content service. */
  #isOpen(bin: Holder, index: IndexToPlace): boolean {
    let open = this.#openFor.get(index);
    if (open === undefined) {
      open = new Set(
        this.#bins.filter(
          ({ manager: { name, isDrained, pools } }) =>
            !isDrained && isAllowed(name, index) && hasContentService(pools, index),
        ),
      );
      this.#openFor.set(index, open);
    }
    return open.has(bin);
  }

  #condition({ id }: IndexToPlace, text: string): void {
    const texts = this.#conditions.get(id);
    if (texts === undefined) this.#conditions.set(id, [text]);
    else texts.push(text);
  }

  #noManagerText({ contentService, contentRange, pinnedTo }: IndexToPlace): string {
    const what = contentRange === '' ? contentService : `${contentService}@${contentRange}`;
    if (pinnedTo.size > 0)
      return (
        `it is pinned to ${pinsText(pinnedTo)}, and none of them that is not drained has a copy of the content ` +
        `service ${what}; start one there, or change the pin`
      );
    const drained = this.#bins.filter(({ manager }) => manager.isDrained).length;
    const hint = drained > 0 && drained === this.#bins.length ? 'all managers are drained' : 'deploy it';
    return `no manager has a copy of the content service ${what}; ${hint}`;
  }

  #tooFewText({ replicas, shardBytes, pinnedTo }: IndexToPlace, managers: number, unplaced: number): string {
    if (managers < replicas) {
      const have = `${managers} ${managers === 1 ? 'manager has' : 'managers have'} the content service`;
      const of = pinnedTo.size === 0 ? '' : ` of those that it is pinned to: ${pinsText(pinnedTo)}`;
      return `${replicas} replicas are wanted, and ${have}${of}`;
    }
    return `${unplaced} of ${shardBytes.length} shards lack a manager for a replica: free disk space, or see why they failed`;
  }
}

/** Whether one of the pools is a version of the content service. */
export function hasContentService(
  pools: ShardManager['pools'],
  { contentService, contentRange }: ContentChoice,
): boolean {
  return pools.some(({ service, version }) => service === contentService && isVersionMatch(version, contentRange));
}

/** Whether an index may be on a manager of this name. */
export function isAllowed(manager: string, { pinnedTo }: Pick<IndexToPlace, 'pinnedTo'>): boolean {
  return pinnedTo.size === 0 || pinnedTo.has(manager);
}

/** `2 managers (m1, m2)` */
function pinsText(pinnedTo: ReadonlySet<string>): string {
  const names = [...pinnedTo].sort(compare);
  const shown = names.length > NAMES_SHOWN_MAX ? [...names.slice(0, NAMES_SHOWN_MAX), '...'] : names;
  return `${names.length} ${names.length === 1 ? 'manager' : 'managers'} (${shown.join(', ')})`;
}

function loadOf({ bytes, manager }: Holder): number {
  return bytes / manager.capacity;
}

function compareRanks(a: readonly number[], b: readonly number[]): number {
  for (const [at, rank] of a.entries()) {
    const difference = rank - (b[at] as number);
    if (difference !== 0) return difference;
  }
  return 0;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** A manager is too full beside another one when its load is more than this times as large. */
const UNEVEN_RATIO = 1.1;
const NAMES_SHOWN_MAX = 10;

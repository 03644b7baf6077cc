// Documents that match, from the postings of single words. A query of words with AND, OR and NOT needs nothing else,
// and the postings are read for the scores anyway and kept. Phrases and prefixes are left to FTS5. Sets are places in
// ascending order.

/** A query whose leaves are terms. */
export type SetTree<Leaf> =
  | { readonly kind: 'leaf'; readonly leaf: Leaf }
  | { readonly kind: 'both'; readonly all: readonly SetTree<Leaf>[]; readonly none: readonly SetTree<Leaf>[] }
  | { readonly kind: 'either'; readonly any: readonly SetTree<Leaf>[] };

/**
 * The documents that match a tree.
 * @param setOf the documents of a leaf; undefined when the time is up
 * @returns undefined when the time is up
 */
export function setOfTree<Leaf>(
  tree: SetTree<Leaf>,
  setOf: (leaf: Leaf) => Uint32Array | undefined,
): Uint32Array | undefined {
  if (tree.kind === 'leaf') return setOf(tree.leaf);
  const sets = (trees: readonly SetTree<Leaf>[]): Uint32Array[] | undefined => {
    const found: Uint32Array[] = [];
    for (const one of trees) {
      const set = setOfTree(one, setOf);
      if (set === undefined) return undefined;
      found.push(set);
    }
    return found;
  };
  if (tree.kind === 'either') {
    const any = sets(tree.any);
    return any === undefined ? undefined : union(any);
  }
  const [all, none] = [sets(tree.all), sets(tree.none)];
  if (all === undefined || none === undefined) return undefined;
  // From the smallest set, so that the work is no more than that of the others.
  const [first = EMPTY, ...others] = all.sort((a, b) => a.length - b.length);
  let kept = first;
  for (const other of others) kept = filtered(kept, other, true);
  for (const other of none) kept = filtered(kept, other, false);
  return kept;
}

/** In halves, so that many small sets are not merged into a large one again and again. */
function union(sets: readonly Uint32Array[]): Uint32Array {
  if (sets.length < 2) return sets[0] ?? EMPTY;
  const half = sets.length >> 1;
  const [a, b] = [union(sets.slice(0, half)), union(sets.slice(half))];
  const merged = new Uint32Array(a.length + b.length);
  let [i, j, used] = [0, 0, 0];
  while (i < a.length && j < b.length) {
    const one = a[i] as number;
    const other = b[j] as number;
    if (one <= other) {
      merged[used++] = one;
      i++;
      if (one === other) j++;
    } else {
      merged[used++] = other;
      j++;
    }
  }
  merged.set(a.subarray(i), used);
  used += a.length - i;
  merged.set(b.subarray(j), used);
  used += b.length - j;
  return merged.subarray(0, used);
}

/** The places of `set` that are in `other`, or those that are not. */
function filtered(set: Uint32Array, other: Uint32Array, isIn: boolean): Uint32Array {
  const kept = new Uint32Array(set.length);
  let used = 0;
  let j = 0;
  for (const place of set) {
    // Steps that double jump over long runs of `other`.
    for (let step = 1; j + step < other.length && (other[j + step] as number) <= place; step *= 2) j += step;
    while (j < other.length && (other[j] as number) < place) j++;
    if ((other[j] === place) === isIn) kept[used++] = place;
  }
  return kept.subarray(0, used);
}

const EMPTY = new Uint32Array(0);

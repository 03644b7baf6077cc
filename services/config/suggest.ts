// "Did you mean": finds the known name that is closest to a misspelled one. Two swapped letters count as one edit.

/**
 * Returns the closest candidate, or undefined when none is similar enough. A word of at least three letters also
 * matches the only candidate that begins with it.
 */
function suggest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(word.length * 0.4)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  if (best !== undefined || word.length < 3) return best;
  const completions = [...candidates].filter((candidate) => candidate.toLowerCase().startsWith(word.toLowerCase()));
  return completions.length === 1 ? completions[0] : undefined;
}

/** Returns `, did you mean "count"?`, or '' when no candidate is similar. */
export function didYouMean(word: string, candidates: Iterable<string>): string {
  const closest = suggest(word, candidates);
  return closest === undefined ? '' : `, did you mean "${closest}"?`;
}

/** Returns the edit distance with swaps of neighbors (optimal string alignment). */
function editDistance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 8 || a.length > 64) return Number.MAX_SAFE_INTEGER;
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  const at = (i: number, j: number): number => rows[i]?.[j] ?? 0;
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    rows.push(row);
    for (let j = 1; j <= b.length; j++) {
      const change = a[i - 1] === b[j - 1] ? 0 : 1;
      let least = Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, at(i - 1, j - 1) + change);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, at(i - 2, j - 2) + 1);
      row.push(least);
    }
  }
  return at(a.length, b.length);
}

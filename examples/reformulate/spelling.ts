// Two spellers over one word list. The first generates all words with one edit and keeps the known ones. The second
// finds all words with up to two edits and ranks them by the probability of the error and the frequency of the word.
//
// The second needs no deletion index, which for 100,000 words takes seconds and 100 MB to build. Instead each word
// has a signature, one bit for each letter in it. One edit removes at most one letter and adds at most one, so a
// word with three letters that the other lacks is more than two edits away. Few candidates remain, and finding them
// takes less than a millisecond.
import { lazily } from './words.ts';
import type { WordList } from './words.ts';

export interface Suggestion {
  readonly word: string;
  readonly distance: number;
  /** 0 to 1; higher is better. */
  readonly score: number;
}

/** Returns suggestions for `word` (in normal form), best first; none if it is a known word. */
export type Speller = (word: string, limit: number) => Suggestion[];

/** Version 1: one edit; common words first. */
export function oneEditSpeller(list: () => WordList): Speller {
  return (word, limit) => {
    if (list().classOf(word) !== undefined) return [];
    const found = new Map<string, Suggestion>();
    for (const candidate of oneEditFrom(word)) {
      const frequencyClass = list().classOf(candidate);
      if (frequencyClass === undefined) continue;
      found.set(candidate, { word: candidate, distance: 1, score: rounded(1 - frequencyClass / 100) });
    }
    return best([...found.values()], limit);
  };
}

/** Version 2: two edits; probable errors in common words first. */
export function twoEditSpeller(list: () => WordList): Speller {
  const byLength = lazily(() => signaturesByLength(list().words));
  return (word, limit) => {
    if (list().classOf(word) !== undefined) return [];
    const signature = signatureOf(word);
    const found: Suggestion[] = [];
    for (let length = Math.max(1, word.length - 2); length <= word.length + 2; length += 1) {
      const group = byLength().get(length);
      if (!group) continue;
      for (let i = 0; i < group.words.length; i += 1) {
        const other = group.signatures[i]!;
        if (bitsSet(signature & ~other) > 2 || bitsSet(other & ~signature) > 2) continue;
        const candidate = group.words[i]!;
        const distance = editDistance(word, candidate, 2);
        if (distance > 2) continue;
        const rarity = list().classOf(candidate)! / 100;
        found.push({ word: candidate, distance, score: rounded(1 / (1 + slipCost(word, candidate) + rarity)) });
      }
    }
    return best(found, limit);
  };
}

/**
 * Returns the edit distance between `a` and `b`: letters inserted, removed, replaced or swapped with their neighbor
 * (optimal string alignment: no letter is edited twice). Returns `most + 1` for anything above `most`.
 */
export function editDistance(a: string, b: string, most: number): number {
  const width = b.length + 1;
  if (Math.abs(a.length - b.length) > most) return most + 1;
  // The whole table in one small array, with a row per prefix of a and a column per prefix of b. Cells more than
  // `most` from the diagonal are not calculated; they only need a value that is too large.
  const table = new Uint8Array((a.length + 1) * width).fill(most + 1);
  for (let j = 0; j <= Math.min(most, b.length); j += 1) table[j] = j;
  for (let i = 1; i <= a.length; i += 1) {
    const row = i * width;
    if (i <= most) table[row] = i;
    let smallest = i <= most ? i : most + 1;
    const end = Math.min(b.length, i + most);
    for (let j = Math.max(1, i - most); j <= end; j += 1) {
      const at = row + j;
      const same = a.charCodeAt(i - 1) === b.charCodeAt(j - 1);
      let cost = table[at - width - 1]! + (same ? 0 : 1);
      if (table[at - width]! + 1 < cost) cost = table[at - width]! + 1;
      if (table[at - 1]! + 1 < cost) cost = table[at - 1]! + 1;
      if (!same && isSwap(a, i, b, j)) cost = Math.min(cost, table[at - 2 * width - 2]! + 1);
      table[at] = cost;
      if (cost < smallest) smallest = cost;
    }
    // This also holds for swaps, which skip this row: the cell they use is at most one less than the cell between.
    if (smallest > most) return most + 1;
  }
  return Math.min(table[table.length - 1]!, most + 1);
}

/** Returns all strings that one insertion, removal, replacement or swap makes of a word. */
function* oneEditFrom(word: string): Generator<string> {
  for (let i = 0; i <= word.length; i += 1) {
    const left = word.slice(0, i);
    const right = word.slice(i);
    if (right !== '') yield left + right.slice(1);
    if (right.length > 1) yield left + right.charAt(1) + right.charAt(0) + right.slice(2);
    for (const letter of letters) {
      if (right !== '') yield left + letter + right.slice(1);
      yield left + letter + right;
    }
  }
}

const letters = "abcdefghijklmnopqrstuvwxyz'";

interface LengthGroup {
  readonly words: string[];
  readonly signatures: Int32Array;
}

function signaturesByLength(words: readonly string[]): ReadonlyMap<number, LengthGroup> {
  const groups = new Map<number, string[]>();
  for (const word of words) {
    const group = groups.get(word.length);
    if (group) group.push(word);
    else groups.set(word.length, [word]);
  }
  return new Map([...groups].map(([length, group]) => [length, { words: group, signatures: signaturesOf(group) }]));
}

function signaturesOf(words: readonly string[]): Int32Array {
  const signatures = new Int32Array(words.length);
  for (let i = 0; i < words.length; i += 1) signatures[i] = signatureOf(words[i]!);
  return signatures;
}

/** One bit for each letter from a to z in the word, and one for all other characters. */
function signatureOf(word: string): number {
  let bits = 0;
  for (let i = 0; i < word.length; i += 1) {
    const letter = word.charCodeAt(i) - 97;
    bits |= 1 << (letter >= 0 && letter < 26 ? letter : 26);
  }
  return bits;
}

function bitsSet(word: number): number {
  const pairs = word - ((word >>> 1) & 0x55555555);
  const fours = (pairs & 0x33333333) + ((pairs >>> 2) & 0x33333333);
  return Math.imul((fours + (fours >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/**
 * Weighs the edits between two words by how probable a typing or hearing error makes them. A wrong first letter is
 * rare.
 */
function slipCost(typed: string, meant: string): number {
  let before: number[] = [];
  let last = [0];
  for (let j = 1; j <= meant.length; j += 1) last.push(last[j - 1]! + gapCost(meant, j));
  for (let i = 1; i <= typed.length; i += 1) {
    const row = [last[0]! + gapCost(typed, i)];
    for (let j = 1; j <= meant.length; j += 1) {
      let cost = Math.min(
        last[j]! + gapCost(typed, i),
        row[j - 1]! + gapCost(meant, j),
        last[j - 1]! + replacementCost(typed.charAt(i - 1), meant.charAt(j - 1)),
      );
      if (isSwap(typed, i, meant, j)) cost = Math.min(cost, before[j - 2]! + 0.6);
      row.push(cost);
    }
    before = last;
    last = row;
  }
  return last[meant.length]! + (typed.charAt(0) === meant.charAt(0) ? 0 : 0.3);
}

/** Cost of an extra or missing letter; lower if it doubles the letter before it. */
function gapCost(word: string, position: number): number {
  return position > 1 && word.charAt(position - 1) === word.charAt(position - 2) ? 0.5 : 1;
}

function replacementCost(typed: string, meant: string): number {
  if (typed === meant) return 0;
  if (vowels.includes(typed) && vowels.includes(meant)) return 0.7;
  return keysAround.get(typed)?.has(meant) ? 0.7 : 1;
}

function isSwap(a: string, i: number, b: string, j: number): boolean {
  return i > 1 && j > 1 && a.charCodeAt(i - 1) === b.charCodeAt(j - 2) && a.charCodeAt(i - 2) === b.charCodeAt(j - 1);
}

function rounded(score: number): number {
  return Math.round(score * 1000) / 1000;
}

function best(found: Suggestion[], limit: number): Suggestion[] {
  found.sort((a, b) => b.score - a.score || a.distance - b.distance || (a.word < b.word ? -1 : 1));
  return found.slice(0, limit);
}

const vowels = 'aeiouy';

/**
 * Neighbors of each key on a QWERTY keyboard. Each row is shifted by half a key, so a key has a neighbor on each
 * side, two in the row above and two in the row below.
 */
const keysAround: ReadonlyMap<string, ReadonlySet<string>> = keyboardNeighbors(['qwertyuiop', 'asdfghjkl', 'zxcvbnm']);

function keyboardNeighbors(rows: readonly string[]): ReadonlyMap<string, ReadonlySet<string>> {
  const around = new Map<string, Set<string>>();
  const join = (a: string | undefined, b: string | undefined): void => {
    if (!a || !b) return;
    around.set(a, (around.get(a) ?? new Set()).add(b));
    around.set(b, (around.get(b) ?? new Set()).add(a));
  };
  for (const [r, row] of rows.entries()) {
    for (let i = 0; i < row.length; i += 1) {
      join(row[i], row[i + 1]);
      join(row[i], rows[r + 1]?.[i - 1]);
      join(row[i], rows[r + 1]?.[i]);
    }
  }
  return around;
}

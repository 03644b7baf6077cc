// Places of shards in the list of all shards of an index version, as text.

import { SHARDS_MAX } from '../../core/mod.ts';

/** Writes places in order: `0-31,64`. */
export function formatPlaces(places: Iterable<number>): string {
  const ranges: [number, number][] = [];
  for (const place of [...places].sort((a, b) => a - b)) {
    const last = ranges.at(-1);
    if (last !== undefined && place <= last[1] + 1) last[1] = place;
    else ranges.push([place, place]);
  }
  return ranges.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(',');
}

/** Reads what `formatPlaces` wrote. @throws Error for anything else, and for places beyond the limit of shards */
export function parsePlaces(text: string): number[] {
  if (text === '') return [];
  let last = -1;
  return text.split(',').flatMap((range) => {
    const [, from, to = from] = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(range) ?? [];
    const [first, end] = [Number(from), Number(to)];
    if (from === undefined || first <= last || end < first || end >= SHARDS_MAX)
      throw new Error(`found "${range}", expected places in order below ${SHARDS_MAX}, for example 0-31,64`);
    last = end;
    return Array.from({ length: end - first + 1 }, (_, index) => first + index);
  });
}

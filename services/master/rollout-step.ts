// How to get from what the managers were told to what they are to be told, without losing capacity: copies are added
// at once, and taken away only as far as enough of the others live. Pure; asked again whenever something has changed,
// it arrives at the target by itself.
//
// A manager that is told to run fewer ends those that do not live first, so taking away copies that do not live costs
// nothing and waits for nobody. With all copies alive scaling down goes at once for the same reason: more live than
// are wanted. What nobody may run (undeployed, or every manager is drained) goes at once too: the target does not
// have it, and that is what counts.

import type { AssignedCopies } from './assign.ts';

/**
 * The orders to give now, by manager.
 * @param target from `assign`
 * @param current the orders that stand, of the managers that are there
 * @param alive copies that live, as the managers say
 */
export function nextStep(
  target: AssignedCopies,
  current: AssignedCopies,
  alive: AssignedCopies,
): Map<string, Map<string, number>> {
  const names = [...new Set([...target.keys(), ...current.keys()])].sort(compare);
  const ids = new Set<string>();
  for (const copies of [...target.values(), ...current.values()]) for (const id of copies.keys()) ids.add(id);
  const next = new Map(names.map((name): [string, Map<string, number>] => [name, new Map()]));
  for (const id of [...ids].sort(compare)) {
    const places = names.map((name) => {
      const has = countOf(current, name, id);
      return { name, has, wanted: countOf(target, name, id), lives: Math.min(countOf(alive, name, id), has) };
    });
    let spare = places.reduce((sum, { lives, wanted }) => sum + lives - wanted, 0);
    // From the fullest first, so that what cannot go yet is spread.
    for (const place of places.sort((a, b) => b.has - b.wanted - (a.has - a.wanted) || compare(a.name, b.name))) {
      let count = place.wanted;
      if (place.lives > place.wanted) {
        const goes = Math.max(0, Math.min(spare, place.lives - place.wanted));
        spare -= goes;
        count = place.lives - goes;
      }
      if (count > 0) next.get(place.name)?.set(id, count);
    }
  }
  return next;
}

function countOf(copies: AssignedCopies, name: string, id: string): number {
  return copies.get(name)?.get(id) ?? 0;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

// Finds the next orders on the way from the current assignment to the target without losing capacity. New copies are
// added at once. Old copies are removed only while enough others are alive. The function is pure and runs again
// after every change, so the orders converge to the target.
//
// A manager that must run fewer copies stops dead ones first, so removing dead copies needs no wait. Scaling down
// with all copies alive is immediate for the same reason: more are alive than desired. Copies that no manager may
// run (undeployed, or all managers drained) are removed at once too, because the target has none.

import type { AssignedCopies } from './assign.ts';

/**
 * Returns the orders to give now, by manager.
 *
 * @param target result of `assign`
 * @param current current orders of the present managers
 * @param alive copies that are alive, as reported by the managers
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
    const slots = names.map((name) => {
      const has = countOf(current, name, id);
      return { name, has, desired: countOf(target, name, id), alive: Math.min(countOf(alive, name, id), has) };
    });
    let spare = slots.reduce((sum, { alive, desired }) => sum + alive - desired, 0);
    // Start with the manager that has the most surplus, so that copies that must stay are spread.
    for (const slot of slots.sort((a, b) => b.has - b.desired - (a.has - a.desired) || compare(a.name, b.name))) {
      let count = slot.desired;
      if (slot.alive > slot.desired) {
        const removed = Math.max(0, Math.min(spare, slot.alive - slot.desired));
        spare -= removed;
        count = slot.alive - removed;
      }
      if (count > 0) next.get(slot.name)?.set(id, count);
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

// Unqualified names for types that come from several files.

import type { Type } from '../thrift/mod.ts';

/**
 * Returns unqualified names if they are unambiguous, so that the file of a type does not matter. If two files define
 * the same name, that of the included file becomes `shared_Name`.
 * @param taken names that are already in use
 */
export function flatNames(types: readonly Type[], taken: Set<string>): Map<object, string> {
  const owners = new Map<string, { name: string }[]>();
  for (const type of types) {
    const owner = type.kind === 'enum' ? type.enum : type.kind === 'struct' ? type.struct : undefined;
    if (owner === undefined) continue;
    const plain = owner.name.slice(owner.name.lastIndexOf('.') + 1);
    const same = owners.get(plain);
    if (same === undefined) owners.set(plain, [owner]);
    else same.push(owner);
  }
  const names = new Map<object, string>();
  const give = (owner: object, wanted: string): void => {
    let name = wanted;
    for (let i = 2; taken.has(name); i++) name = `${wanted}_${i}`;
    taken.add(name);
    names.set(owner, name);
  };
  const sorted = [...owners].sort((a, b) => compareText(a[0], b[0]));
  for (const [plain, same] of sorted) {
    const first = same.length === 1 ? same[0] : same.find((owner) => owner.name === plain);
    if (first !== undefined) give(first, plain);
  }
  for (const [, same] of sorted) {
    for (const owner of same.sort((a, b) => compareText(a.name, b.name))) {
      if (!names.has(owner)) give(owner, owner.name.replace(/[^A-Za-z0-9_]+/g, '_'));
    }
  }
  return names;
}

/** Compares by code unit, which gives the same order on every machine, unlike localeCompare. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

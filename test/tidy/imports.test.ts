// Which room may import which: imports point down only, through the door of the room, and never in a circle.

import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { importsOf, roomOf, sourcesOf, ROOM_FOLDERS, ROOMS, type Import } from './repository.ts';

const sources = sourcesOf(ROOM_FOLDERS).filter((file) => !file.startsWith('faceplates/stats/page/'));
const imports = sources.flatMap(importsOf);
const crossing = imports.filter(({ from, to }) => roomOf(from) !== roomOf(to));
const show = ({ from, to }: Import): string => `${from} imports ${to}`;

/** Imports that go up, sideways or into a sample. */
function forbiddenDirections(some: readonly Import[]): string[] {
  return some
    .filter(({ from, to }) => ROOMS[roomOf(from)]?.includes(roomOf(to)) !== true)
    .map((wrong) => `${show(wrong)}: ${roomOf(wrong.from)} may not import ${roomOf(wrong.to)}`);
}

/** Imports of another room that bypass its door. */
function bypassedDoors(some: readonly Import[]): string[] {
  return some.filter(({ to }) => path.posix.basename(to) !== 'mod.ts').map(show);
}

/** Circles among nodes, each as its members in order of discovery (Tarjan's strongly connected components). */
function circles(edges: ReadonlyMap<string, readonly string[]>): string[][] {
  const found: string[][] = [];
  const index = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const visit = (node: string): void => {
    index.set(node, index.size);
    low.set(node, index.get(node) as number);
    stack.push(node);
    for (const next of edges.get(node) ?? []) {
      if (!index.has(next)) visit(next);
      if (stack.includes(next)) low.set(node, Math.min(low.get(node) as number, low.get(next) as number));
    }
    if (low.get(node) !== index.get(node)) return;
    const members = stack.splice(stack.indexOf(node));
    if (members.length > 1) found.push(members);
  };
  for (const node of edges.keys()) if (!index.has(node)) visit(node);
  return found;
}

function edgesOf(some: readonly Import[], name: (file: string) => string): Map<string, string[]> {
  const edges = new Map<string, string[]>();
  for (const one of some) {
    if (name(one.from) === name(one.to)) continue;
    edges.set(name(one.from), [...(edges.get(name(one.from)) ?? []), name(one.to)]);
  }
  return edges;
}

describe('Imports', () => {
  test('are all found: each points to a file that exists', () => {
    expect(imports.length).toBeGreaterThan(300);
    expect(imports.filter(({ to }) => !existsSync(path.join(REPOSITORY, to))).map(show)).toEqual([]);
  });

  test('of a built file, in a script outside the rooms, have a source', () => {
    // tsc does not check .mjs files.
    const built = sourcesOf(['bench', 'scripts', 'deploy'])
      .flatMap(importsOf)
      .filter(({ to }) => to.startsWith('dist/'));
    expect(built.length).toBeGreaterThan(0);
    const sourceOf = ({ to }: Import): string => to.replace(/^dist\//, '').replace(/\.js$/, '.ts');
    expect(built.filter((one) => !existsSync(path.join(REPOSITORY, sourceOf(one)))).map(show)).toEqual([]);
  });

  test('are made by files that are in a room', () => {
    // A new room is added to ROOMS in repository.ts and to ARCHITECTURE.md.
    expect(sources.filter((file) => roomOf(file) === '')).toEqual([]);
  });

  test('leave a room only downward', () => {
    expect(forbiddenDirections(crossing)).toEqual([]);
  });

  test('enter a room by its door, mod.ts', () => {
    expect(bypassedDoors(crossing)).toEqual([]);
  });

  test('form no circle of files, types included', () => {
    expect(circles(edgesOf(imports, (file) => file))).toEqual([]);
  });

  test('form no circle of rooms', () => {
    expect(circles(edgesOf(imports, roomOf))).toEqual([]);
  });
});

describe('The import rules', () => {
  test('find a wrong direction, a bypassed door and a circle', () => {
    expect(forbiddenDirections([{ from: 'core/rpc/call.ts', to: 'services/mesh/mod.ts' }])).toHaveLength(1);
    expect(bypassedDoors([{ from: 'client/mesh.ts', to: 'core/link/link.ts' }])).toHaveLength(1);
    const edges = new Map([
      ['a', ['b']],
      ['b', ['c']],
      ['c', ['b']],
    ]);
    expect(circles(edges)).toEqual([['b', 'c']]);
  });
});

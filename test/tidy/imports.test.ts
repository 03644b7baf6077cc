// Import rules between modules: imports point downward only, go through the module's mod.ts, and form no cycle.

import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { importsOf, moduleOf, sourcesOf, MODULE_FOLDERS, MODULES, type Import } from './repository.ts';

const sources = sourcesOf(MODULE_FOLDERS).filter((file) => !file.startsWith('faceplates/stats/page/'));
const imports = sources.flatMap(importsOf);
const crossing = imports.filter(({ from, to }) => moduleOf(from) !== moduleOf(to));
const show = ({ from, to }: Import): string => `${from} imports ${to}`;

/** Imports that point up, sideways or into a sample. */
function forbiddenDirections(some: readonly Import[]): string[] {
  return some
    .filter(({ from, to }) => MODULES[moduleOf(from)]?.includes(moduleOf(to)) !== true)
    .map((wrong) => `${show(wrong)}: ${moduleOf(wrong.from)} may not import ${moduleOf(wrong.to)}`);
}

/** Imports of another module that bypass its mod.ts. */
function bypassedMods(some: readonly Import[]): string[] {
  return some.filter(({ to }) => path.posix.basename(to) !== 'mod.ts').map(show);
}

/** Cycles among nodes, each as its members in order of discovery (Tarjan's strongly connected components). */
function cycles(edges: ReadonlyMap<string, readonly string[]>): string[][] {
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
  test('point to files that exist', () => {
    expect(imports.length).toBeGreaterThan(300);
    expect(imports.filter(({ to }) => !existsSync(path.join(REPOSITORY, to))).map(show)).toEqual([]);
  });

  test('of built files, in scripts outside the modules, have a source', () => {
    // tsc does not check .mjs files.
    const built = sourcesOf(['bench', 'scripts', 'deploy'])
      .flatMap(importsOf)
      .filter(({ to }) => to.startsWith('dist/'));
    expect(built.length).toBeGreaterThan(0);
    const sourceOf = ({ to }: Import): string => to.replace(/^dist\//, '').replace(/\.js$/, '.ts');
    expect(built.filter((one) => !existsSync(path.join(REPOSITORY, sourceOf(one)))).map(show)).toEqual([]);
  });

  test('are made by files that are in a module', () => {
    // A new module is added to MODULES in repository.ts and to ARCHITECTURE.md.
    expect(sources.filter((file) => moduleOf(file) === '')).toEqual([]);
  });

  test('leave a module only downward', () => {
    expect(forbiddenDirections(crossing)).toEqual([]);
  });

  test('go through the mod.ts of another module', () => {
    expect(bypassedMods(crossing)).toEqual([]);
  });

  test('form no cycle of files, type imports included', () => {
    expect(cycles(edgesOf(imports, (file) => file))).toEqual([]);
  });

  test('form no cycle of modules', () => {
    expect(cycles(edgesOf(imports, moduleOf))).toEqual([]);
  });
});

describe('The import rules', () => {
  test('find an upward import, a bypassed mod.ts and a cycle', () => {
    expect(forbiddenDirections([{ from: 'core/rpc/call.ts', to: 'services/mesh/mod.ts' }])).toHaveLength(1);
    expect(bypassedMods([{ from: 'client/mesh.ts', to: 'core/link/link.ts' }])).toHaveLength(1);
    const edges = new Map([
      ['a', ['b']],
      ['b', ['c']],
      ['c', ['b']],
    ]);
    expect(cycles(edges)).toEqual([['b', 'c']]);
  });
});

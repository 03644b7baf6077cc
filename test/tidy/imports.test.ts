// Who may import whom, as ARCHITECTURE.md says: down only, never a sibling, through doors.

import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { REPOSITORY } from '../kit/tools/tools.ts';
import { read, ROOMS, sourcesOf } from './repository.ts';

/** What each room may import besides its own files, by the path that the import has to begin with. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  'chassis-sdk': [],
  'chassis-sdk/client': ['chassis-sdk'],
  examples: ['chassis-sdk/typescript/mod.ts', 'faceplates/kit/mod.ts'],
  'services/mesh': ['chassis-sdk'],
  'services/consul-agent': ['chassis-sdk'],
  'services/resource-manager': ['chassis-sdk', 'services/mesh'],
  'services/master': ['chassis-sdk', 'services/mesh'],
  'services/cli': ['chassis-sdk', 'services', 'faceplates'],
  'faceplates/thrift': ['chassis-sdk'],
  'faceplates/json-rpc': ['chassis-sdk'],
  'faceplates/stats': ['chassis-sdk'],
  'faceplates/web': ['chassis-sdk'],
};

interface Import {
  readonly from: string;
  /** The file, from the root of the repository. */
  readonly to: string;
}

/** Every import of a file of ours, types too. */
function importsOf(file: string): Import[] {
  const named =
    /(?:^|\n)\s*(?:import|export)\b[^'";]*?\bfrom\s*['"](\.[^'"]+)|\bimport\(\s*['"](\.[^'"]+)|(?:^|\n)import\s*['"](\.[^'"]+)/g;
  return [...read(file).matchAll(named)].map((found) => ({
    from: file,
    to: path.posix.join(path.posix.dirname(file), found[1] ?? found[2] ?? found[3] ?? ''),
  }));
}

/** The room that a file is in: the longest name that fits; '' for none. */
function roomOf(file: string): string {
  const rooms = Object.keys(MAY_IMPORT).filter((room) => file.startsWith(`${room}/`));
  return rooms.sort((a, b) => b.length - a.length)[0] ?? '';
}

const sources = sourcesOf(ROOMS);
const imports = sources.flatMap(importsOf);
const show = ({ from, to }: Import): string => `${from} imports ${to}`;
const crossing = imports.filter(({ from, to }) => roomOf(from) !== roomOf(to));

describe('Imports', () => {
  test('are all found: each points to a file that exists', () => {
    expect(imports.length).toBeGreaterThan(300);
    expect(imports.filter(({ to }) => !existsSync(path.join(REPOSITORY, to))).map(show)).toEqual([]);
  });

  test('are made by files that are in a room', () => {
    // A new room is added to MAY_IMPORT and to ARCHITECTURE.md.
    expect(sources.filter((file) => roomOf(file) === '')).toEqual([]);
  });

  test('leave a room only downwards, never to a sibling', () => {
    const wrong = crossing.filter(
      ({ from, to }) =>
        !(MAY_IMPORT[roomOf(from)] as readonly string[]).some(
          (allowed) => to === allowed || to.startsWith(`${allowed}/`),
        ),
    );
    expect(wrong.map(show)).toEqual([]);
  });

  test('enter services and faceplates by their doors, and the IDL room by its own', () => {
    const isDoor = (file: string): boolean => /\/(mod|internal)\.ts$/.test(file);
    const wrong = crossing.filter(({ to }) => !to.startsWith('chassis-sdk/') && !isDoor(to));
    const throughWindow = imports.filter(
      ({ from, to }) => to.startsWith('chassis-sdk/idl/') && !from.startsWith('chassis-sdk/idl/') && !isDoor(to),
    );
    // What needs nothing but the model's types may take them from where they are declared.
    const left = throughWindow.filter(({ to }) => to !== 'core/thrift/model.ts');
    expect([...wrong, ...left].map(show)).toEqual([]);
  });

  test('never reach a sample: chassis are started, not imported', () => {
    const wrong = crossing.filter(({ to }) => to.startsWith('examples/'));
    expect(wrong.map(show)).toEqual([]);
  });
});

// How sources begin and what they never say.

import { readdirSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { filesBelow, pages, read, ROOM_FOLDERS, sourcesOf } from './repository.ts';

/** Says what nobody may say. */
const THIS = 'test/tidy/sources.test.ts';
const tests = sourcesOf(['test']).filter((file) => file !== THIS);

/** Files of the root that people and tools read. */
const inRoot = readdirSync(REPOSITORY).filter((name) => /\.(json|md|ts)$/.test(name));
const everything = [
  ...[...ROOM_FOLDERS, 'idl', 'scripts', 'test', 'docs'].flatMap(filesBelow),
  ...inRoot.filter((name) => /^(package|tsconfig|knip|vitest|[A-Z])/.test(name)),
].filter((file) => /\.(ts|js|mjs|sh|py|thrift|md|json|yaml|html|css)$/.test(file) && file !== THIS);

/** Where a pattern occurs, as `file:line: text`. */
function occurrences(files: readonly string[], pattern: RegExp): string[] {
  return files.flatMap((file) =>
    read(file)
      .split('\n')
      .flatMap((line, index) => (pattern.test(line) ? [`${file}:${index + 1}: ${line.trim().slice(0, 120)}`] : [])),
  );
}

describe('A source file', () => {
  test('opens with a comment that says what it is', () => {
    const withHead = [
      ...sourcesOf([...ROOM_FOLDERS, 'scripts', 'test/kit', 'test/tidy', 'test/fuzz']),
      ...['chassis-sdk', 'examples'].flatMap(filesBelow).filter((file) => /\.(thrift|sh|py|yaml)$/.test(file)),
      ...filesBelow('idl'),
    ];
    expect(withHead.length).toBeGreaterThan(150);
    const opening = /^(#![^\n]*\n)?(\/\/ \S|\/\*\*|# \S|""")/;
    expect(withHead.filter((file) => !opening.test(read(file)))).toEqual([]);
  });

  test('of the product names the other runtimes in core/runtime.ts only', () => {
    const sources = [...sourcesOf(ROOM_FOLDERS), ...filesBelow('idl')].filter((file) => file !== 'core/runtime.ts');
    expect(occurrences(sources, /\b(bun|deno)\b/i)).toEqual([]);
  });
});

describe('No tracked file', () => {
  test("holds a path of somebody's machine", () => {
    // Homes and checkouts. Tests of what `~` means may invent a home of a user x.
    const path = /(?<![\w.~-])\/(root|work|Users\/\w|home\/(?!x\b)\w)[\w/]*/;
    expect(occurrences(everything, path)).toEqual([]);
  });

  test('names a package registry or a mirror of one', () => {
    const host = /registry\.npm|npmjs\.(com|org)|(deb|archive)\.debian|pypi\.org|jsr\.io|unpkg\.com/i;
    expect(occurrences(everything, host)).toEqual([]);
  });

  test('is read here that should not be, and none is missed', () => {
    expect(everything).toEqual(
      expect.arrayContaining([...pages(), 'package-lock.json', 'idl/katamari.thrift', ...tests]),
    );
  });
});

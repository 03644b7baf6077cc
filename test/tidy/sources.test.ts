// Every source file starts with a comment, and no tracked file contains certain strings.

import { readdirSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { filesBelow, pages, read, MODULE_FOLDERS, sourcesOf } from './repository.ts';

/** The strings that no file may contain. */
const THIS = 'test/tidy/sources.test.ts';
const tests = sourcesOf(['test']).filter((file) => file !== THIS);

/** Files in the root for people and tools. */
const inRoot = readdirSync(REPOSITORY).filter((name) => /\.(json|md|ts)$/.test(name));
const everything = [
  ...[...MODULE_FOLDERS, 'idl', 'scripts', 'test', 'docs'].flatMap(filesBelow),
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
  test('starts with a comment that describes it', () => {
    const withHead = [
      ...sourcesOf([...MODULE_FOLDERS, 'scripts', 'test/kit', 'test/tidy', 'test/fuzz']),
      ...['chassis-sdk', 'examples'].flatMap(filesBelow).filter((file) => /\.(thrift|sh|py|yaml)$/.test(file)),
      ...filesBelow('idl'),
    ];
    expect(withHead.length).toBeGreaterThan(150);
    const opening = /^(#![^\n]*\n)?(\/\/ \S|\/\*\*|# \S|""")/;
    expect(withHead.filter((file) => !opening.test(read(file)))).toEqual([]);
  });

  test('names the other runtimes in core/runtime.ts only', () => {
    const sources = [...sourcesOf(MODULE_FOLDERS), ...filesBelow('idl')].filter((file) => file !== 'core/runtime.ts');
    expect(occurrences(sources, /\b(bun|deno)\b/i)).toEqual([]);
  });
});

describe('No tracked file', () => {
  test("contains a path of a developer's machine", () => {
    // Home folders and checkouts. Tests of `~` may use the home folder of a user x.
    const path = /(?<![\w.~-])\/(root|work|Users\/\w|home\/(?!x\b)\w)[\w/]*/;
    expect(occurrences(everything, path)).toEqual([]);
  });

  test('names a package registry or a mirror', () => {
    const host = /registry\.npm|npmjs\.(com|org)|(deb|archive)\.debian|pypi\.org|jsr\.io|unpkg\.com/i;
    expect(occurrences(everything, host)).toEqual([]);
  });

  test('is scanned by mistake, and none is missed', () => {
    expect(everything).toEqual(
      expect.arrayContaining([...pages(), 'package-lock.json', 'idl/katamari.thrift', ...tests]),
    );
  });
});

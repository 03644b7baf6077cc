// Every type name is declared once in the product. The tests of a module are in the folder that mirrors it.

import { describe, expect, test } from 'vitest';
import { filesBelow, read, MODULE_FOLDERS, MODULES, sourcesOf } from './repository.ts';

interface Declaration {
  readonly name: string;
  readonly file: string;
  /** The comment before it says why the name is declared twice: `// Also declared in FILE: reason`. */
  readonly hasReason: boolean;
}

const DECLARATION =
  /(?:^|\n)((?:[ \t]*(?:\/\/|\/\*\*|\*)[^\n]*\n)*)(?:export )?(?:declare )?(?:abstract )?(?:interface|type|class) (\w+)/g;

/** The types, interfaces and classes that a file declares at its top level. */
function declarationsOf(file: string, source: string): Declaration[] {
  return [...source.matchAll(DECLARATION)].map(([, comment = '', name = '']) => ({
    name,
    file,
    hasReason: comment.includes('Also declared in'),
  }));
}

/** Names that are declared in more than one file, with those files. */
function declaredTwice(declarations: readonly Declaration[]): string[] {
  const byName = new Map<string, Declaration[]>();
  for (const one of declarations) byName.set(one.name, [...(byName.get(one.name) ?? []), one]);
  return [...byName.values()]
    .filter((same) => new Set(same.map(({ file }) => file)).size > 1 && !same.some(({ hasReason }) => hasReason))
    .map((same) => `${same[0]?.name}: ${same.map(({ file }) => file).join(', ')}`);
}

const declarations = sourcesOf(MODULE_FOLDERS)
  .filter((file) => file.endsWith('.ts'))
  .flatMap((file) => declarationsOf(file, read(file)));

/** Folders of test/ that mirror no module: whole-mesh tests by kind, and test helpers. */
const BY_KIND = ['acceptance', 'contract', 'deploy', 'fixtures', 'fuzz', 'kit', 'kit-self', 'mesh', 'tidy'];

/** Whether a test file is in the folder that mirrors its module, or in a folder by kind. */
function isInPlace(file: string): boolean {
  const folder = file.replace(/^test\//, '').replace(/\/?[^/]*$/, '');
  if (BY_KIND.includes(folder.split('/')[0] ?? '')) return true;
  return (
    Object.keys(MODULES).some((module) => folder === module || folder.startsWith(`${module}/`)) ||
    ['chassis-sdk', 'content-servers'].includes(folder)
  );
}

describe('A type name', () => {
  test('is declared once', () => {
    expect(declarations.length).toBeGreaterThan(400);
    expect(declaredTwice(declarations)).toEqual([]);
  });
});

describe('A test file', () => {
  test('is in the folder that mirrors its module', () => {
    const tests = filesBelow('test').filter((file) => file.endsWith('.test.ts'));
    expect(tests.filter((file) => !isInPlace(file))).toEqual([]);
  });
});

describe('The rules of names', () => {
  test('find a type that is declared twice, unless a comment says why', () => {
    const two = [...declarationsOf('a.ts', 'export interface Peer {}'), ...declarationsOf('b.ts', 'class Peer {}')];
    expect(declaredTwice(two)).toEqual(['Peer: a.ts, b.ts']);
    const reason = declarationsOf('c.ts', '// Also declared in a.ts: the public name.\nexport type Peer = 1;');
    expect(declaredTwice([...two, ...reason])).toEqual([]);
  });

  test('find a test outside the mirror', () => {
    expect(isInPlace('test/core/link/link.test.ts')).toBe(true);
    expect(isInPlace('test/links/link.test.ts')).toBe(false);
  });
});

// Checks the documentation against the repository: links resolve, every page is linked, and named files exist.

import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { pages, read, MODULES } from './repository.ts';

/** Links of a page to files of the repository: the file, as a path from the root, and the heading if any. */
function linksOf(page: string): { readonly link: string; readonly file: string; readonly heading: string }[] {
  const text = read(page).replaceAll(/^```.*?^```/gms, '');
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, link]) => link as string)
    .filter((link) => !/^[a-z]+:/.test(link))
    .map((link) => {
      const [file = '', heading = ''] = link.split('#');
      return { link, file: file === '' ? page : path.posix.join(path.posix.dirname(page), file), heading };
    });
}

/** Headings of a page as link anchors. */
function headingsOf(page: string): string[] {
  return [...read(page).matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    (heading as string)
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  );
}

const inDocs = pages().filter((page) => page.startsWith('docs/') && page !== 'docs/README.md');
/** Pages for users. Pages for contributors are in docs/internals/. */
const ofDocs = inDocs.filter((page) => !page.startsWith('docs/internals/'));
const internals = inDocs.filter((page) => page.startsWith('docs/internals/'));

describe('Links', () => {
  test('between pages lead to files and headings that exist', () => {
    const broken = pages().flatMap((page) =>
      linksOf(page)
        .filter(
          ({ file, heading }) =>
            !existsSync(path.join(REPOSITORY, file)) || (heading !== '' && !headingsOf(file).includes(heading)),
        )
        .map(({ link }) => `${page}: ${link}`),
    );
    expect(broken).toEqual([]);
  });

  test('in README.md and docs/README.md lead to every page of docs/', () => {
    expect(ofDocs.length).toBeGreaterThan(8);
    for (const index of ['README.md', 'docs/README.md']) {
      const linked = new Set(linksOf(index).map(({ file }) => file));
      expect([index, ofDocs.filter((page) => !linked.has(page))]).toEqual([index, []]);
    }
  });

  test('in docs/README.md and ARCHITECTURE.md lead to every page of docs/internals/', () => {
    expect(internals.length).toBeGreaterThan(3);
    for (const index of ['docs/README.md', 'ARCHITECTURE.md']) {
      const linked = new Set(linksOf(index).map(({ file }) => file));
      expect([index, internals.filter((page) => !linked.has(page))]).toEqual([index, []]);
    }
  });
});

describe('docs/dependencies.md', () => {
  const page = read('docs/dependencies.md');

  /** Names at the start of the list items below a heading. */
  function listed(heading: string): string[] {
    const [, section = ''] = page.split(`## ${heading}\n`);
    const [items = ''] = section.split(/^## /m);
    return [...items.matchAll(/^- (.*?):/gm)].flatMap(([, names]) =>
      [...(names as string).matchAll(/`([^`]+)`/g)].map(([, name]) => name as string),
    );
  }

  /** Packages that a package.json depends on, without its own workspace. */
  function dependsOn(file: string, kind: 'dependencies' | 'devDependencies'): string[] {
    const found = (JSON.parse(read(file)) as Readonly<Record<string, Readonly<Record<string, string>> | undefined>>)[
      kind
    ];
    return Object.keys(found ?? {}).filter((name) => name !== 'katamari');
  }

  test('gives a reason for every dependency and lists nothing else', () => {
    expect(listed('At run time').sort()).toEqual(dependsOn('package.json', 'dependencies').sort());
    expect(listed('To develop and test').sort()).toEqual(dependsOn('package.json', 'devDependencies').sort());
    expect(listed('For the samples').sort()).toEqual(dependsOn('examples/package.json', 'dependencies').sort());
  });
});

describe('Pages', () => {
  test('name only npm commands that package.json has', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Readonly<Record<string, string>> };
    const named = pages().flatMap((page) => [...read(page).matchAll(/\bnpm run (?:-s )?([\w:]+)/g)]);
    expect(named.length).toBeGreaterThan(2);
    expect(named.map(([, name]) => name as string).filter((name) => !(name in scripts))).toEqual([]);
  });
});

describe('ARCHITECTURE.md', () => {
  const text = read('ARCHITECTURE.md');

  test('points to lines that occur exactly once in the file they name', () => {
    const pointers = [...text.matchAll(/^\|[^|]*\| `([^`]+\.ts)` \| `([^`]+)` \|/gm)];
    expect(pointers.length).toBeGreaterThan(6);
    const lost = pointers.filter(([, file = '', line = '']) => read(file).split(line).length !== 2);
    expect(lost.map(([, file, line]) => `${file}: ${line}`)).toEqual([]);
  });

  test('lists every module with the modules that it may import', () => {
    const modules = Object.keys(MODULES);
    /** `core/*` stands for core and every module in it. */
    const meant = (name: string): string[] =>
      name.endsWith('/*') ? modules.filter((module) => `${module}/`.startsWith(name.slice(0, -1))) : [name];
    const [, section = ''] = text.split('| module | what it is for | may import |');
    const [table = ''] = section.split('\n\n');
    const listed = [...table.matchAll(/^\| `([^`]+)` \|.*\| ([^|]*) \|$/gm)].map(([, module = '', imports = '']) => {
      const names = [...imports.matchAll(/`([^`]+)`/g)].flatMap(([, name]) => meant(name as string));
      return [module, names.sort()] as const;
    });
    expect(listed.map(([module]) => module)).toEqual(modules);
    expect(Object.fromEntries(listed)).toEqual(
      Object.fromEntries(modules.map((module) => [module, [...(MODULES[module] as readonly string[])].sort()])),
    );
  });
});

describe('ARCHITECTURE.md and docs/internals/', () => {
  test('name files that exist', () => {
    const named = ['ARCHITECTURE.md', ...internals].flatMap((page) =>
      [
        ...read(page).matchAll(
          /`((?:core|client|chassis-sdk|content-servers|services|faceplates|test|idl|scripts)\/[\w./-]+)`/g,
        ),
      ].map(([, file]) => ({ page, file: file as string })),
    );
    expect(named.length).toBeGreaterThan(80);
    expect(named.filter(({ file }) => !existsSync(path.join(REPOSITORY, file)))).toEqual([]);
  });
});

// Rules for comments and pages: they name only existing files, are not too wide, and use American spelling.

import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { commentsOf, filesBelow, pages, proseOfPage, read, MODULE_FOLDERS, type Line } from './repository.ts';

const COLUMNS_MAX = 120;

const THIS = 'test/tidy/prose.test.ts';
const commented = [
  ...[...MODULE_FOLDERS, 'test', 'scripts', 'bench', 'idl', 'deploy'].flatMap(filesBelow),
  'Dockerfile',
  'compose.yaml',
].filter((file) => /\.(ts|js|mjs|cjs|py|rb|cc|cpp|h|java|thrift|sh|yaml|yml)$|Dockerfile$/.test(file) && file !== THIS);

const comments: readonly Line[] = commented.flatMap((file) => commentsOf(file, read(file)));
const prose: readonly Line[] = [...comments, ...pages().flatMap((page) => proseOfPage(page, read(page)))];

const show = ({ file, line, text }: Line): string => `${file}:${line}: ${text.trim().slice(0, 100)}`;

/** Samples of commands and output are indented below their text and may be wider. */
const isTooWide = ({ text }: Line): boolean => text.length > COLUMNS_MAX && !/^\s*(?:\/\/|#|\*) {2,}/.test(text);

/** Documents outside the repository. */
const ELSEWHERE = /\b(DESIGN|LAYOUT|STYLE|INDICES)\.md\b|\bDESIGN\b/;

/** File names in a line: with a folder, or without one if the ending is unmistakable. */
function namedFiles({ text }: Line): string[] {
  const bare = text.replaceAll(/https?:\/\/\S+/g, '');
  return [...bare.matchAll(/(?<![\w@~$/{}<>*.-])((?:[\w.-]+\/)+[\w.-]+\.\w+|[\w-]+\.(?:ts|mjs))(?![\w/*-])/g)]
    .map(([, name]) => (name as string).replace(/\.$/, ''))
    .filter((name) => !name.endsWith('.js') || name.startsWith('dist/') === false)
    .filter((name) => /\.(ts|mjs|py|rb|cc|h|thrift|md|sh|yaml|css)$/.test(name));
}

/**
 * Whether a named file exists: from the root, from the folder of the file that names it, or anywhere by its base
 * name.
 */
function exists(name: string, from: string, known: ReadonlySet<string>, bareNames: ReadonlySet<string>): boolean {
  if (!name.includes('/')) return bareNames.has(name);
  if (known.has(name) || existsSync(path.join(REPOSITORY, name))) return true;
  if (known.has(path.posix.join(path.posix.dirname(from), name))) return true;
  return [...known].some((file) => file.endsWith(`/${name}`));
}

const everyFile = filesBelow('').filter(
  (file) => !/^(?:\.git|node_modules|dist|\.tools|bench\/node_modules)\//.test(file),
);

/** Names of a user's own files, and of files in other projects. */
const INVENTED =
  /^(?:doc\/specs\/HeaderFormat\.md|thrift\/transport\/|common\/shared\.thrift$|(?:\.\/)?(?:greeter|calculator-types|greeter-types|greeter-2|parcels?|my|your|main|serve|server|ranker|line|parser|shop|shop-types|search|words|deployments|chassis|client|app|wsgi|types|index|echo|worker|old|new|a|b|x)(?:\.\w+|\/[\w./-]+)$|.*(?:NAME|LANGUAGE))/;

function missingFiles(lines: readonly Line[]): string[] {
  const known = new Set(everyFile);
  const bareNames = new Set(everyFile.map((file) => path.posix.basename(file)));
  return lines.flatMap((line) =>
    namedFiles(line)
      .filter((name) => !INVENTED.test(name) && !exists(name, line.file, known, bareNames))
      .map((name) => `${line.file}:${line.line} names ${name}`),
  );
}

/** British spellings and their American equivalents. */
const BRITISH =
  /\b(?:colou?r(?<=colour)\w*|behaviour\w*|catalogue\w*|recognis\w+|honour\w*|licence\w*|neighbour\w*|centre\w*|labelled|dialled|normalis\w+|initialis\w+|serialis\w+|optimis\w+|organis\w+|favour\w*|modelling|travelling|whilst|judgement)\b/i;

describe('A comment or a page', () => {
  test('is found in every kind of file', () => {
    for (const ending of ['.ts', '.py', '.rb', '.thrift', '.sh', '.yaml', '.md']) {
      expect([ending, prose.some(({ file }) => file.endsWith(ending))]).toEqual([ending, true]);
    }
  });

  test('names only files that exist', () => {
    expect(missingFiles(prose)).toEqual([]);
  });

  test('cites no document outside the repository', () => {
    expect(prose.filter(({ text }) => ELSEWHERE.test(text)).map(show)).toEqual([]);
  });

  test(`is at most ${COLUMNS_MAX} columns wide`, () => {
    expect(prose.filter(isTooWide).map(show)).toEqual([]);
  });

  test('uses American spelling', () => {
    expect(prose.filter(({ text }) => BRITISH.test(text)).map(show)).toEqual([]);
  });
});

describe('The rules of prose', () => {
  const line = (text: string): Line => ({ file: 'core/errors.ts', line: 1, text });

  test('find a missing file by its path and by its base name', () => {
    expect(missingFiles([line('// See core/gone.ts.'), line('// As in gone-too.ts.')])).toHaveLength(2);
    expect(missingFiles([line('// See core/errors.ts and clock.ts.')])).toEqual([]);
  });

  test('find a document from elsewhere, a long line and a British spelling', () => {
    expect(ELSEWHERE.test('// STYLE.md section 5')).toBe(true);
    expect(commentsOf('a.ts', `// ${'x'.repeat(COLUMNS_MAX)}`).filter(isTooWide)).toHaveLength(1);
    expect(['the colour of it', 'its behaviour', 'recognised'].filter((text) => BRITISH.test(text))).toHaveLength(3);
    expect(['the color of it', 'its behavior', 'recognized'].filter((text) => BRITISH.test(text))).toEqual([]);
  });

  test('read prose and skip code', () => {
    expect(commentsOf('a.ts', "const a = 'core/gone.ts';\n/** One. */\nb(); // two").map(({ text }) => text)).toEqual([
      '/** One. */',
      '// two',
    ]);
    const page = 'Text.\n\n```sh\ncode\n```\n\n| table |\n\nMore.';
    expect(proseOfPage('a.md', page).map(({ text }) => text)).toEqual(['Text.', 'More.']);
  });
});

// The files of an interface, found by following includes from the main file, either on disk or in an IdlSource that
// another process sent. Limits: number and size of files. Include cycles are refused.
//
// An IdlSource is self-contained: it has the text of every file, by its path relative to the folder of the main file.
// A file in the n-th include folder (option -I) is named `-In/PATH`, so that the receiver finds the same file for each
// include without these folders. The receiver reads no file from disk.

import { readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SyntaxType } from '@creditkarma/thrift-parser';
import { KatamariError } from '../mod.ts';
import { type IdlSource, textOfBytes } from '../thrift/mod.ts';
import { idlFault, suggest } from './fault.ts';
import { FILE_LENGTH_MAX, parseSyntax, type SyntaxFile } from './syntax.ts';
import { index } from './tokens.ts';

/** A file, and the files it includes by the prefix of their names. */
export interface SourceFile extends SyntaxFile {
  readonly includes: ReadonlyMap<string, SourceFile>;
}

export const FILES_MAX = 100;
/** Maximum characters of all files together, which bounds the cost of one compilation. */
export const SOURCE_LENGTH_MAX: number = 4 * FILE_LENGTH_MAX;

/**
 * Reads a file and all its includes from disk.
 * @param includes folders to look into for includes that are not beside the including file, like -I of the compiler
 * @throws KatamariError bad_request if one is missing, too large or invalid
 */
export function readIdlFile(path: string | URL, includes: readonly (string | URL)[] = []): IdlSource {
  const file = pathOf(path);
  const main = basename(file);
  const folders = new Map([['', dirname(file)]]);
  for (const [n, folder] of includes.entries()) folders.set(`-I${n + 1}/`, checkFolder(pathOf(folder)));
  const files: Record<string, string> = {};
  loadFiles(main, [...folders.keys()].slice(1), (name) => {
    const [root, rest] = splitName(name);
    const folder = folders.get(root);
    const from = folder === undefined || posix.isAbsolute(name) ? name : join(folder, rest);
    const text = readText(from, name === main);
    if (text !== undefined) files[name] = text.replace(ESCAPES, '\uFFFD');
    return text;
  });
  return { main, files };
}

function pathOf(path: string | URL): string {
  return path instanceof URL || path.startsWith('file:') ? fileURLToPath(path) : path;
}

/** A folder that does not exist would show only as an include that is not found. */
function checkFolder(folder: string): string {
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() === true) return folder;
  throw new KatamariError('bad_request', `The include folder "${folder}" does not exist, or is not a folder`);
}

/** Parses the main file of a source and its includes. */
export function loadSource(source: IdlSource): SourceFile {
  const names = Object.keys(source.files);
  if (names.length > FILES_MAX) {
    throw new KatamariError(
      'bad_request',
      `The IDL of ${source.main} has ${names.length} files, the limit is ${FILES_MAX}`,
    );
  }
  const byName = new Map(names.map((name) => [normalName(name), source.files[name]]));
  if (!byName.has(normalName(source.main))) {
    throw new KatamariError(
      'bad_request',
      `The IDL source says its main file is "${source.main}", which is not among its files${suggest(source.main, names)}`,
    );
  }
  const roots = new Set(names.map((name) => splitName(name)[0]).filter((root) => root !== ''));
  const inOrder = [...roots].sort((a, b) => Number.parseInt(a.slice(2), 10) - Number.parseInt(b.slice(2), 10));
  return loadFiles(normalName(source.main), inOrder, (name) => byName.get(name));
}

/** @param roots prefixes of the names of files in include folders, in the order in which these are searched */
function loadFiles(main: string, roots: readonly string[], read: (name: string) => string | undefined): SourceFile {
  const loaded = new Map<string, SourceFile>();
  let length = 0;
  const load = (name: string, text: string, stack: readonly string[]): SourceFile => {
    const file = { name, text };
    length += text.length;
    if (length > SOURCE_LENGTH_MAX) {
      throw idlFault(file, 0, `the files have more than ${SOURCE_LENGTH_MAX} characters together, which is the limit`);
    }
    const syntax = parseSyntax(file);
    const includes = new Map<string, SourceFile>();
    for (const statement of syntax.document.body) {
      if (statement.type !== SyntaxType.IncludeDefinition) continue;
      const at = index(statement.path);
      const wanted = statement.path.value;
      const prefix = prefixOf(wanted);
      const included = include(syntax, at, wanted, stack);
      if ((includes.get(prefix) ?? included) !== included) {
        throw idlFault(
          file,
          at,
          `two included files are named "${prefix}" here, rename one so that ${prefix}.X means one thing`,
        );
      }
      includes.set(prefix, included);
    }
    const result = sameAs({ ...syntax, includes }) ?? { ...syntax, includes };
    loaded.set(name, result);
    return result;
  };
  /**
   * Returns the file that was loaded by another name, so that its types are the same types. That happens only with
   * include folders, which may overlap.
   */
  const sameAs = ({ name, text, includes }: SourceFile): SourceFile | undefined => {
    if (roots.length === 0) return undefined;
    return [...loaded.values()].find(
      (other) =>
        other.text === text &&
        posix.basename(other.name) === posix.basename(name) &&
        [...includes].every(([prefix, file]) => other.includes.get(prefix) === file),
    );
  };
  const include = (from: SyntaxFile, at: number, wanted: string, stack: readonly string[]): SourceFile => {
    // Like the Apache compiler: first relative to the including file, then in the include folders. The folder of the
    // main file comes last; the compiler does not look there.
    const [root, rest] = splitName(from.name);
    const beside = root + posix.join(posix.dirname(rest), wanted);
    const names = [...new Set([beside, ...roots.map((one) => one + posix.normalize(wanted)), posix.normalize(wanted)])];
    for (const name of posix.isAbsolute(wanted) ? [posix.normalize(wanted)] : names) {
      const cycleFrom = stack.indexOf(name);
      if (cycleFrom !== -1) {
        const cycle = [...stack.slice(cycleFrom), name].join(' -> ');
        throw idlFault(from, at, `include cycle ${cycle}: move what they share into a file that includes neither`);
      }
      const known = loaded.get(name);
      if (known !== undefined) return known;
      const text = read(name);
      if (text === undefined) continue;
      if (loaded.size + stack.length >= FILES_MAX)
        throw idlFault(from, at, `more than ${FILES_MAX} files, which is the limit`);
      return load(name, text, [...stack, name]);
    }
    throw idlFault(
      from,
      at,
      `included file "${wanted}" not found, looked for ${names.map((name) => `"${name}"`).join(' and ')}`,
    );
  };
  const text = read(main);
  if (text === undefined)
    throw new KatamariError('bad_request', `Cannot read the IDL file "${main}": there is no such file`);
  return load(main, text, [main]);
}

function readText(path: string, isMain: boolean): string | undefined {
  try {
    const { size } = statSync(path);
    // A file has at least as many bytes as characters, so this check bounds what is read.
    if (size > FILE_LENGTH_MAX * 4) throw tooBig(path, size);
    return textOfBytes(readFileSync(path));
  } catch (error) {
    if (error instanceof KatamariError) throw error;
    if (!isMain) return undefined;
    const why = error instanceof Error ? error.message : String(error);
    throw new KatamariError('bad_request', `Cannot read the IDL file "${path}": ${why}`, {}, error);
  }
}

function tooBig(path: string, size: number): KatamariError {
  return new KatamariError('bad_request', `The IDL file "${path}" has ${size} bytes, the limit is ${FILE_LENGTH_MAX}`);
}

/** Splits the name of a file into the prefix of its include folder, '' for none, and its path in there. */
function splitName(name: string): [root: string, rest: string] {
  const root = ROOT.exec(name)?.[0] ?? '';
  return [root, name.slice(root.length)];
}

function normalName(name: string): string {
  const [root, rest] = splitName(name);
  return root + posix.normalize(rest);
}

/** Of files in include folders. The path behind it may lead out of the folder. */
const ROOT = /^-I\d{1,3}\//;
/** Bytes that are no UTF-8 (core/thrift/text.ts) are allowed in comments only. */
const ESCAPES = /[\udc80-\udcff]/gu;

/** Returns the prefix of an include: `shared` for `common/shared.thrift`. */
export function prefixOf(name: string): string {
  return posix.basename(name).replace(/\.thrift$/, '');
}

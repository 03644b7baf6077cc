// The files of an interface, found by following includes from the main file, either on disk or in an IdlSource that
// another process sent. Limits: number and size of files. Include cycles are refused.

import { readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SyntaxType } from '@creditkarma/thrift-parser';
import { KatamariError } from '../mod.ts';
import type { IdlSource } from '../thrift/mod.ts';
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
 * @throws KatamariError bad_request if one is missing, too large or invalid
 */
export function readIdlFile(path: string | URL): IdlSource {
  const file = path instanceof URL ? fileURLToPath(path) : path.startsWith('file:') ? fileURLToPath(path) : path;
  const folder = dirname(file);
  const main = basename(file);
  const files: Record<string, string> = {};
  loadFiles(main, (name) => {
    const from = posix.isAbsolute(name) ? name : join(folder, name);
    const text = readText(from, name === main);
    if (text !== undefined) files[name] = text;
    return text;
  });
  return { main, files };
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
  const byName = new Map(names.map((name) => [posix.normalize(name), source.files[name]]));
  if (!byName.has(posix.normalize(source.main))) {
    throw new KatamariError(
      'bad_request',
      `The IDL source says its main file is "${source.main}", which is not among its files${suggest(source.main, names)}`,
    );
  }
  return loadFiles(posix.normalize(source.main), (name) => byName.get(name));
}

function loadFiles(main: string, read: (name: string) => string | undefined): SourceFile {
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
    const result = { ...syntax, includes };
    loaded.set(name, result);
    return result;
  };
  const include = (from: SyntaxFile, at: number, wanted: string, stack: readonly string[]): SourceFile => {
    // Like the Apache compiler: first relative to the including file, then to the main file.
    const names = [
      ...new Set([posix.normalize(posix.join(posix.dirname(from.name), wanted)), posix.normalize(wanted)]),
    ];
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
    return readFileSync(path, 'utf8');
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

/** Returns the prefix of an include: `shared` for `common/shared.thrift`. */
export function prefixOf(name: string): string {
  return posix.basename(name).replace(/\.thrift$/, '');
}

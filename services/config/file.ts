// Finds, reads and parses katamari.yaml and keeps the line of every key for messages. Does not interpret keys. The
// same parser reads JSON, a subset of YAML. The parser limits aliases; FILE_BYTES_MAX limits the size.

import { existsSync, readFileSync, statSync } from 'node:fs';
import { ExitError, EXIT } from './exit-error.ts';
import path from 'node:path';
import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, visit, type Document } from 'yaml';

/** File names that are tried in the working directory, in this order, when no file is given. */
export const CONFIG_FILE_NAMES = ['katamari.yaml', 'katamari.yml', 'katamari.json'] as const;

const FILE_BYTES_MAX = 1024 * 1024;

/** A parsed file: plain values, and the location of each. */
export interface ConfigText {
  /** Path for messages: relative to the working directory if the file is below it. */
  readonly shown: string;
  /** Paths in the file are relative to this. */
  readonly directory: string;
  readonly values: Readonly<Record<string, unknown>>;
  /** Returns the line (from 1) of the value at `path`, or of its closest ancestor that exists. */
  lineOf(path: readonly PropertyKey[]): number;
  /** Returns the source text of the number or boolean at `path`; undefined for other values. */
  sourceOf(path: readonly PropertyKey[]): string | undefined;
}

/** Returns the file to read: the named one, else the first of CONFIG_FILE_NAMES in `cwd`, else undefined. */
export function findConfigFile(named: string | undefined, cwd: string): string | undefined {
  if (named !== undefined && named !== '') return path.resolve(cwd, named);
  return CONFIG_FILE_NAMES.map((name) => path.join(cwd, name)).find((file) => existsSync(file));
}

/** Reads and parses a file. @throws ExitError with exit code 78 that names the file and, if known, the line */
export function readConfigFile(file: string, cwd: string): ConfigText {
  const relative = path.relative(cwd, file);
  const shown = relative.startsWith('..') || relative === '' ? file : relative;
  return parseConfigText(readText(file, shown), shown, path.dirname(file));
}

export function parseConfigText(text: string, shown: string, directory: string): ConfigText {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, merge: true, logLevel: 'silent' });
  // One mistake often causes several syntax errors, so only the first is reported.
  const [wrong] = document.errors;
  if (wrong !== undefined) {
    const [what = ''] = wrong.message.split(/ at line \d+|\n/);
    const said = SYNTAX_WORDS[wrong.code] ?? sentence(what);
    throw new ExitError(EXIT.badConfiguration, `${shown}:${wrong.linePos?.[0].line ?? 1}: ${said}`);
  }
  refuseNumberKeys(document, lines, shown);
  const values: unknown = toPlain(document, shown) ?? {};
  if (typeof values !== 'object' || Array.isArray(values)) {
    throw new ExitError(
      EXIT.badConfiguration,
      `${shown}:1: found ${describeValue(values)}, expected a map of settings such as "timeout: 10s"`,
    );
  }
  return {
    shown,
    directory,
    values: values as Record<string, unknown>,
    lineOf: (path) => lines.linePos(locate(document, path).offset).line || 1,
    sourceOf: (path) => locate(document, path).source,
  };
}

/** Describes a value for a message. Text is quoted and truncated; maps and lists are named by their type. */
export function describeValue(value: unknown): string {
  if (value === undefined || value === null) return 'nothing';
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  if (typeof value === 'object') return 'a map';
  if (typeof value !== 'string') return String(value as number | boolean | bigint);
  return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
}

/** Formats a path for people: `deployments[0].env["x y"]`. */
export function keyText(steps: readonly PropertyKey[]): string {
  let text = '';
  for (const step of steps) {
    if (typeof step === 'number') text += `[${step}]`;
    else if (/^[A-Za-z_][\w-]*$/.test(String(step))) text += text === '' ? String(step) : `.${String(step)}`;
    else text += `[${JSON.stringify(String(step))}]`;
  }
  return text;
}

function readText(file: string, shown: string): string {
  try {
    const { size } = statSync(file);
    if (size > FILE_BYTES_MAX) {
      throw new ExitError(
        EXIT.badConfiguration,
        `${shown}: found ${size} bytes, expected a configuration of at most 1 MiB`,
      );
    }
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof ExitError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    const why =
      code === 'ENOENT' ? 'no such file' : code === 'EISDIR' ? 'this is a directory' : (error as Error).message;
    throw new ExitError(
      EXIT.badConfiguration,
      `${shown}: ${why}; name the configuration with --config FILE or KATAMARI_CONFIG`,
      error,
    );
  }
}

/** Rejects keys that change as numbers: `1.0: 50` would silently become the key "1", which is another version. */
function refuseNumberKeys(document: Document, lines: LineCounter, shown: string): void {
  visit(document, {
    Pair(_, { key }) {
      if (!isScalar(key) || typeof key.value !== 'number' || key.source === String(key.value)) return;
      throw new ExitError(
        EXIT.badConfiguration,
        `${shown}:${lines.linePos(key.range?.[0] ?? 0).line}: found the key ${key.source}, which reads as the number ${key.value}; write "${key.source}"`,
      );
    },
  });
}

function toPlain(document: Document, shown: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 1_000 });
  } catch (error) {
    throw new ExitError(EXIT.badConfiguration, `${shown}:1: ${sentence((error as Error).message)}`, error);
  }
}

function locate(document: Document, steps: readonly PropertyKey[]): { offset: number; source: string | undefined } {
  let node: unknown = document.contents;
  let offset = 0;
  for (const step of steps) {
    if (isAlias(node)) node = node.resolve(document);
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(step));
      if (pair === undefined) return { offset, source: undefined };
      offset = (isScalar(pair.key) ? pair.key.range?.[0] : undefined) ?? offset;
      node = pair.value;
    } else if (isSeq(node)) {
      node = node.items[Number(step)];
      offset = (node as { range?: [number] } | undefined)?.range?.[0] ?? offset;
    } else return { offset, source: undefined };
  }
  return { offset, source: isScalar(node) && typeof node.value !== 'string' ? node.source : undefined };
}

function sentence(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

const SYNTAX_WORDS: Readonly<Record<string, string>> = {
  DUPLICATE_KEY: 'this key occurs twice in one map, expected once',
  MULTIPLE_DOCS: 'found a second document, expected one',
  TAB_AS_INDENT: 'found a tab as indentation, expected spaces',
};

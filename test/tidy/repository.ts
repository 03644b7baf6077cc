// The files of the repository, for the tests in this folder: without build output, installed packages and local
// scratch files.

import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { REPOSITORY } from '../kit/tools/repository.ts';

/** Top-level folders with the modules of the product and its samples. */
export const MODULE_FOLDERS: readonly string[] = [
  'core',
  'client',
  'chassis-sdk',
  'content-servers',
  'faceplates',
  'services',
  'examples',
];

const CORE = ['core', 'core/thrift', 'core/thrift/encodings', 'core/idl', 'core/rpc', 'core/link', 'core/http'];

/** Every module, and the modules that it may import. Keep ARCHITECTURE.md in step. */
export const MODULES: Readonly<Record<string, readonly string[]>> = {
  core: [],
  'core/thrift': ['core'],
  'core/thrift/encodings': ['core', 'core/thrift'],
  'core/idl': ['core', 'core/thrift'],
  'core/rpc': ['core', 'core/thrift', 'core/idl'],
  'core/link': ['core', 'core/thrift', 'core/thrift/encodings', 'core/rpc'],
  'core/http': ['core', 'core/link', 'core/rpc'],
  client: CORE,
  'chassis-sdk/typescript': CORE,
  'content-servers/text': [...CORE, 'chassis-sdk/typescript'],
  'content-servers/map-file': [...CORE, 'chassis-sdk/typescript'],
  'faceplates/kit': CORE,
  'faceplates/thrift': [...CORE, 'faceplates/kit'],
  'faceplates/json-rpc': [...CORE, 'faceplates/kit'],
  'faceplates/web': [...CORE, 'faceplates/kit'],
  'faceplates/stats': [...CORE, 'faceplates/kit'],
  'services/audit': CORE,
  'services/verdict': CORE,
  'services/consul': CORE,
  'services/consul-agent': CORE,
  'services/mesh': [...CORE, 'services/consul'],
  'services/content': [...CORE, 'services/consul', 'services/mesh'],
  'services/gather': [...CORE, 'services/consul', 'services/mesh'],
  'services/access': [...CORE, 'services/consul', 'services/mesh'],
  'services/config': [...CORE, 'services/access', 'services/mesh', 'faceplates/thrift', 'faceplates/web'],
  'services/resource-manager': [...CORE, 'services/consul', 'services/mesh'],
  'services/master': [...CORE, 'services/audit', 'services/consul', 'services/mesh', 'services/verdict'],
  'services/process': [
    ...CORE,
    'faceplates/kit',
    'faceplates/thrift',
    'faceplates/json-rpc',
    'faceplates/web',
    'faceplates/stats',
    'services/audit',
    'services/consul',
    'services/consul-agent',
    'services/access',
    'services/mesh',
    'services/config',
    'services/content',
    'services/gather',
    'services/resource-manager',
    'services/master',
  ],
  'services/cli': [
    ...CORE,
    'content-servers/text',
    'services/access',
    'services/audit',
    'services/consul',
    'services/mesh',
    'services/config',
    'services/master',
    'services/process',
  ],
  /** Samples import the public names: katamari, katamari/client, katamari/faceplate. */
  examples: [],
};

/** The module that a file is in: the longest matching name; '' for none. */
export function moduleOf(file: string): string {
  const modules = Object.keys(MODULES).filter((module) => file.startsWith(`${module}/`));
  return modules.sort((a, b) => b.length - a.length)[0] ?? '';
}

export interface Import {
  readonly from: string;
  /** The imported file, as a path from the root of the repository. */
  readonly to: string;
}

/** Every relative import of a file, type imports and dynamic imports included. */
export function importsOf(file: string): Import[] {
  const named =
    /(?:^|\n)\s*(?:import|export)\b[^'";]*?\bfrom\s*['"](\.[^'"]+)|\bimport\(\s*['"](\.[^'"]+)|(?:^|\n)import\s*['"](\.[^'"]+)/g;
  return [...read(file).matchAll(named)].map((found) => ({
    from: file,
    to: path.posix.join(path.posix.dirname(file), found[1] ?? found[2] ?? found[3] ?? ''),
  }));
}

/** Files below a folder of the repository, as sorted paths from its root with `/`. */
export function filesBelow(folder: string): string[] {
  return readdirSync(path.join(REPOSITORY, folder), { withFileTypes: true })
    .filter(({ name }) => name !== 'node_modules')
    .flatMap((entry) => {
      const below = folder === '' ? entry.name : `${folder}/${entry.name}`;
      return entry.isDirectory() ? filesBelow(below) : [below];
    })
    .sort();
}

/** Source files of the named folders. */
export function sourcesOf(folders: readonly string[]): string[] {
  return folders.flatMap(filesBelow).filter((file) => /\.(ts|js|mjs)$/.test(file));
}

/** Markdown pages: those in the root and those in docs/. */
export function pages(): string[] {
  const inRoot = readdirSync(REPOSITORY).filter((name) => name.endsWith('.md'));
  return [...inRoot, ...filesBelow('docs').filter((file) => file.endsWith('.md'))];
}

export function read(file: string): string {
  return readFileSync(path.join(REPOSITORY, file), 'utf8');
}

/** A line of text in a file. */
export interface Line {
  readonly file: string;
  /** Line number, from 1. */
  readonly line: number;
  readonly text: string;
}

/** The comments of a source file, line by line. A trailing comment starts at its `//` or `#`. */
export function commentsOf(file: string, source: string): Line[] {
  const found: Line[] = [];
  const hasHash = /\.(py|rb|sh|ya?ml)$|Dockerfile$/.test(file);
  let isInBlock = false;
  for (const [index, text] of source.split('\n').entries()) {
    const add = (part: string): number => found.push({ file, line: index + 1, text: part });
    const trimmed = text.trim();
    if (hasHash) {
      if (/^#(?!!)/.test(trimmed)) add(text);
    } else if (isInBlock || trimmed.startsWith('/*')) {
      add(text);
      isInBlock = !trimmed.includes('*/');
    } else if (trimmed.startsWith('//')) add(text);
    else {
      // A trailing comment. Two slashes inside a string, as in a URL, have no space before them.
      const behind = /\s(\/\/ .*)$/.exec(text)?.[1];
      if (behind !== undefined) add(behind);
    }
  }
  return found;
}

/** The prose of a page, line by line, without code blocks and tables. Links count as their text. */
export function proseOfPage(page: string, markdown: string): Line[] {
  let isCode = false;
  return markdown.split('\n').flatMap((text, index) => {
    if (/^\s*```/.test(text)) {
      isCode = !isCode;
      return [];
    }
    if (isCode || text.trim() === '' || text.trim().startsWith('|')) return [];
    return [{ file: page, line: index + 1, text: text.replaceAll(/\]\([^)\s]*\)/g, ']') }];
  });
}

// The search sample, with the commands of docs/samples.md: this repository's own pages become an index of a mesh, and
// both clients print the same hits.

import { execFile } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { scriptCommand } from '../../core/mod.ts';
import { freePorts } from '../kit/consul/consul.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { runKatamari, startKatamari, type Running } from '../kit/tools/run.ts';
import { toolPath } from '../kit/tools/tools.ts';

const SAMPLE = path.join(REPOSITORY, 'examples', 'search');
const PATIENCE_MS = 120_000;
const run = promisify(execFile);

interface Section {
  readonly path: string;
  readonly heading: string;
  readonly line: number;
  readonly text: string;
}

let folder: string;
let mesh: Running | undefined;
let port = 0;
let sections: readonly Section[] = [];

/** Runs a program of the sample on this runtime. */
async function sample(file: string, args: readonly string[], cwd: string): Promise<{ code: number; stdout: string }> {
  const [program = '', ...first] = scriptCommand(path.join(SAMPLE, file));
  return await ended(program, [...first, ...args], cwd);
}

async function python(args: readonly string[]): Promise<{ code: number; stdout: string }> {
  return await ended('/usr/bin/python3', ['search.py', ...args], folder);
}

async function ended(program: string, args: readonly string[], cwd: string): Promise<{ code: number; stdout: string }> {
  try {
    const { stdout } = await run(program, args, { cwd, maxBuffer: 64 * 1024 * 1024 });
    return { code: 0, stdout };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    if (stderr !== '') throw error;
    return { code, stdout };
  }
}

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-search-sample-'));
  symlinkSync(path.join(REPOSITORY, 'docs'), path.join(folder, 'docs'));
  const { stdout } = await sample('sections.ts', ['docs'], folder);
  sections = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Section);
  writeFileSync(path.join(folder, 'sections.ndjson'), stdout);
  const built = await runKatamari(['index', 'build', 'sections.ndjson', '--out', 'docs-index'], { cwd: folder });
  expect(built.stdout).toContain(`Built 4 shards of ${sections.length} documents`);
  const ports = await freePorts(5);
  const flags = ['thrift', 'json-rpc', 'stats', 'link', 'consul'].flatMap((name, at) => [
    `--${name}-port`,
    String(ports[at]),
  ]);
  [port = 0] = ports;
  mesh = startKatamari(['up', '--index', 'docs=./docs-index', '--data-dir', './data', ...flags], { cwd: folder });
  await mesh.says(/TextSearch@1\.0\.0: 2 of 2 ready/);
  await mesh.says(new RegExp(`docs@1.0.0 is served: ${sections.length} entries in 4 shards`));
  copyFileSync(path.join(SAMPLE, 'search.py'), path.join(folder, 'search.py'));
  await run(toolPath('thrift'), ['-nowarn', '-r', '--gen', 'py', path.join(REPOSITORY, 'idl/search.thrift')], {
    cwd: folder,
  });
}, PATIENCE_MS);

afterAll(async () => {
  mesh?.signal('SIGTERM');
  await mesh?.ended;
  rmSync(folder, { recursive: true, force: true });
}, PATIENCE_MS);

describe('The search sample', () => {
  test('makes a document of each section, and takes comments in code for text', () => {
    const pages = readdirSync(path.join(REPOSITORY, 'docs')).filter((name) => name.endsWith('.md'));
    expect(new Set(sections.map((section) => section.path))).toEqual(new Set(pages.map((name) => `docs/${name}`)));
    for (const { path: page, heading, line } of sections) {
      const text = readFileSync(path.join(REPOSITORY, page), 'utf8').split('\n')[line - 1];
      expect(text?.replace(/^#+ /, '')).toBe(heading);
    }
    expect(sections.filter(({ text }) => /^# /m.test(text)).length).toBeGreaterThan(0);
  });

  for (const query of ['backpressure', 'deadline OR overloaded', 'heading:index', '"embedded agent"']) {
    test(`prints the same pages in TypeScript and Python for ${query}`, { timeout: PATIENCE_MS }, async () => {
      const { code, stdout } = await sample('search.ts', [query, String(port)], folder);
      expect(code).toBe(0);
      expect((await python([query, String(port)])).stdout).toBe(stdout);
      const [first = '', ...lines] = stdout.trim().split('\n');
      const total = Number(/^(\d+) sections match$/.exec(first)?.[1]);
      expect(total).toBe(sections.filter((section) => matches(section, query)).length);
      const hits = lines.filter((line) => !line.startsWith('page'));
      expect(hits).toHaveLength(Math.min(6, total));
      expect(new Set(hits).size).toBe(hits.length);
      const scores = hits.map((line) => Number(/^ {2}(\S+) {2}/.exec(line)?.[1]));
      expect(scores).toEqual([...scores].sort((a, b) => b - a));
      for (const line of hits) {
        const [, page = '', at, heading] = /^ {2}\S+ {2}(\S+):(\d+) {2}(.*)$/.exec(line) ?? [];
        const section = sections.find((one) => one.path === page && one.line === Number(at));
        expect(section?.heading).toBe(heading);
        expect(matches(section as Section, query)).toBe(true);
      }
    });
  }

  test('explains a query that makes no sense', { timeout: PATIENCE_MS }, async () => {
    const own = await sample('search.ts', ['"mesh', String(port)], folder);
    expect(own).toEqual({ code: 1, stdout: expect.stringMatching(/^Bad query: .+\n$/) as string });
    expect(await python(['"mesh', String(port)])).toEqual(own);
  });

  test('is in docs/samples.md with these commands', () => {
    const page = readFileSync(path.join(REPOSITORY, 'docs/samples.md'), 'utf8');
    expect(page).toContain('katamari index build sections.ndjson --out docs-index');
    expect(page).toContain('katamari up --index docs=./docs-index');
  });
});

/** Whether a section has the words, found without an index. */
function matches({ path: page, heading, text }: Section, query: string): boolean {
  const words = (of: string): string => ` ${(of.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []).join(' ')} `;
  const whole = [page, heading, text].map(words);
  const has = (phrase: string, among = whole): boolean => among.some((one) => one.includes(` ${phrase} `));
  const field = /^heading:(.*)/.exec(query)?.[1];
  if (field !== undefined) return has(field, [words(heading)]);
  return query
    .replaceAll('"', '')
    .split(' OR ')
    .some((phrase) => has(phrase));
}

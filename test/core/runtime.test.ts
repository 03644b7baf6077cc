import { execFile } from 'node:child_process';
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runtimeName, runtimeVersion, scriptCommand } from '../../core/mod.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-runtime-'));
  mkdirSync(path.join(folder, 'dist', 'sub'), { recursive: true });
  mkdirSync(path.join(folder, 'sub'));
  writeFileSync(path.join(folder, 'package.json'), '{"type":"module"}');
  const text =
    'console.log(process.versions.bun ?? process.versions.deno ?? process.versions.node, process.argv[2]);\n';
  for (const name of ['plain.js', 'sub/built.ts', 'dist/sub/built.js', 'beside.ts', 'beside.js']) {
    writeFileSync(path.join(folder, name), text);
  }
  writeFileSync(path.join(folder, 'never-built.ts'), text);
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('scriptCommand()', () => {
  for (const name of ['plain.js', 'sub/built.ts', 'beside.ts']) {
    test(`starts ${name} on this same runtime, with the arguments that follow`, async () => {
      const file = path.join(folder, name);
      for (const script of [file, pathToFileURL(file), String(pathToFileURL(file))]) {
        const [command = '', ...args] = scriptCommand(script);
        const { stdout } = await promisify(execFile)(command, [...args, 'argument']);
        expect(stdout).toBe(`${runtimeVersion()} argument\n`);
      }
    });
  }

  test('says what to do when this runtime needs a compiled file and there is none', () => {
    const file = path.join(folder, 'never-built.ts');
    const canStrip = typeof (process.features as { typescript?: unknown }).typescript === 'string';
    if (runtimeName() === 'node' && !canStrip) expect(() => scriptCommand(file)).toThrow('run "npm run build" first');
    else expect(scriptCommand(file)).toContain(file);
  });
});

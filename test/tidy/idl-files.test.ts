// IDL files are for Apache's Thrift compiler, too: it makes module names of their names, and its generators of the
// languages with a kit or a sample take them.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { toolPath } from '../kit/tools/tools.ts';
import { filesBelow, MODULE_FOLDERS } from './repository.ts';

const GENERATORS = ['py', 'rb', 'cpp:no_skeleton', 'java:generated_annotations=suppress', 'js:node,es6'];
const COMPILE_MS = 120_000;

const idlsBelow = (folder: string): string[] => filesBelow(folder).filter((file) => file.endsWith('.thrift'));
const shipped = ['idl', ...MODULE_FOLDERS].flatMap(idlsBelow);

/** Files whose name cannot be the name of a module. */
function misnamed(files: readonly string[]): string[] {
  return files.filter((file) => !/^[a-z]\w*\.thrift$/.test(path.basename(file)));
}

describe('An IDL file', () => {
  test('has a name that can be the name of a module', () => {
    expect(shipped.length).toBeGreaterThan(20);
    expect(misnamed([...shipped, ...['bench', 'test'].flatMap(idlsBelow)])).toEqual([]);
    expect(misnamed(['idl/text-search.thrift', 'idl/text_search.thrift', 'idl/3d.thrift'])).toEqual([
      'idl/text-search.thrift',
      'idl/3d.thrift',
    ]);
  });

  test("is compiled by Apache's generators, into Python that Python can read", { timeout: COMPILE_MS }, () => {
    const out = mkdtempSync(path.join(tmpdir(), 'katamari-idl-'));
    try {
      for (const file of shipped) {
        for (const generator of GENERATORS) {
          const args = ['-nowarn', '-r', '-out', out, '--gen', generator, path.join(REPOSITORY, file)];
          execFileSync(toolPath('thrift'), args, { stdio: 'pipe' });
        }
      }
      execFileSync('/usr/bin/python3', ['-m', 'compileall', '-q', out], { stdio: 'pipe' });
    } finally {
      rmSync(out, { recursive: true, force: true });
    }
  });
});

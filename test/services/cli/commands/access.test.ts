// `katamari access` against a mesh in this process.

import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestMesh, type TestMesh } from '../../../kit/mesh/mesh.ts';
import type { RunResult } from '../../../kit/tools/run.ts';
import { runInside } from '../run-inside.ts';

let mesh: TestMesh;
let cwd: string;
beforeAll(async () => {
  cwd = mkdtempSync(path.join(tmpdir(), 'katamari-access-'));
  mesh = await startTestMesh([]);
});
afterAll(async () => {
  await mesh.end();
  rmSync(cwd, { recursive: true, force: true });
});

function access(words: readonly string[], input = ''): Promise<RunResult> {
  const { jsonRpc } = mesh.mesh.addresses;
  return runInside(['access', ...words, '--mesh', jsonRpc, '--token', mesh.mesh.adminToken], { cwd, input });
}

const POLICY = 'rules:\n  - { who: alice, may: Orders.get }\n  - { who: "role:boss", may: "*" }\n';

test('shows, applies, explains, lists and removes the policy', async () => {
  expect(await access(['show'])).toMatchObject({
    code: 0,
    stdout: '',
    stderr: expect.stringContaining('no access policy') as unknown,
  });
  writeFileSync(path.join(cwd, 'policy.yaml'), POLICY);
  expect(await access(['apply', 'policy.yaml'])).toMatchObject({
    code: 0,
    stdout: 'Version 1 of the access policy: in force.\n',
  });
  expect(await access(['apply', '-'], POLICY)).toMatchObject({
    code: 0,
    stdout: 'Version 1 of the access policy: unchanged.\n',
  });
  expect(await access(['show'])).toMatchObject({
    code: 0,
    stdout: POLICY,
    stderr: expect.stringContaining('version 1, by admin') as unknown,
  });
  const allowed = await access(['explain', 'alice', 'Orders@1.0.0.get']);
  expect(allowed).toMatchObject({
    code: 0,
    stdout: 'allowed: version 1 of the policy allows Orders@1.0.0 by rules[0] (line 2)\n',
  });
  const denied = await access(['explain', 'alice', 'Orders.put']);
  expect(denied.code).toBe(1);
  expect(denied.stdout).toMatch(
    /^denied: version 1 of the policy has no rule that allows Orders\.put; the rules for this caller are rules\[0\]/,
  );
  expect(await access(['explain', 'eve', 'Orders@1.0.0.put', '--roles', 'boss'])).toMatchObject({ code: 0 });
  expect(await access(['explain', 'anonymous', 'Orders@1.0.0.get'])).toMatchObject({ code: 1 });
  expect(await access(['explain', 'alice', 'Orders'])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('expected Service.method') as unknown,
  });
  expect(await access(['apply', '-'], 'rules: []')).toMatchObject({ code: 0 });
  const history = await access(['history']);
  expect(history.stdout.split('\n').map((line) => line.trim().split(/\s+/)[0])).toEqual(['VERSION', '2', '1', '']);
  expect(await access(['show', '--version', '1'])).toMatchObject({ code: 0, stdout: POLICY });
  expect(await access(['show', '--version', '7'])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('versions of the policy are 2, 1') as unknown,
  });
  expect(await access(['remove'])).toMatchObject({ code: 0, stdout: 'Version 3 of the access policy: removed.\n' });
  expect(await access(['show'])).toMatchObject({ stderr: expect.stringContaining('Version 3 removed it') as unknown });
});

test('names the line of a problem, before it asks a mesh', async () => {
  const refused = await access(['apply', '-'], 'rules:\n  - { who: alice, may: Orders }\n');
  expect(refused.code).toBe(78);
  expect(refused.stderr).toContain('-: line 2: rules[0].may: found "Orders", expected Service.method');
  expect(await access(['apply', 'absent.yaml'])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('cannot be read') as unknown,
  });
});

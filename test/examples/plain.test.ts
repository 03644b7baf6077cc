// The sample of docs/plain-servers.md, run as the page describes: two servers without Katamari code in one mesh.

import { execFileSync } from 'node:child_process';
import { appendFileSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { jsonRpc, type JsonRpcAnswer } from '../kit/mesh/mesh.ts';
import { loadConfig } from '../../services/config/mod.ts';
import type { RunningMesh } from '../../services/process/mod.ts';
import { startMesh } from '../../services/process/process.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { toolPath } from '../kit/tools/tools.ts';

const SAMPLE = path.join(REPOSITORY, 'examples/plain');
const directory = mkdtempSync(path.join(tmpdir(), 'katamari-plain-'));
let mesh: RunningMesh;
beforeAll(async () => {
  cpSync(SAMPLE, directory, { recursive: true });
  for (const language of ['py', 'rb'])
    execFileSync(toolPath('thrift'), ['--gen', language, 'words.thrift'], { cwd: directory });
  const file = path.join(directory, 'katamari.yaml');
  appendFileSync(file, readFileSync(path.join(directory, 'ruby.yaml'), 'utf8').replace(/^deployments:\n/m, ''));
  appendFileSync(file, 'dataDir: data\nports: { thrift: 0, jsonRpc: 0, stats: 0, link: 0, consul: 0 }\n');
  mesh = await startMesh(loadConfig({ file, env: {}, cwd: directory, flags: [] }).config, { onEvent: () => undefined });
  await mesh.whenReady;
});
afterAll(async () => {
  await mesh.close();
  rmSync(directory, { recursive: true });
});

const call = (method: string, params: object): Promise<JsonRpcAnswer> =>
  jsonRpc(`${mesh.addresses.jsonRpc}/rpc`, method, params);

describe('The sample of plain servers', () => {
  test.each(['1.0.0', '2.0.0'])('has version %s as a pool of 4 that are well', async (version) => {
    const pool = mesh.status().pools.find(({ id }) => id === `Words@${version}`);
    expect([pool?.alive, pool?.restartsByReason]).toEqual([4, {}]);
    const text = 'A rose is a rose';
    expect((await call(`Words@${version}.tally`, { text })).result).toEqual({ a: 2, rose: 2, is: 1 });
    expect((await call(`Words@${version}.tally`, { text: ' ' })).error).toMatchObject({
      code: -32_050,
      data: { exception: 'NoWords', why: 'the text is empty' },
    });
    expect((await call(`Words@${version}.ready`, {})).error).toBeUndefined();
    const { result } = await call(`Words@${version}.pid`, {});
    expect(pool?.resources.map(({ pid }) => pid)).toContain(result);
  });

  test('is shown unchanged in docs/plain-servers.md', () => {
    const page = readFileSync(path.join(REPOSITORY, 'docs/plain-servers.md'), 'utf8');
    const files = readdirSync(SAMPLE).filter((name) => /\.(thrift|py|rb|yaml)$/.test(name));
    expect(files.length).toBe(5);
    const other = files.filter((name) => !page.includes(`\n${readFileSync(path.join(SAMPLE, name), 'utf8')}\`\`\``));
    expect(other).toEqual([]);
  });
});

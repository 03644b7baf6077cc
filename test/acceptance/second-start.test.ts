// What `katamari up` logs when it starts again with the data of an earlier run.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { fixture } from '../kit/mesh/mesh.ts';
import { startKatamari } from '../kit/tools/run.ts';

test('A mesh that starts again does not report that its embedded Consul is lost', async () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'katamari-again-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const deployments = [{ service: 'Work', version: '1.0.0', command: fixture('work.ts') }];
  writeFileSync(path.join(directory, 'katamari.yaml'), JSON.stringify({ deployments }));
  const ports = ['thrift', 'json-rpc', 'stats', 'link', 'consul'].flatMap((port) => [`--${port}-port`, '0']);
  for (const start of ['first', 'second']) {
    const up = startKatamari(['up', '--data-dir', path.join(directory, 'data'), ...ports], { cwd: directory });
    onTestFinished(() => void (up.child.exitCode ?? up.child.kill('SIGKILL')));
    await up.says(/Ctrl-C drains and stops/);
    up.signal('SIGINT');
    const { stdout, stderr } = await up.ended;
    expect([start, stdout + stderr]).toEqual([start, expect.not.stringContaining('consul lost')]);
  }
}, 60_000);

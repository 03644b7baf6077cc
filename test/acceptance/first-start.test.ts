import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { fixture, startTestMesh, work, type TestMesh } from '../kit/mesh/mesh.ts';
import { until } from '../kit/tools/wait.ts';

let mesh: TestMesh | undefined;
let directory = '';
afterEach(async () => {
  await mesh?.end();
  mesh = undefined;
  rmSync(directory, { recursive: true, force: true });
});

/** A command that fails several times and then runs the test chassis; a file counts the attempts. */
function failsAtFirst(times: number): { command: string[]; tries: () => number } {
  directory = mkdtempSync(path.join(tmpdir(), 'katamari-tries-'));
  const file = path.join(directory, 'tries');
  writeFileSync(file, '');
  const script = `echo >>"$0"; test "$(wc -l <"$0")" -gt ${times} || { echo licence server not up yet; exit 7; }; exec ${fixture('work.ts').join(' ')}`;
  return {
    command: ['/bin/sh', '-c', script, file],
    tries: () => readFileSync(file, 'utf8').length,
  };
}

describe('A chassis that fails its first starts', () => {
  test('is restarted with growing pauses until it serves, and a waiting call is answered', async () => {
    const { command, tries } = failsAtFirst(3);
    const restart = { backoffFirst: '50ms', backoffMax: '10s' };
    const { events, ...up } = (mesh = await startTestMesh([work({ command, restart })]));
    const pauses = await until('three pauses', () => {
      const found = events.filter(({ kind }) => kind === 'resource_backing_off');
      return found.length >= 3 ? found : undefined;
    });
    expect(pauses.map(({ text }) => text)).toEqual(
      [50, 100, 200].map((ms) => `next start in ${ms} ms: exited with status 7`),
    );
    await up.mesh.whenReady;
    expect((await up.call('Work.say', { text: 'at last' })).result).toBe('at last');
    expect(tries()).toBe(4);
    const ended = events.filter(({ kind }) => kind === 'resource_ended');
    expect(ended.map(({ text, lines }) => [text, lines])).toEqual(
      Array.from({ length: 3 }, () => ['start_failed: exited with status 7', ['licence server not up yet']]),
    );
    expect(up.pool('Work@1.0.0').restartsByReason).toEqual({ start_failed: 3 });
  });

  test('does not delay others, and never enters its pool', async () => {
    const { command } = failsAtFirst(1_000);
    const restart = { backoffFirst: '20ms', backoffMax: '100ms' };
    const up = (mesh = await startTestMesh([
      work({ version: '1.0.0', count: 2 }),
      work({ version: '2.0.0', command, restart }),
    ]));
    await until('the good ones', () => up.pool('Work@1.0.0').alive === 2);
    await until('five tries', () => (up.pool('Work@2.0.0').restartsByReason.start_failed ?? 0) >= 5);
    for (let n = 0; n < 10; n++) {
      const { headers, error } = await up.call('Work.say', { text: 'x' });
      expect([headers.get('katamari-version'), error]).toEqual(['1.0.0', undefined]);
    }
    expect((await up.call('Work@2.0.0.say', { text: 'x' })).error?.message).toContain('none is up');
    const { stats } = up.mesh.addresses;
    expect((await fetch(`${stats}/status/Work@2.0.0/1`)).status).toBe(503);
    expect((await fetch(`${stats}/readyz`)).status).toBe(503);
  });
});

// Code and IDL change on disk under the same version. Living copies keep the interface bound: a copy with another one
// is refused and tried again. Once none is alive that speaks it, the new copies bind theirs.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { fixture, startTestMesh, work, type TestMesh } from '../kit/mesh/mesh.ts';
import { until } from '../kit/tools/wait.ts';

let mesh: TestMesh;
let directory: string;
afterEach(async () => {
  await mesh?.end();
  rmSync(directory, { recursive: true, force: true });
});

describe('An interface that changes on disk under the same version', () => {
  test('is bound by the new copy when the only old one dies', async () => {
    const change = await up(1);
    change();
    await mesh.call('Work.die', { status: 1 });
    await until('the new interface', async () => (await mesh.call('Work.say', { text: 7 })).result === '7');
    expect(events('resource_refused')).toEqual([]);
    expect(events('pool_gone')).toEqual([
      expect.stringMatching(/^Work@1\.0\.0: no living copy speaks its interface any more.*\n/),
    ]);
    const pools = mesh.mesh.status().pools;
    expect(pools.map(({ id, alive, wanted }) => [id, alive, wanted])).toEqual([['Work@1.0.0', 1, 1]]);
    // The interface as a whole is the new one.
    expect((await mesh.call('Work.pid')).error?.message).toMatch(/has no method "pid"; it has say/);
  });

  test('is refused while one old copy lives, and bound when that one dies too', async () => {
    const change = await up(2);
    change();
    await mesh.call('Work.die', { status: 1 });
    await until('the refusal', () => events('resource_refused').length === 1);
    await until('a second try', () => events('resource_backing_off').length > 1);
    const [refused] = mesh.pool('Work@1.0.0').resources.filter(({ state }) => state !== 'idle');
    expect(refused?.note).toMatch(/its interface differs from that of pool Work@1\.0\.0; give it another version/);
    expect((await mesh.call('Work.say', { text: 'the old one serves' })).result).toBe('the old one serves');
    // Told once, although it is tried again and again.
    expect(events('resource_refused').length).toBe(1);

    await mesh.call('Work.die', { status: 2 });
    await until('both new copies', () => mesh.pool('Work@1.0.0').alive === 2);
    expect((await mesh.call('Work.say', { text: 7 })).result).toBe('7');
    expect(mesh.mesh.status().pools.length).toBe(1);
  });

  test('moves no waiting call to a copy that would misread it', async () => {
    const change = await up(1);
    const running = mesh.call('Work.take', { ms: 60_000 }, { 'katamari-timeout-ms': '10000' });
    await until('the call to run', () => mesh.ledger().length === 1);
    const waiting = mesh.call('Work.say', { text: 'seven' });
    await until('the call to wait', () => mesh.pool('Work@1.0.0').queued === 1);
    change();
    process.kill(mesh.pool('Work@1.0.0').resources[0]?.pid ?? 0, 'SIGKILL');
    expect((await waiting).error).toMatchObject({
      message: 'The interface of Work@1.0.0 has changed; send the call again',
      data: { code: 'draining' },
    });
    expect((await running).error?.data).toMatchObject({ code: 'resource_failed' });
  });
});

/** Starts copies of Work. The returned function changes its code and IDL on disk. */
async function up(count: number): Promise<() => void> {
  directory = mkdtempSync(path.join(tmpdir(), 'katamari-changed-'));
  const flag = path.join(directory, 'changed');
  const script = `[ -e ${flag} ] && exec ${fixture('other-interface.ts').join(' ')}; exec ${fixture('work.ts').join(' ')}`;
  const restart = { backoffFirst: '50ms', backoffMax: '200ms' };
  mesh = await startTestMesh([work({ count, command: ['/bin/sh', '-c', script], restart })]);
  await mesh.mesh.whenReady;
  return () => writeFileSync(flag, '');
}

function events(kind: string): string[] {
  return mesh.events.filter((event) => event.kind === kind).map(({ subject, text }) => `${subject}: ${text}`);
}

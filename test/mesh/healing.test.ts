import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock, type Clock } from '../../core/mod.ts';
import { fixture, isAlive, startTestMesh, work, type TestMesh } from '../kit/mesh/mesh.ts';
import { until } from '../kit/tools/wait.ts';

const meshes: TestMesh[] = [];

async function up(...given: Parameters<typeof startTestMesh>): Promise<TestMesh> {
  const mesh = await startTestMesh(...given);
  meshes.push(mesh);
  return mesh;
}

/** Starts a mesh and waits until every resource of every deployment serves. */
async function ready(...given: Parameters<typeof startTestMesh>): Promise<TestMesh> {
  const mesh = await up(...given);
  await mesh.mesh.whenReady;
  return mesh;
}

afterEach(async () => {
  await Promise.all(meshes.splice(0).map((mesh) => mesh.end()));
});

/** Checks that the call counters of the whole process add up. */
function expectCountersAddUp({ mesh }: TestMesh): void {
  const { accepted, replied, failed, refused, timed_out, cancelled, inFlight } = mesh.status().calls;
  expect(accepted).toBe(replied + failed + refused + timed_out + cancelled + inFlight);
  expect(inFlight).toBe(0);
}

describe('A chassis that crashes', () => {
  test('fails the call inside with resource_failed, and is replaced', async () => {
    const mesh = await ready([work({ count: 1 })]);
    const before = (await mesh.call('Work.pid')).result;
    const failed = await mesh.call('Work.die', { status: 4 });
    expect(failed.status).toBe(502);
    expect(failed.error).toMatchObject({ code: -32004, data: { code: 'resource_failed' } });
    const after = await mesh.call('Work.pid');
    expect(after.result).not.toBe(before);
    expect(mesh.pool('Work@1.0.0').restartsByReason).toEqual({ crashed: 1 });
    expectCountersAddUp(mesh);
  });

  test('has its last output in the event', async () => {
    const mesh = await ready([work()]);
    await mesh.call('Work.lastWords', { lines: ['first', 'out of memory, giving up'] });
    const ended = await until('the report', () => mesh.events.find(({ kind }) => kind === 'resource_ended'));
    expect(ended.text).toContain('exited with status 3');
    expect(ended.lines).toEqual(['first', 'out of memory, giving up']);
    expect(mesh.lines).toContain('Work@1.0.0/1 out of memory, giving up');
  });

  test('takes down the processes that it started', async () => {
    const mesh = await ready([work()]);
    const child = (await mesh.call('Work.spawnChild')).result as number;
    expect(isAlive(child)).toBe(true);
    await mesh.call('Work.die', { status: 1 });
    await until('the grandchild to end', () => !isAlive(child));
  });

  test('does not fail an idempotent call, which is retried', async () => {
    const mesh = await ready([work({ count: 2 })]);
    const called = mesh.call('Work.takeAgain', { ms: 1500 });
    const [first = ''] = await until('the call to run', () => (mesh.ledger().length > 0 ? mesh.ledger() : undefined));
    process.kill(Number(first.split(' ')[2]), 'SIGKILL');
    const answer = await called;
    expect(answer.error).toBe(undefined);
    expect(mesh.ledger().length).toBe(2);
    expect(answer.result).toBe(Number(mesh.ledger()[1]?.split(' ')[2]));
  });

  test('fails a call that is not idempotent, which runs once', async () => {
    const mesh = await ready([work({ count: 2 })]);
    const called = mesh.call('Work.take', { ms: 1500 });
    const [first = ''] = await until('the call to run', () => (mesh.ledger().length > 0 ? mesh.ledger() : undefined));
    process.kill(Number(first.split(' ')[2]), 'SIGKILL');
    expect((await called).error?.data).toMatchObject({ code: 'resource_failed' });
    expect(mesh.ledger().length).toBe(1);
  });
});

/**
 * A clock that is slow and has the usual timers. Only quick calls are sent ahead, and by this clock they are quick on a
 * busy machine too.
 */
function slowClock(): Clock {
  const startMs = systemClock.nowMs();
  return { ...systemClock, nowMs: () => startMs + (systemClock.nowMs() - startMs) / 100 };
}

describe('Calls sent ahead to a chassis', () => {
  test('are all answered, even when it is stopped for a while or killed while others wait in it', async () => {
    const mesh = await ready([work({ count: 2, pingTimeout: '1m' })], { timeout: '1m' }, slowClock());
    const failures: unknown[] = [];
    const ranOut = new AbortController();
    let answered = 0;
    const caller = async (): Promise<void> => {
      while (!ranOut.signal.aborted) {
        const { error, result } = await mesh.call('Work.say', { text: 'quick' });
        if (result === 'quick') answered++;
        else failures.push(error);
      }
    };
    const callers = Array.from({ length: 24 }, caller);
    const inLine = (): number => Math.max(...mesh.pool('Work@1.0.0').resources.map(({ inFlight }) => inFlight));
    const some = async (calls: number): Promise<void> => {
      const before = answered;
      await until(`${calls} more answers`, () => answered >= before + calls);
    };
    try {
      await until('calls to be in line', () => inLine() > 2);
      const [first = 0, second = 0] = mesh.mesh.pids();
      process.kill(first, 'SIGSTOP');
      await some(200);
      process.kill(first, 'SIGCONT');
      await until('calls to be in line again', () => inLine() > 2);
      process.kill(second, 'SIGKILL');
      await some(200);
    } finally {
      ranOut.abort();
      await Promise.all(callers);
    }
    expect(failures).toEqual([]);
    expect(mesh.pool('Work@1.0.0').restartsByReason).toEqual({ crashed: 1 });
    expectCountersAddUp(mesh);
  });
});

describe('A chassis that does not stay up', () => {
  test('is restarted with growing pauses and a reason, while others serve', async () => {
    const mesh = await up([
      work(),
      {
        service: 'Other',
        version: '1.0.0',
        command: fixture('dies-at-start.ts'),
        restart: { backoffFirst: '20ms', backoffMax: '1s' },
      },
    ]);
    const pauses = await until('four pauses', () => {
      const found = mesh.events.filter(
        ({ kind, subject }) => kind === 'resource_backing_off' && subject === 'Other@1.0.0/1',
      );
      return found.length >= 4 ? found.map(({ text }) => Number(/in (\d+) ms/.exec(text)?.[1])) : undefined;
    });
    expect(pauses.slice(0, 4)).toEqual([20, 40, 80, 160]);
    const ended = mesh.events.find(({ kind, subject }) => kind === 'resource_ended' && subject === 'Other@1.0.0/1');
    expect(ended?.text).toContain('start_failed: exited with status 7');
    expect(ended?.lines).toContain('no licence file found');
    const { note, alive } = mesh.pool('Other@1.0.0');
    expect([note, alive]).toEqual(['1 of 1 resources do not stay up: exited with status 7', 0]);
    expect((await mesh.call('Work.say', { text: 'serves' })).result).toBe('serves');
  });

  test('is killed when it does not listen in time', async () => {
    const mesh = await up([
      { service: 'Other', version: '1.0.0', command: fixture('never-ready.ts'), startTimeout: '300ms' },
    ]);
    const ended = await until('the report', () => mesh.events.find(({ kind }) => kind === 'resource_ended'));
    expect(ended.text).toMatch(/start_failed: it did not listen at unix:.* and answer within 300 ms/);
  });

  test('is killed when it answers with bytes that are not Thrift', async () => {
    const mesh = await up([{ service: 'Other', version: '1.0.0', command: fixture('answers-garbage.ts') }]);
    const ended = await until('the report', () => mesh.events.find(({ kind }) => kind === 'resource_ended'));
    expect(ended.text).toContain('broke the protocol');
  });

  test('is reported as crashed even if its link closed first during a ping', async () => {
    const command = fixture('dies-when-pinged.ts');
    const mesh = await up([{ service: 'Conformance', version: '1.0.0', command, pingEvery: '100ms' }]);
    const ended = await until('the report', () => mesh.events.find(({ kind }) => kind === 'resource_ended'));
    expect(ended.text).toContain('crashed: exited with status 3');
  });

  test("is reported with the system's error when its program does not exist", async () => {
    const mesh = await up([{ service: 'Other', version: '1.0.0', command: ['/no/such/program'] }]);
    const ended = await until('the report', () => mesh.events.find(({ kind }) => kind === 'resource_failed'));
    expect(ended.text).toMatch(/could not be launched: there is no program/);
    expect(ended.text).toContain('/no/such/program');
  });

  test("is refused, with the difference, when its interface differs from its pool's", async () => {
    // Two copies of one deployment, the second with another IDL, as after a half-finished release.
    const script = `case "$KATAMARI_RESOURCE" in */1) exec ${fixture('work.ts').join(' ')};; *) sleep 1; exec ${fixture('other-interface.ts').join(' ')};; esac`;
    const mixed = await up([work({ count: 2, command: ['/bin/sh', '-c', script] })]);
    const refused = await until('the refusal', () => mixed.events.find(({ kind }) => kind === 'resource_refused'));
    expect(refused.subject).toBe('Work@1.0.0/2');
    expect(refused.text).toContain('its interface differs from that of pool Work@1.0.0; give it another version');
    expect(refused.text).toMatch(/say/);
    const states = (): readonly string[] => mixed.pool('Work@1.0.0').resources.map(({ state }) => state);
    await until('the pause before its next start', () => states().join() === 'idle,backing_off');
    expect((await mixed.call('Work.say', { text: 'the first serves' })).result).toBe('the first serves');
  });

  test('is refused when it describes itself as something else than its deployment', async () => {
    const mesh = await up([work({ env: { WORK_VERSION: '9.9.9' } })]);
    const ended = await until('the report', () => mesh.events.find(({ kind }) => kind === 'resource_failed'));
    expect(ended.text).toContain('it says it is Work@9.9.9, its deployment says Work@1.0.0; make the two agree');
  });
});

describe('A chassis that hangs', () => {
  test("is killed when it exceeds its call's deadline by the grace time, and replaced", async () => {
    const mesh = await ready([work({ hangGrace: '100ms' })], { timeout: '300ms' });
    const before = (await mesh.call('Work.pid')).result as number;
    const hung = await mesh.call('Work.spin', { ms: 60_000 });
    expect(hung.error).toMatchObject({ code: -32003, data: { code: 'timeout', stage: 'service' } });
    await until('the hung one to end', () => !isAlive(before));
    const after = await until('an answer', async () => (await mesh.call('Work.pid')).result);
    expect(after).not.toBe(before);
    expect(mesh.pool('Work@1.0.0').restartsByReason).toEqual({ hung: 1 });
    expectCountersAddUp(mesh);
  });

  test('is killed when it is stopped while idle: pings detect it', async () => {
    const mesh = await ready([work({ pingEvery: '100ms', pingTimeout: '200ms' })]);
    const before = (await mesh.call('Work.pid')).result as number;
    process.kill(before, 'SIGSTOP');
    await until('the stopped one to end', () => !isAlive(before));
    await until('another one', async () => (await mesh.call('Work.pid')).result !== undefined);
    expect(mesh.pool('Work@1.0.0').restartsByReason).toEqual({ ping_failed: 1 });
  });

  test('is not killed for a call that ends within the grace time', async () => {
    const mesh = await ready([work({ hangGrace: '5s' })]);
    const before = (await mesh.call('Work.pid')).result as number;
    const late = await mesh.call('Work.take', { ms: 600 }, { 'katamari-timeout-ms': '200' });
    expect(late.error?.data).toMatchObject({ code: 'timeout', stage: 'service' });
    expect((await mesh.call('Work.pid')).result).toBe(before);
  });
});

describe('A chassis that is replaced on purpose', () => {
  test('loses no call in a rolling restart under load', async () => {
    const mesh = await ready([work({ count: 3 })]);
    const before = new Set(mesh.mesh.pids());
    let isRolling = true;
    const failures: unknown[] = [];
    const caller = async (): Promise<number> => {
      let answered = 0;
      while (isRolling) {
        const { error } = await mesh.call('Work.take', { ms: 5 });
        if (error === undefined) answered++;
        else failures.push(error);
      }
      return answered;
    };
    const callers = Array.from({ length: 8 }, caller);
    const rolled = await mesh.call('Katamari.restart', {
      token: mesh.mesh.adminToken,
      serviceName: 'Work',
      version: '',
      resource: '',
    });
    isRolling = false;
    const answered = (await Promise.all(callers)).reduce((sum, one) => sum + one, 0);
    expect(rolled.result).toBe(3);
    expect(failures).toEqual([]);
    expect(answered).toBeGreaterThan(0);
    expect(mesh.mesh.pids().filter((pid) => before.has(pid))).toEqual([]);
    expectCountersAddUp(mesh);
  });

  test('is killed with SIGKILL when it ignores SIGTERM', async () => {
    const mesh = await ready([work({ command: fixture('ignores-sigterm.ts'), stopGrace: '200ms' })]);
    const before = (await mesh.call('Work.pid')).result as number;
    await mesh.call('Katamari.restart', {
      token: mesh.mesh.adminToken,
      serviceName: '',
      version: '',
      resource: 'Work@1.0.0/1',
    });
    await until('the deaf one to end', () => !isAlive(before));
    expect((await mesh.call('Work.pid')).result).not.toBe(before);
  });

  test('continues when its replacement does not start, and the restart reports it', async () => {
    const flag = path.join(mkdtempSync(path.join(tmpdir(), 'katamari-flag-')), 'flag');
    writeFileSync(flag, 'good');
    const script = `test "$(cat "$0")" = broken && exit 9; exec ${fixture('work.ts').join(' ')}`;
    const mesh = await ready([work({ command: ['/bin/sh', '-c', script, flag] })]);
    const before = (await mesh.call('Work.pid')).result;
    writeFileSync(flag, 'broken');
    const rolled = await mesh.call('Katamari.restart', {
      token: mesh.mesh.adminToken,
      serviceName: 'Work',
      version: '1.0.0',
      resource: '',
    });
    expect(rolled.error?.data?.['why']).toContain(
      'the old chassis keep running: Work@1.0.0/1 did not come up: exited with status 9',
    );
    expect((await mesh.call('Work.pid')).result).toBe(before);
    rmSync(path.dirname(flag), { recursive: true });
  });

  test('finishes its last call before it exits when it asks to be retired', async () => {
    const mesh = await ready([work({ count: 1 })]);
    for (let n = 0; n < 3; n++) {
      const pid = (await mesh.call('Work.retire')).result as number;
      expect(pid).toBeGreaterThan(0);
      await until('it to end', () => !isAlive(pid));
    }
    expect(mesh.pool('Work@1.0.0').restartsByReason).toEqual({ retired: 3 });
    expectCountersAddUp(mesh);
  });

  test('is recycled after its maximum number of calls', async () => {
    const mesh = await ready([work({ recycle: { afterCalls: 5 } })]);
    const before = (await mesh.call('Work.pid')).result as number;
    for (let n = 0; n < 6; n++) expect((await mesh.call('Work.say', { text: 'x' })).error).toBe(undefined);
    await until('the worn one to end', () => !isAlive(before));
    expect(mesh.pool('Work@1.0.0').restartsByReason).toEqual({ calls: 1 });
  });

  test('is recycled when it is too old or too large', async () => {
    const mesh = await ready([
      work({ version: '1.0.0', pingEvery: '50ms', recycle: { afterAge: '500ms' } }),
      work({ version: '2.0.0', pingEvery: '50ms', recycle: { memoryMax: '1MiB' } }),
    ]);
    await until('both reasons', () => {
      const reasons = ['Work@1.0.0', 'Work@2.0.0'].map((id) => mesh.pool(id).restartsByReason);
      return (reasons[0]?.age ?? 0) > 0 && (reasons[1]?.memory ?? 0) > 0;
    });
  });
});

describe('The end of the mesh', () => {
  test('ends every chassis and its child processes when it is closed', async () => {
    const mesh = await ready([work({ count: 2 })]);
    const child = (await mesh.call('Work.spawnChild')).result as number;
    const pids = [...mesh.mesh.pids(), child];
    await mesh.mesh.close();
    await until('all to end', () => pids.every((pid) => !isAlive(pid)));
  });

  test('finishes calls in flight when it drains', async () => {
    const mesh = await ready([work({ count: 1 })]);
    const [first, second] = [mesh.call('Work.take', { ms: 400 }), mesh.call('Work.take', { ms: 100 })];
    await until('the first to run', () => mesh.ledger().length > 0);
    await mesh.mesh.drain();
    expect((await first).error).toBe(undefined);
    expect((await second).error).toBe(undefined);
  });
});

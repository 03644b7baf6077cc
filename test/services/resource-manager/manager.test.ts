import { afterEach, describe, expect, test } from 'vitest';
import { fixture } from '../../kit/mesh/mesh.ts';
import { ManagerBench, workDeployment } from '../../kit/mesh/manager-fixture.ts';
import { until } from '../../kit/tools/wait.ts';
import { parseIdl } from '../../../core/idl/mod.ts';
import { systemClock } from '../../../core/mod.ts';

let bench: ManagerBench;

afterEach(async () => {
  await bench.end();
  expect(bench.alive()).toEqual([]);
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('ResourceManager.setDeployments()', () => {
  test('starts new deployments, ends removed ones, and does nothing when nothing changed', async () => {
    bench = new ManagerBench();
    const first = workDeployment({ count: 2 });
    bench.manager.setDeployments('file', [first]);
    await bench.untilServing({ 'Work@1.0.0': 2 });
    const [launches, told] = [bench.launches, bench.told().length];
    // The same with another order of keys, as from another source.
    const again = JSON.parse(JSON.stringify(Object.fromEntries(Object.entries(first).reverse()))) as typeof first;
    bench.manager.setDeployments('file', [again]);
    await turn();
    expect([bench.launches, bench.told().length]).toEqual([launches, told]);
    bench.manager.setDeployments('file', [workDeployment({ version: '2.0.0' })]);
    await bench.untilServing({ 'Work@2.0.0': 1 });
    expect(bench.manager.offers().map(({ id }) => id)).toEqual(['Work@2.0.0']);
    expect(bench.manager.status(() => 0).map(({ id }) => id)).toEqual(['Work@2.0.0']);
  });

  test('lets calls in flight finish, refuses waiting ones, and sends later ones elsewhere', async () => {
    bench = new ManagerBench();
    bench.manager.setDeployments('order', [workDeployment()]);
    await bench.untilServing({ 'Work@1.0.0': 1 });
    const running = bench.ask('take', { ms: 500 });
    await until('the call to run', () => bench.ledger().length === 1);
    const waiting = bench.ask('take', { ms: 1 });
    bench.manager.setDeployments('order', []);
    expect(await waiting).toMatch(/^draining: /);
    expect(await bench.ask('take', { ms: 2 })).toMatch(/^draining: Manager one does not run Work@1\.0\.0 any more/);
    expect(bench.manager.offers()).toEqual([]);
    expect(await running).toBeGreaterThan(0);
    await bench.untilServing({});
    expect(bench.ledger().length).toBe(1);
    await until('it to be forgotten', () => bench.manager.status(() => 0).length === 0);
  });

  test('ends first the copies that do not serve, then the last ones', async () => {
    bench = new ManagerBench();
    bench.manager.setDeployments('file', [workDeployment({ count: 3 })]);
    await bench.untilServing({ 'Work@1.0.0': 3 });
    const pidOf = (name: string): number =>
      bench.manager.status(() => 0)[0]?.resources.find((one) => one.name === name)?.pid ?? 0;
    const kept = [pidOf('Work@1.0.0/2'), pidOf('Work@1.0.0/3')];
    process.kill(pidOf('Work@1.0.0/1'), 'SIGKILL');
    await until('its end to be known', () => bench.told().some((line) => line.startsWith('resource_ended')));
    bench.manager.setDeployments('file', [workDeployment({ count: 2 })]);
    await bench.untilServing({ 'Work@1.0.0': 2 });
    expect(bench.alive().sort()).toEqual(kept.sort());
    bench.manager.setDeployments('file', [workDeployment({ count: 1 })]);
    await bench.untilServing({ 'Work@1.0.0': 1 });
    expect(bench.alive()).toEqual(kept.slice(0, 1));
  });

  test('replaces a changed deployment one copy at a time without losing a call, in the same pool', async () => {
    bench = new ManagerBench();
    bench.manager.setDeployments('file', [workDeployment({ count: 2 })]);
    await bench.untilServing({ 'Work@1.0.0': 2 });
    const before = bench.alive();
    const [offer] = bench.manager.offers();
    let isOver = false;
    const answers: unknown[] = [];
    const caller = (async () => {
      while (!isOver) answers.push(await bench.ask('take', { ms: 5 }));
    })();
    bench.manager.setDeployments('file', [workDeployment({ count: 2, queueMax: 7, env: { WORK_NOTE: 'new' } })]);
    await until('all to be replaced', () => bench.told().some((line) => line.startsWith('rolling_done')));
    isOver = true;
    await caller;
    await bench.untilServing({ 'Work@1.0.0': 2 });
    expect(answers.filter((one) => typeof one !== 'number')).toEqual([]);
    expect(bench.alive().filter((pid) => before.includes(pid))).toEqual([]);
    expect(bench.launches).toBe(4);
    expect(bench.manager.offers()).toEqual([offer]);
    expect(bench.manager.status(() => 0)[0]?.queueMax).toBe(7);
  });

  test('keeps the old copies when the new ones do not start, and tries again after the next change', async () => {
    bench = new ManagerBench();
    bench.manager.setDeployments('file', [workDeployment({ count: 2 })]);
    await bench.untilServing({ 'Work@1.0.0': 2 });
    const before = bench.alive().sort();
    const broken = workDeployment({ count: 2, command: fixture('dies-at-start.ts') });
    bench.manager.setDeployments('file', [broken]);
    await until('the rolling to stop', () => bench.told().some((line) => /^rolling_done .*stopped/.test(line)));
    bench.manager.setDeployments('file', [broken]);
    await turn();
    expect(bench.alive().sort()).toEqual(before);
    // A copy that dies meanwhile restarts with the old deployment.
    process.kill(before[0] ?? 0, 'SIGKILL');
    await until('it to be replaced', () => !bench.alive().includes(before[0] ?? 0));
    await bench.untilServing({ 'Work@1.0.0': 2 });
    expect(bench.told().filter((line) => line.startsWith('rolling_started')).length).toBe(1);
    const launches = bench.launches;
    bench.manager.setDeployments('file', [workDeployment({ count: 2 })]);
    await turn();
    expect(bench.launches).toBe(launches);
    bench.manager.setDeployments('file', [workDeployment({ count: 2, env: { WORK_NOTE: 'better' } })]);
    await until(
      'another rolling',
      () => bench.told().some((line) => line.endsWith('2 resources were replaced')),
      30_000,
    );
    await bench.untilServing({ 'Work@1.0.0': 2 });
  }, 90_000);

  test('gives up a hanging replacement as soon as the deployment changes again', async () => {
    bench = new ManagerBench();
    bench.manager.setDeployments('file', [workDeployment()]);
    await bench.untilServing({ 'Work@1.0.0': 1 });
    const [old] = bench.alive();
    bench.manager.setDeployments('file', [workDeployment({ command: fixture('never-ready.ts') })]);
    await until('the new one to be launched', () => bench.launches === 2);
    bench.manager.setDeployments('file', [workDeployment()]);
    await bench.untilServing({ 'Work@1.0.0': 1 });
    expect(bench.alive()).toEqual([old]);
    bench.manager.setDeployments('file', [workDeployment({ command: fixture('never-ready.ts') })]);
    bench.manager.setDeployments('file', [workDeployment({ env: { WORK_NOTE: 'third' } })]);
    await until('it to be replaced', () => !bench.alive().includes(old ?? 0));
    await bench.untilServing({ 'Work@1.0.0': 1 });
  });

  test('starts the new deployment at once when no copy of the old one has started', async () => {
    bench = new ManagerBench();
    bench.manager.setDeployments('file', [workDeployment({ count: 2, command: fixture('never-ready.ts') })]);
    await until('a launch', () => bench.launches > 0);
    bench.manager.setDeployments('file', [workDeployment({ count: 2 })]);
    await bench.untilServing({ 'Work@1.0.0': 2 });
    expect(bench.told().filter((line) => line.startsWith('rolling'))).toEqual([]);
  });

  test('prefers the file where file and assignment conflict, reports it once, and follows the assignment otherwise', async () => {
    bench = new ManagerBench();
    bench.manager.setDeployments('file', [workDeployment({ count: 1 })]);
    bench.manager.setDeployments('order', [workDeployment({ count: 3 }), workDeployment({ version: '2.0.0' })]);
    bench.manager.setDeployments('order', [workDeployment({ count: 4 }), workDeployment({ version: '2.0.0' })]);
    await bench.untilServing({ 'Work@1.0.0': 1, 'Work@2.0.0': 1 });
    expect(bench.told().filter((line) => line.startsWith('order_refused Work@1.0.0')).length).toBe(1);
    bench.manager.setDeployments('order', [workDeployment({ count: 2 })]);
    bench.manager.setDeployments('file', []);
    await bench.untilServing({ 'Work@1.0.0': 2 });
  });

  test('moves waiting calls to the new pool when a changed deployment has other details', async () => {
    bench = new ManagerBench();
    bench.manager.setDeployments('file', [workDeployment()]);
    await bench.untilServing({ 'Work@1.0.0': 1 });
    const running = bench.ask('take', { ms: 3_000 });
    await until('the call to run', () => bench.ledger().length === 1);
    const waiting = bench.ask('take', { ms: 1 });
    bench.manager.setDeployments('file', [workDeployment({ tags: ['new'] })]);
    expect(await waiting).toBeGreaterThan(0);
    expect(await running).toBeGreaterThan(0);
    await bench.untilServing({ 'Work@1.0.0': 1 });
    expect(bench.manager.offers().map(({ details }) => details.tags)).toEqual([['new']]);
  });
});

describe('ResourceManager.setDrained()', () => {
  test('ends the copies of the file and starts them again, and leaves assigned copies to the leader', async () => {
    bench = new ManagerBench();
    bench.manager.setDeployments('file', [workDeployment({ count: 2 })]);
    bench.manager.setDeployments('order', [workDeployment({ version: '2.0.0' })]);
    await bench.untilServing({ 'Work@1.0.0': 2, 'Work@2.0.0': 1 });
    const running = bench.ask('take', { ms: 300 });
    await until('the call to run', () => bench.ledger().length === 1);
    bench.manager.setDrained(true);
    expect(await bench.ask('pid')).toMatch(/^draining: /);
    expect(await running).toBeGreaterThan(0);
    await bench.untilServing({ 'Work@2.0.0': 1 });
    // Changes of the file in the meantime apply when the drain ends.
    bench.manager.setDeployments('file', [workDeployment({ count: 1 })]);
    await bench.untilServing({ 'Work@2.0.0': 1 });
    bench.manager.setDrained(false);
    await bench.untilServing({ 'Work@1.0.0': 1, 'Work@2.0.0': 1 });
  });
});

describe('ResourceManager.dispatch()', () => {
  test('queues a call until the first chassis is up, within the queue limit and its deadline', async () => {
    bench = new ManagerBench();
    bench.manager.setDeployments('file', [workDeployment({ queueMax: 2 })]);
    const early = Promise.all([bench.ask('say', { text: 'first' }), bench.ask('say', { text: 'second' })]);
    expect(await bench.ask('say', { text: 'third' })).toMatch(/^overloaded: .*limit is 2/);
    expect(await bench.ask('say', { text: 'no queue' }, { doNotQueue: true })).toMatch(/^overloaded: .*not to wait/);
    expect(await early).toEqual(['first', 'second']);
    const { context } = await bench.reply('say', { text: 'later' });
    expect(context.queueUs).toBeLessThan(1_000_000);
  });

  test('ends waiting calls at their deadline, with their caller, and with their deployment', async () => {
    bench = new ManagerBench();
    bench.manager.setDeployments('file', [workDeployment({ command: fixture('never-ready.ts') })]);
    const gone = new AbortController();
    const cancelled = bench.ask('pid', {}, { signal: gone.signal });
    const late = bench.ask('pid', {}, { deadlineMs: systemClock.nowMs() + 50 });
    const rest = bench.ask('pid');
    gone.abort();
    expect(await cancelled).toMatch(/^cancelled: /);
    expect(await late).toMatch(/^timeout: Waited .* ms for the first chassis of Work@1\.0\.0/);
    bench.manager.setDeployments('file', []);
    expect(await rest).toMatch(/^draining: /);
    await bench.untilServing({});
  });

  test('refuses calls to services not deployed here, and lists those that are', async () => {
    bench = new ManagerBench();
    bench.manager.setDeployments('file', [workDeployment()]);
    await bench.untilServing({ 'Work@1.0.0': 1 });
    expect(await bench.ask('pid', {}, { version: '7.0.0' })).toBe(
      'no_pool: Manager one has no pool Work@7.0.0; its pools are Work@1.0.0',
    );
    expect(await bench.ask('pid', {}, { roles: ['staging'] })).toMatch(/^no_pool: .*for roles staging/);
  });

  test('selects by roles, tags and pool id where chassis of one version report different details', async () => {
    bench = new ManagerBench();
    const deployment = workDeployment({ count: 2 });
    bench.manager.setDeployments('file', [{ ...deployment, count: 1 }]);
    await bench.untilServing({ 'Work@1.0.0': 1 });
    const hold = bench.ask('take', { ms: 6_000 });
    await until('a call to hold the first', () => bench.ledger().length === 1);
    bench.manager.setDeployments('file', [deployment]);
    await bench.untilServing({ 'Work@1.0.0': 2 });
    bench.manager.setDeployments('file', [{ ...deployment, tags: ['new'], more: { model: 'small' } }]);
    // One chassis still drains and the other is not replaced yet: two pools.
    await until('two pools', () => bench.manager.offers().length === 2);
    const [old, newer] = bench.manager.offers();
    expect([old?.id, newer?.id]).toEqual(['Work@1.0.0', 'Work@1.0.0#2']);
    const oldPid = await bench.ask('pid', {}, { details: { 'katamari-pool': 'Work@1.0.0' } });
    const newPid = await bench.ask('pid', {}, { details: { 'katamari-pool': 'Work@1.0.0#2' } });
    expect(oldPid).not.toBe(newPid);
    expect(await bench.ask('pid', {}, { tags: ['new'] })).toBe(newPid);
    expect(await bench.ask('pid', {}, { details: { model: 'large' } })).toBe(oldPid);
    expect(await bench.ask('pid', {}, { roles: ['staging'] })).toMatch(/^no_pool: /);
    expect(await hold).toBeGreaterThan(0);
  });

  test('sends calls elsewhere while the manager shuts down', async () => {
    bench = new ManagerBench();
    bench.manager.setDeployments('file', [workDeployment()]);
    await bench.untilServing({ 'Work@1.0.0': 1 });
    const running = bench.ask('take', { ms: 300 });
    await until('the call to run', () => bench.ledger().length === 1);
    const waiting = bench.ask('pid');
    const drained = bench.manager.drain('rolled');
    expect(await waiting).toMatch(/^draining: /);
    expect(await bench.ask('pid')).toMatch(/^draining: Manager one is leaving: rolled/);
    expect(await bench.ask('pid', {}, { version: '2.0.0' })).toMatch(/^draining: /);
    expect(await running).toBeGreaterThan(0);
    await drained;
  });
});

describe('ResourceManager', () => {
  test('reports every change of the number of living resources', async () => {
    const alive: number[] = [];
    bench = new ManagerBench({
      onPoolsChanged: () => {
        const now = bench.manager.offers()[0]?.alive ?? 0;
        if (alive.at(-1) !== now) alive.push(now);
      },
    });
    bench.manager.setDeployments('file', [workDeployment({ count: 2, restart: SLOWLY })]);
    await bench.untilServing({ 'Work@1.0.0': 2 });
    await bench.ask('die', { status: 1 });
    await until('one to be told', () => alive.at(-1) === 1);
    bench.manager.setDeployments('file', []);
    await until('none to be told', () => alive.at(-1) === 0);
    expect(alive).toEqual([0, 1, 2, 1, 0]);
  });

  test('refuses a chassis whose interface differs from that of its version elsewhere, and names the difference', async () => {
    const elsewhere = parseIdl({ main: 'work.thrift', files: { 'work.thrift': 'service Work { i32 pid() }' } });
    const found = elsewhere.services.get('Work');
    if (found === undefined) throw new Error('no service Work');
    bench = new ManagerBench({
      knownInterfaces: (service, version) =>
        service === 'Work' && version === '1.0.0' ? [{ interface: found, where: 'manager two' }] : [],
    });
    bench.manager.setDeployments('file', [workDeployment(), workDeployment({ version: '2.0.0' })]);
    await bench.untilServing({ 'Work@2.0.0': 1 });
    const refused = bench.told().filter((line) => line.startsWith('resource_refused'));
    expect(refused.length).toBe(1);
    expect(refused[0]).toMatch(/differs from that of manager two; give it another version/);
    expect(refused[0]).toMatch(/say/);
  });

  test('accepts a refused interface once no living chassis elsewhere speaks the other one', async () => {
    const elsewhere = parseIdl({ main: 'work.thrift', files: { 'work.thrift': 'service Work { i32 pid() }' } });
    const found = elsewhere.services.get('Work');
    if (found === undefined) throw new Error('no service Work');
    const living = [{ interface: found, where: 'manager two' }];
    bench = new ManagerBench({ knownInterfaces: () => living });
    bench.manager.setDeployments('file', [workDeployment()]);
    await until(
      'a second try',
      () => bench.told().filter((line) => line.startsWith('resource_backing_off')).length > 1,
    );
    expect(bench.told().filter((line) => line.startsWith('resource_refused')).length).toBe(1);
    living.pop();
    await bench.untilServing({ 'Work@1.0.0': 1 });
  });
});

/** A dead copy is not restarted within the duration of a test. */
const SLOWLY = { intensity: 1, periodMs: 60_000, backoffFirstMs: 20_000, backoffMaxMs: 20_000 };

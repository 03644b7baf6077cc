import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { RunResult } from '../../kit/tools/run.ts';
import { SimulatedMesh } from '../cli/scripted-mesh.ts';
import { runInside, type InsideOptions } from '../cli/run-inside.ts';
import { startRpcServer } from '../cli/rpc-server.ts';

const FILE = `deployments:
  - {service: Search, version: "1.0.0", command: [/bin/search], count: 3}
  - {service: Search, version: "2.0.0", command: [/bin/search2], count: 2}
  - {service: Rank, version: "1.0.0", command: [/bin/rank], env: {MODEL: small}}
`;

let directory = '';
beforeAll(() => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'katamari-many-'));
  writeFileSync(path.join(directory, 'search.yaml'), FILE);
});
afterAll(() => rmSync(directory, { recursive: true }));

let mesh: SimulatedMesh;
beforeEach(async () => {
  mesh = await new SimulatedMesh().start();
});
afterEach(() => mesh.close());

const run = (args: string[], options: Partial<InsideOptions> = {}): Promise<RunResult> =>
  runInside(args, {
    cwd: directory,
    env: { HOME: directory, KATAMARI_TOKEN: 'abcdefghijklmnop', KATAMARI_URL: mesh.url, TZ: 'UTC' },
    ...options,
  });

describe('katamari deploy', () => {
  test('sends the deployments of the file, reports new ones, and waits until that many copies are alive', async () => {
    const { code, stdout, stderr } = await run(['deploy', 'search.yaml', 'Search@1.0.0']);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toBe(
      'Search@1.0.0  new, 3 copies\n' +
        'Search@1.0.0: 1 of 3 alive\nSearch@1.0.0: 2 of 3 alive\nSearch@1.0.0: 3 of 3 alive\n3 copies are alive.\n',
    );
    expect(mesh.orders).toEqual(['deploy']);
    expect(mesh.deployments.get('Search@1.0.0')).toMatchObject({
      serviceName: 'Search',
      version: '1.0.0',
      count: 3,
      command: ['/bin/search'],
      cwd: directory,
      listen: 'unix',
    });
    // Spread over the managers.
    expect(mesh.copies.map(({ manager }) => manager)).toEqual(['m1', 'm2', 'm1']);
  });

  test('selects the whole file, all versions of a service, or one version; and another count', async () => {
    expect((await run(['deploy', 'search.yaml', '--no-wait'])).stdout).toBe(
      'Search@1.0.0  new, 3 copies\nSearch@2.0.0  new, 2 copies\nRank@1.0.0    new, 1 copy\n',
    );
    expect((await run(['deploy', 'search.yaml', 'Search', '--no-wait', '--count', '5'])).stdout).toBe(
      'Search@1.0.0  changed: count 3 -> 5\nSearch@2.0.0  changed: count 2 -> 5\n',
    );
    expect((await run(['deploy', 'search.yaml', 'Rank', '--no-wait'])).stdout).toBe('Rank@1.0.0  the same, 1 copy\n');
  });

  test('waits after a change of the program until no old process is left', async () => {
    mesh.deploy({ service: 'Rank', count: 2, command: ['/bin/old'] });
    const old = mesh.copies.map(({ pid }) => pid);
    const { code, stdout } = await run(['deploy', 'search.yaml', 'Rank', '--count', '2']);
    expect(code).toBe(0);
    expect(stdout).toContain('Rank@1.0.0  changed: command, cwd\n');
    expect(stdout).toContain('Rank@1.0.0: 2 of 2 replaced\n');
    expect(mesh.copies.filter(({ pid }) => old.includes(pid))).toEqual([]);
  });

  test('says why copies do not start, and exits with 1', async () => {
    mesh.broken.add('Rank@1.0.0');
    const { code, stderr } = await run(['deploy', 'search.yaml', 'Rank', '--wait', '200ms']);
    expect(code).toBe(1);
    expect(stderr).toContain('Not done after 200ms; the mesh continues to try (see `katamari events`):');
    expect(stderr).toContain('  Rank@1.0.0: 0 of 1 alive; m1: exited with code 3 at once');
    expect(stderr).toContain('    Rank@1.0.0/1 on m1 is backing off: no module ranker');
  });

  test('says what is missing when no manager takes the copies', async () => {
    mesh.leader = '';
    const leaderless = await run(['deploy', 'search.yaml', 'Rank', '--wait', '50ms']);
    expect(leaderless.stderr).toContain('0 of 1 alive; no leader, so no manager gets orders. Is a master running?');
    mesh.leader = 'boss';
    for (const manager of mesh.managers) mesh.drained.add(manager);
    const drained = await run(['deploy', 'search.yaml', 'Rank', '--wait', '50ms']);
    expect(drained.stderr).toContain('no manager can start copies: m1 is draining, m2 is draining');
    mesh.managers.splice(0);
    const empty = await run(['deploy', 'search.yaml', 'Rank', '--wait', '50ms']);
    expect(empty.stderr).toContain('0 of 1 alive; no manager is running\n    1 not started by any manager yet');
  });

  test('shows a progress bar for each deployment on a terminal, and removes them at the end', async () => {
    const { stdout } = await run(['deploy', 'search.yaml', 'Search'], { screen: [80, 24] });
    expect(stdout).toContain('Search@1.0.0  ▰▱▱  1/3 alive');
    expect(stdout).toContain('Search@2.0.0  ▰▰  2/2 alive');
    expect(stdout.endsWith('\x1b[2A\r\x1b[J5 copies are alive.\n')).toBe(true);
  });

  test('refuses unknown deployments and invalid files and counts before it calls the mesh', async () => {
    writeFileSync(path.join(directory, 'empty.yaml'), 'mesh: lab\n');
    const refusals: readonly [string[], number, string][] = [
      [['deploy', 'search.yaml', 'Serach'], 2, 'search.yaml has no deployment "Serach", did you mean "Search"?'],
      [['deploy', 'search.yaml', 'Search@3.0.0'], 2, 'search.yaml has no deployment "Search@3.0.0"'],
      [['deploy', 'none.yaml'], 78, 'none.yaml'],
      [['deploy'], 2, 'name the file with the deployments'],
      [['deploy', 'empty.yaml'], 78, 'empty.yaml has no deployments'],
      [['deploy', 'search.yaml', '--count', 'many'], 2, '--count: found "many", expected a whole number of copies'],
      [['deploy', 'search.yaml', '--wait', '5'], 2, '--wait: found "5", expected a duration'],
    ];
    for (const [args, code, text] of refusals) {
      const result = await run(args);
      expect([args, result.code, result.stderr]).toEqual([args, code, expect.stringContaining(text)]);
    }
    expect(mesh.orders).toEqual([]);
  });
});

describe('katamari scale and katamari undeploy', () => {
  test('wait for more copies, for fewer, and for none', async () => {
    mesh.deploy({ count: 1 });
    expect((await run(['scale', 'Search@1.0.0', '3'])).stdout).toBe(
      'Search@1.0.0: 2 of 3 alive\nSearch@1.0.0: 3 of 3 alive\nSearch@1.0.0 has 3 copies.\n',
    );
    expect((await run(['scale', 'Search@1.0.0', '1'])).stdout).toBe(
      'Search@1.0.0: 1 of 2 ended\nSearch@1.0.0: 2 of 2 ended\nSearch@1.0.0 has 1 copy.\n',
    );
    expect((await run(['undeploy', 'Search@1.0.0'])).stdout).toBe(
      'Search@1.0.0: 1 of 1 ended\nSearch@1.0.0 is gone.\n',
    );
    expect(mesh.orders).toEqual(['scale', 'scale', 'undeploy']);
  });

  test('return at once with --no-wait', async () => {
    mesh.deploy({ count: 1 });
    expect((await run(['scale', 'Search@1.0.0', '9', '--no-wait'])).stdout).toBe('Scaling Search@1.0.0 to 9 copies.\n');
    expect((await run(['undeploy', 'Search@1.0.0', '--no-wait'])).stdout).toBe('Removing Search@1.0.0.\n');
  });

  test('exit with 1 and the error of the mesh when it refuses, with 2 when the command line is wrong', async () => {
    const unknown = await run(['scale', 'Tokenizer@1.0.0', '3']);
    expect([unknown.code, unknown.stderr]).toEqual([
      1,
      `katamari: The mesh at ${mesh.url} refused scale: Tokenizer@1.0.0 is not a deployment of the mesh; deployments are none\n`,
    ]);
    for (const args of [
      ['scale', 'Search', '3'],
      ['scale', 'Search@1.0.0/1', '3'],
      ['scale', 'Search@1.0.0', '-3'],
      ['scale', 'Search@1.0.0', '3.5'],
      ['undeploy', 'Search'],
    ])
      expect([args, (await run(args)).code]).toEqual([args, 2]);
    expect(mesh.orders).toEqual(['scale']);
  });
});

describe('katamari drain and katamari undrain', () => {
  test('wait until the manager runs nothing, and undrain it', async () => {
    mesh.deploy({ count: 4 });
    const { code, stdout } = await run(['drain', 'm2']);
    expect(code).toBe(0);
    expect(stdout).toBe(
      'm2: 1 of 2 ended\nm2: 2 of 2 ended\nNothing runs on m2 any more. `katamari undrain m2` lets it run copies again.\n',
    );
    expect(new Set(mesh.copies.map(({ manager }) => manager))).toEqual(new Set(['m1']));
    expect((await run(['undrain', 'm2'])).stdout).toBe('m2 may run copies again.\n');
    expect([...mesh.drained]).toEqual([]);
  });

  test('do not take an unreachable manager for an empty one', async () => {
    mesh.deploy({ count: 2 });
    mesh.figures = { resources: [], alive: 0, note: 'manager m2 cannot be reached' };
    mesh.managers.splice(0, 1);
    mesh.copies = mesh.copies.filter(({ manager }) => manager === 'm2');
    const wanted = mesh.deployments.get('Search@1.0.0');
    if (wanted !== undefined) wanted.count = 1;
    // It stays drained: the assignment reaches it when it is reachable again.
    mesh.change = { pools: [{ ...mesh.figures, ...poolOf('m2') }] };
    const { code, stderr } = await run(['drain', 'm2', '--wait', '50ms']);
    expect(code).toBe(1);
    expect(stderr).toContain('m2: 0 of 1 ended; m2: manager m2 cannot be reached');
  });

  test('list the names of the managers on an unknown name', async () => {
    const { code, stderr } = await run(['drain', 'm3']);
    expect([code, stderr]).toEqual([1, 'katamari: No manager is called "m3", did you mean "m1"?\n']);
    expect(mesh.orders).toEqual([]);
  });
});

describe('katamari route', () => {
  test('shows, sets and resets the shares of versions', async () => {
    mesh.deploy({ count: 2 });
    mesh.deploy({ version: '2.0.0', count: 1 });
    mesh.figures = { weight: 0.5 };
    expect((await run(['route', 'Search'])).stdout).toBe(
      'Search has no route: versions share the calls by their number of resources.\n\n' +
        'VERSION  WEIGHT  SHARE  ALIVE  CALLS/S\n1.0.0         -    50%    2/2     25.0\n2.0.0         -    50%    1/1     12.5\n',
    );
    expect((await run(['route', 'Search', '1.0.0=90', '2.0.0=10'])).stdout).toBe(
      'Search is routed by weights.\n\n' +
        'VERSION  WEIGHT  SHARE  ALIVE  CALLS/S\n1.0.0        90    90%    2/2     25.0\n2.0.0        10    10%    1/1     12.5\n',
    );
    expect(mesh.routes).toEqual({ Search: { '1.0.0': 90, '2.0.0': 10 } });
    const json = await run(['route', 'Search', '--json']);
    expect(JSON.parse(json.stdout)).toMatchObject({
      service: 'Search',
      weights: { '1.0.0': 90, '2.0.0': 10 },
      versions: [{ version: '1.0.0', weight: 90, share: 0.9 }, { version: '2.0.0' }],
    });
    expect((await run(['route', 'Search', '--reset'])).stdout).toContain('Search has no route');
    expect(mesh.routes).toEqual({});
  });

  test('reports a share of a version that nothing runs', async () => {
    mesh.deploy({ count: 1 });
    const { stdout } = await run(['route', 'Search', '1.0.0=1', '3.0.0=1']);
    expect(stdout).toContain('1.0.0         1   100%    1/1');
    expect(stdout).toContain('3.0.0         1     0%    0/0');
    expect(stdout).toContain('No process runs Search@3.0.0; its share goes to the other versions.');
    expect(stdout).not.toContain('No version with a weight runs');
  });

  test('says so when no version with a weight runs, and shows the shares that calls get', async () => {
    mesh.deploy({ count: 1 });
    const { stdout } = await run(['route', 'Search', '3.0.0=1']);
    expect(stdout).toContain('1.0.0         0   100%    1/1');
    expect(stdout).toContain('3.0.0         1     0%    0/0');
    expect(stdout).toContain(
      'No version with a weight runs, so all versions share the calls by their number of resources.',
    );
  });

  test('refuses invalid shares, and unknown services', async () => {
    for (const [shares, text] of [
      [['1.0.0'], 'found "1.0.0", expected version=weight'],
      [['1.0.0=x'], 'found "1.0.0=x", expected version=weight'],
      [['1.0.0=-1'], 'found "1.0.0=-1"'],
      [['1.0.0=1', '1.0.0=2'], 'found "1.0.0=" twice'],
      [['1.0.0=0'], 'only weights of 0'],
      [['1.0.0=1', '--reset'], 'both shares and --reset'],
    ] as const) {
      const { code, stderr } = await run(['route', 'Search', ...shares]);
      expect([code, stderr.toLowerCase()]).toEqual([2, expect.stringContaining(text.toLowerCase())]);
    }
    expect(mesh.orders).toEqual([]);
    mesh.deploy({ count: 1 });
    expect((await run(['route', 'Serach'])).stderr).toContain('called "Serach", did you mean "Search"?');
  });
});

describe('katamari status over many processes', () => {
  test('prints a table of the processes, one row a pool, and with -v each resource with its manager', async () => {
    mesh.deploy({ count: 3 });
    const { stdout } = await run(['status', '-v']);
    expect(stdout.split('\n').slice(4)).toEqual([
      'PROCESS  ROLES           MACHINE    STATE  RESOURCES  CAPACITY  STATS',
      'boss     master (leads)  host-boss  up             -         -  http://boss:9081',
      'm1       manager         host-m1    up             2         1  http://m1:9081',
      'm2       manager         host-m2    up             1         1  http://m2:9081',
      'f1       faceplate       host-f1    up             -         -  http://f1:9081',
      '',
      'POOL          ALIVE  FREE  QUEUED  WEIGHT  CALLS  ERRORS  CALLS/S  P50 MS  P99 MS  QUEUE P99 MS  RESTARTS',
      'Search@1.0.0    3/3     3   0/512    100%    200       0     25.0     0.4     2.0           0.0         0',
      '',
      'MANAGER  RESOURCE        STATE  PID  IN FLIGHT  SERVED    AGE    MEMORY  RESTARTS',
      'm1       Search@1.0.0/1  idle   101          0       3  1m 1s  50.0 MiB         0',
      'm1       Search@1.0.0/2  idle   103          0       3  1m 1s  50.0 MiB         0',
      'm2       Search@1.0.0/1  idle   102          0       3  1m 1s  50.0 MiB         0',
      '',
    ]);
  });

  test('prints one line for a process with several roles', async () => {
    const at = { name: 'one', machine: 'a', stats: 'http://a:9081', capacity: 0, resources: 0, isLeader: false };
    mesh.change = {
      processes: [
        { ...at, role: 'master', state: 'up', isLeader: true },
        { ...at, role: 'manager', state: 'draining', capacity: 2, resources: 7 },
        { ...at, role: 'faceplate', state: 'up' },
        { ...at, role: 'master', state: 'up', stats: 'http://a:9181' },
      ],
    };
    expect((await run(['status'])).stdout.split('\n').slice(4, 7)).toEqual([
      'PROCESS  ROLES                               MACHINE  STATE     RESOURCES  CAPACITY  STATS',
      'one      master (leads), manager, faceplate  a        draining          7         2  http://a:9081',
      'one      master                              a        up                -         -  http://a:9181',
    ]);
    // A mesh of a single process needs no table of processes.
    mesh.change = { processes: (mesh.change['processes'] as object[]).slice(0, 3) };
    expect((await run(['status'])).stdout).not.toContain('PROCESS');
  });

  test('reports that no master leads', async () => {
    mesh.leader = '';
    const { stdout } = await run(['status']);
    expect(stdout).toContain('No master leads: deployments do not change.\n\nNo pools yet.\n');
  });
});

describe('katamari events over many processes', () => {
  test('names the process of an event when there is more than one', async () => {
    const event = (seq: number, process: string): object => ({
      seq,
      atMs: 0,
      process,
      kind: 'pool_ready',
      subject: 'A@1',
      text: '2 resources',
      lines: [],
    });
    const events = [event(1, 'm1'), event(2, 'machine-2')];
    const server = await startRpcServer(() => ({ result: events }));
    const here = { env: { KATAMARI_TOKEN: 'abcdefghijklmnop', KATAMARI_URL: server.url, TZ: 'UTC' } };
    expect((await run(['events'], here)).stdout.replaceAll(/\d\d:\d\d:\d\d/g, 'TIME')).toBe(
      'TIME  m1         pool ready   A@1: 2 resources\nTIME  machine-2  pool ready   A@1: 2 resources\n',
    );
    events.pop();
    expect((await run(['events'], here)).stdout).not.toContain('m1');
    await server.close();
  });
});

describe('katamari restart over many managers', () => {
  test('lists the full names when several managers have a resource of that name', async () => {
    mesh.deploy({ count: 2 });
    const { code, stderr } = await run(['restart', 'm3:Search@1.0.0/1']);
    expect([code, stderr]).toEqual([
      1,
      'katamari: Nothing in this mesh is called "m3:Search@1.0.0/1", did you mean "m1:Search@1.0.0/1"?\n',
    ]);
  });
});

describe('katamari top', () => {
  /** The screen after one drawing. */
  const linesOf = (written: string): string[] =>
    written.split('\r\n').map((line) => line.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, '')); // oxlint-disable-line no-control-regex -- escape sequences are what it looks for

  test('prints once without a terminal', async () => {
    mesh.deploy({ count: 3 });
    const { code, stdout } = await run(['top']);
    expect(code).toBe(0);
    expect(stdout.split('\n')).toEqual([
      `Mesh lab at ${mesh.url}: ready`,
      'Up 1h 2m, boss leads (term 12): 25.0 calls/s, 0 busy of 3, 0 queued',
      '',
      'PROCESS  ROLES           MACHINE    STATE  CALLS/S  BUSY  QUEUE  P50 MS  P99 MS  ERRORS  RESTARTS',
      'm1       manager         host-m1    up        12.5   0/2      0     0.4     2.0       0         0',
      'm2       manager         host-m2    up        12.5   0/1      0     0.4     2.0       0         0',
      'boss     master (leads)  host-boss  up           -     -      -       -       -       -         -',
      'f1       faceplate       host-f1    up           -     -      -       -       -       -         -',
      '',
      'POOL          CALLS/S  BUSY  QUEUE  P50 MS  P99 MS  ERRORS  RESTARTS',
      'Search@1.0.0     25.0   0/3      0     0.4     2.0       0         0',
      '',
    ]);
  });

  test('fits the screen, sorts by the pressed key, and ends with q', async () => {
    for (let n = 1; n <= 30; n++) mesh.deploy({ service: `S${String(n).padStart(2, '0')}`, count: 1 });
    const screens: string[][] = [];
    const keys = ['n', '\x1b[C', '\x1b[D', 'q'];
    const { code, stdout } = await run(['top', '--sort', 'name'], {
      screen: [80, 24],
      onScreen: (written) => {
        if (!written.startsWith('\x1b[H')) return undefined;
        screens.push(linesOf(written));
        return keys[screens.length - 1];
      },
    });
    expect(code).toBe(0);
    // The previous screen is restored.
    expect(stdout.startsWith('\x1b[?1049h\x1b[?25l')).toBe(true);
    expect(stdout.endsWith('\x1b[?25h\x1b[?1049l')).toBe(true);
    for (const lines of screens) {
      expect(lines.length).toBeLessThanOrEqual(24);
      for (const line of lines) expect(line.length).toBeLessThanOrEqual(80);
    }
    expect(screens[0]?.join('\n')).toMatch(/\nS01@1\.0\.0 .*\nS02@1\.0\.0 /);
    expect(screens[0]?.join('\n')).toMatch(/\.\.\. and \d+ more\n/);
    const chosen = screens.map((lines) => /\[(\w) (\w+)\]/.exec(lines.join(' '))?.[2]);
    expect(chosen.slice(0, 4)).toEqual(['name', 'name', 'rate', 'name']);
  });

  test('reports that the mesh does not answer, and continues when it does', async () => {
    mesh.deploy({ count: 1 });
    const { port } = new URL(mesh.url);
    const heads: string[] = [];
    const { code } = await run(['top'], {
      screen: [80, 24],
      onScreen: (written) => {
        if (!written.startsWith('\x1b[H')) return undefined;
        heads.push(linesOf(written)[0] ?? '');
        if (heads.length === 1) void mesh.close();
        return heads.at(-1)?.includes('no answer, trying') === true ? 'q' : undefined;
      },
    });
    expect(code).toBe(0);
    expect(heads[0]).toBe(`Mesh lab at http://127.0.0.1:${port}: ready`);
    expect(heads.at(-1)).toBe(`Mesh lab at http://127.0.0.1:${port}: no answer, trying again`);
  });

  test('refuses to sort by an unknown column', async () => {
    const { code, stderr } = await run(['top', '--sort', 'rat']);
    expect([code, stderr]).toEqual([
      2,
      'katamari: --sort: found "rat", expected one of rate, busy, queue, p99, errors, restarts, name, did you mean "rate"?\n',
    ]);
  });
});

function poolOf(manager: string): object {
  const lists = { roles: [], tags: [], interfaceId: 'x', restartsByReason: {} };
  const figures = { wanted: 1, free: 0, queued: 0, queueMax: 0, weight: 0, calls: 0, errors: 0, ratePerS: 0 };
  return { id: 'Search@1.0.0', serviceName: 'Search', version: '1.0.0', manager, ...lists, ...figures };
}

// `katamari route` against a mesh in this process.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestMesh, work, type TestMesh } from '../../../kit/mesh/mesh.ts';
import type { RunResult } from '../../../kit/tools/run.ts';
import { runInside } from '../run-inside.ts';

let mesh: TestMesh;
let cwd: string;
beforeAll(async () => {
  cwd = mkdtempSync(path.join(tmpdir(), 'katamari-route-'));
  mesh = await startTestMesh([work(), work({ version: '2.0.0' })]);
  await mesh.mesh.whenReady;
});
afterAll(async () => {
  await mesh.end();
  rmSync(cwd, { recursive: true, force: true });
});

function route(words: readonly string[], input = ''): Promise<RunResult> {
  const { jsonRpc } = mesh.mesh.addresses;
  return runInside(['route', ...words, '--mesh', jsonRpc, '--token', mesh.mesh.adminToken], { cwd, input });
}

const FILE = `routes:
  Work:
    weights:
      1.0.0: 90
      2.0.0: 10
    rules:
      - name: testers
        to: 2.0.0
        callers:
          - ada
          - qa-*
      - name: beta
        to: 2.0.0
        headers:
          x-any: "*"
          x-beta: yes
        methods:
          - say
        share: 5
    fallback: fail
    sticky: args.text
`;

test('sets a route from a file, shows it, and prints it as the same file', async () => {
  writeFileSync(path.join(cwd, 'route.yaml'), FILE);
  const { code, stdout } = await route(['Work', '--file', 'route.yaml']);
  expect(code).toBe(0);
  const said = stdout.replaceAll(/ +$/gm, '').replace(/^(Change 1, by admin) at .*Z\.$/m, '$1');
  expect(said).toBe(
    [
      'Work is routed by weights.',
      'Change 1, by admin',
      '',
      'VERSION  WEIGHT  SHARE  ALIVE  CALLS/S',
      '1.0.0        90    90%    1/1      0.0',
      '2.0.0        10    10%    1/1      0.0',
      '',
      'RULE     VERSION  CALLS WITH',
      'testers  2.0.0    caller ada or qa-*',
      'beta     2.0.0    method say, header x-any, header x-beta: yes, 5 % of the keys',
      '',
      'The sticky key of a call that brings none is args.text.',
      'A call whose version has nobody alive fails at once.',
      '',
    ].join('\n'),
  );
  const printed = await route(['Work', '--yaml']);
  expect(printed.stdout).toBe(FILE);
  const shifted = await route(['Work', '1.0.0=50', '2.0.0=50']);
  expect(shifted.stdout).toContain('testers  2.0.0');
  const json = JSON.parse((await route(['Work', '--json'])).stdout) as Record<string, unknown>;
  expect(json).toMatchObject({ service: 'Work', weights: { '1.0.0': 50, '2.0.0': 50 }, fallback: 'fail' });
  // The file is the whole route.
  const plain = await route(['Work', '--file', '-'], 'routes: { Work: { weights: { "1.0.0": 1 } } }');
  expect(plain.stdout).not.toContain('RULE');
  expect(plain.stdout).not.toContain('fails at once');
  expect(plain.stdout).not.toContain('sticky');
  expect((await route(['Work', '--file', '-'], FILE)).stdout).toContain('testers');
  expect((await route(['Work', '--reset'])).stdout).toContain('Work has no route');
});

test('sets and removes a mirror, and keeps it with new weights', async () => {
  expect((await route(['Work', '--mirror', '2.0.0=2.5'])).stdout).toContain(
    'Copies of 2.5 % of the calls of readonly and idempotent methods go to 2.0.0',
  );
  expect((await route(['Work', '1.0.0=1'])).stdout).toContain('go to 2.0.0');
  const both = await route(['Work', '1.0.0=7', '--mirror', '2.0.0']);
  expect(both.stdout).toContain('1.0.0         7');
  expect(both.stdout).toContain('Copies of 100 % of the calls');
  expect((await route(['Work', '--yaml'])).stdout).toContain('    mirror:\n      to: 2.0.0\n');
  expect((await route(['Work', '--history'])).stdout).toContain('1.0.0=7, mirror 2.0.0\n');
  expect((await route(['Work', '--mirror', 'off'])).stdout).not.toContain('Copies');
  expect((await route(['Work', '--file', '-'], 'routes: { Work: { mirror: { to: "2.0.0" } } }')).stdout).toContain(
    'Copies of 100 %',
  );
  expect((await route(['Work', '--file', '-'], FILE)).stdout).not.toContain('Copies');
  const wrong = await route(['Work', '--mirror', '2.0.0=101']);
  expect([wrong.code, wrong.stderr]).toEqual([
    2,
    expect.stringContaining('--mirror: found "2.0.0=101", expected version=percentage'),
  ]);
  expect((await route(['Work', '--mirror', '2.0.0', '--reset'])).code).toBe(2);
  expect((await route(['Work', '--reset'])).stdout).toContain('Work has no route');
});

test('sets and removes hedges and majorities', async () => {
  const hedged = await route(['Work', '--hedge', 'say=p95', 'pid=p99.9', '--majority', 'takeAgain=2 of 3 or fewer']);
  expect(hedged.stdout).toContain(
    [
      'Calls of say that take longer than p95 of its times get a second copy.',
      'Calls of pid that take longer than p99.9 of its times get a second copy.',
      'Calls of takeAgain go to several copies at once: 2 of 3 or fewer must answer alike.',
      '',
    ].join('\n'),
  );
  expect((await route(['Work', '1.0.0=1', '--hedge', 'pid=off'])).stdout).toContain('Calls of pid get no second copy.');
  expect((await route(['Work', '--history'])).stdout).toContain(
    '1.0.0=1, hedge say=p95, hedge pid=off, majority takeAgain=2 of 3 or fewer\n',
  );
  const { stdout: yaml } = await route(['Work', '--yaml']);
  expect(yaml).toContain(
    '    hedge:\n      say: p95\n      pid: off\n    majority:\n      takeAgain: 2 of 3 or fewer\n',
  );
  expect((await route(['Work', '--hedge', 'off'])).stdout).not.toContain('second copy');
  expect((await route(['Work', '--file', '-'], yaml)).stdout).toContain('Calls of say that take longer');
  const wrong = async (...words: string[]): Promise<string> => (await route(['Work', ...words])).stderr;
  expect(await wrong('--hedge', 'say=95')).toContain(
    '--hedge: found "say=95", expected method=value, where the value is a percentile from p50 to p99.9, such as "p95", or "off"',
  );
  expect(await wrong('--majority', '2 of 9')).toContain(
    'found "2 of 9", expected method=value, where the value is more than half',
  );
  expect(await wrong('--hedge', 'take=p95')).toContain('sends copies of take, which is not idempotent');
  expect(await wrong('--hedge', 'sayy=p95')).toContain('sends copies of sayy, which is no method of Work');
  // A method has one of them.
  const voted = await route(['Work', '--majority', 'say=2 of 2', 'takeAgain=off']);
  expect(voted.stdout).toContain('Calls of say go to several copies at once: 2 of 2 must answer alike.');
  expect(voted.stdout).not.toContain('Calls of say that take longer');
  expect(await wrong('--hedge', 'say=p95', '--majority', 'say=2 of 3')).toContain(
    'found say, which has a hedge, expected one of them for each',
  );
  expect(await wrong('--hedge', 'say=p95', '--undo')).toContain('Found both --undo and --hedge');
  // It is not that of the configuration.
  expect((await route(['Work', '--hedge', 'off', '--majority', 'off'])).stdout).toContain('1.0.0         1');
  expect((await route(['Work', '--reset'])).stdout).toContain('Work has no route');
});

test('lists the changes of a route, undoes them, and refuses one that was made from another route', async () => {
  await route(['Work', '1.0.0=90', '2.0.0=10']);
  await route(['Work', '1.0.0=80', '2.0.0=20']);
  const { stdout } = await route(['Work', '--history', '--json']);
  const [last] = stdout.split('\n').map((line) => JSON.parse(line || '{}') as { index?: number });
  const index = last?.index ?? 0;
  const history = (await route(['Work', '--history'])).stdout.replaceAll(/ +$/gm, '');
  const line = (change: number, what: string): RegExp =>
    new RegExp(`^ +${change}  \\d{4}-\\d\\d-\\d\\dT[\\d:.]+Z  admin  ${what}$`, 'm');
  expect(history).toMatch(line(index, '1\\.0\\.0=80 2\\.0\\.0=20'));
  expect(history).toMatch(line(index - 1, '1\\.0\\.0=90 2\\.0\\.0=10'));
  expect(history).toMatch(line(index - 2, 'as configured'));
  expect(history).toContain('katamari route Work --undo takes the last change back');
  expect((await route(['Work', '--undo'])).stdout).toMatch(/^1\.0\.0 +90 +90%/m);
  const overtaken = await route(['Work', '1.0.0=1', '--expect', String(index)]);
  expect(overtaken).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(`not that of change ${index}`) as unknown,
  });
  expect((await route(['Work', '1.0.0=1', '--expect', String(index + 1)])).code).toBe(0);
  expect((await route(['Work', '--undo', String(index - 1)])).stdout).toContain('Work has no route');
  expect(await route(['Work', '--undo', 'x'])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('Found "x", expected the number of a change') as unknown,
  });
  expect((await route(['Work', '--undo', '--reset'])).stderr).toContain('Found both --reset and --undo');
  expect((await route(['Nobody', '--history'])).stdout).toBe('The route of Nobody was never changed.\n');
  expect((await route(['Nobody', '--undo'])).stderr).toContain('the route of Nobody was never changed');
});

test('says which version a call would get, and why', async () => {
  await route(['Work', '--file', '-'], FILE.replace('fallback: fail', 'callersChoose: true'));
  const explain = async (...words: readonly string[]): Promise<[number | null, string]> => {
    const { code, stdout } = await route(['Work', '--explain', ...words]);
    return [code, stdout.replaceAll(/ +$/gm, '')];
  };
  expect(await explain('--caller', 'qa-7')).toEqual([
    0,
    'RULE     APPLIES  WHY\ntesters  yes\n\n2.0.0: the rule testers chooses it.\n',
  ]);
  const [code, text] = await explain('--key', 'ada', '--header', 'X-Beta=yes', 'x-any=1', '--method', 'say');
  expect(code).toBe(0);
  expect(text).toContain('testers  no       its caller is anonymous, not ada or qa-*\n');
  expect(text).toMatch(/^beta {5}(yes|no {7}its key is not one of the 5 % that the rule takes)$/m);
  expect(await explain('--method', 'pid')).toEqual([
    0,
    [
      'RULE     APPLIES  WHY',
      'testers  no       its caller is anonymous, not ada or qa-*',
      'beta     no       its method is pid, not say',
      '',
      'This call: it has no key (pid has no argument "text"), so versions take turns: 90 % to 1.0.0, 10 % to 2.0.0.',
      '',
    ].join('\n'),
  ]);
  expect(await explain('--key', 'ada', '--method', 'pid')).toMatchObject([
    0,
    expect.stringMatching(
      /\n\n[12]\.0\.0: the weights choose it for this key; it must bring the key, because pid has no argument "text"\.\n$/,
    ) as unknown,
  ]);
  expect(await explain('--version', '^2')).toEqual([
    0,
    '2.0.0: it asks for version ^2, so neither rules nor weights count.\n',
  ]);
  expect(await explain('--version', '^9')).toEqual([1, 'This call: it asks for version ^9, which no pool has.\n']);
  const [none, why] = await explain('--method', 'nothing', '--key', 'a');
  expect([none, why]).toEqual([1, expect.stringContaining('nothing')]);
  expect(await route(['Nobody', '--explain'])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('No service Nobody is deployed') as unknown,
  });
  await route(['Work', '--reset']);
});

test('says what is wrong with a file, with its line, and changes nothing', async () => {
  const cases: readonly (readonly [string, string])[] = [
    [
      'routes: { Work: { rules: [{ name: x }] } }',
      '-:1: routes.Work.rules[0].to: missing, expected a version in quotes',
    ],
    [FILE.replace('weights:', 'wheights:'), '-:3: routes.Work.wheights: unknown key, did you mean "weights"?'],
    [FILE.replace('Work:', 'Wok:'), '-: found routes of Wok, expected one of Work'],
    [
      'routes: { Work: { sticky: user.id } }',
      '-:1: routes.Work.sticky: found "user.id", expected the path of an argument such as args.user.id',
    ],
    ['routes: [', '-:1: '],
    ['', '-: found routes of none, expected one of Work'],
  ];
  for (const [text, expected] of cases) {
    const { code, stderr } = await route(['Work', '--file', '-'], text);
    expect([code, stderr]).toEqual([78, expect.stringContaining(expected)]);
  }
  expect(await route(['Work', '--file', 'none.yaml'])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('none.yaml: cannot be read') as unknown,
  });
  expect(await route(['Work', '1.0.0=1', '--file', '-'])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('Found both shares and --file, expected one of them') as unknown,
  });
  expect((await route(['Work'])).stdout).toContain('Work has no route');
});

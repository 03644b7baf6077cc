// Admin tokens and the audit log in a mesh of many processes with a real Consul: a token works everywhere as soon as
// it is created and nowhere as soon as it is revoked; write access to Consul makes no token; each process logs what
// it did.

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { auditFiles, readHead, verifyChain } from '../../../services/audit/mod.ts';
import { keysOf } from '../../../services/mesh/mod.ts';
import { startCluster, tally, type Cluster } from '../../kit/cluster/cluster.ts';
import { reportFailures } from '../../kit/cluster/failure-report.ts';
import type { ClusterProcess } from '../../kit/cluster/process.ts';
import { jsonRpc } from '../../kit/mesh/mesh.ts';
import { runKatamari, type RunResult } from '../../kit/tools/run.ts';
import { until } from '../../kit/tools/wait.ts';
import { aDeployment } from '../../services/master/a-deployment.ts';

const BUSY_MS = 120_000;
const SECRET = 'hunter2-hunter2';

let cluster: Cluster;
reportFailures(() => cluster);
let one: ClusterProcess;
let two: ClusterProcess;
beforeAll(async () => {
  cluster = await startCluster({
    consuls: 1,
    masters: 1,
    managers: 1,
    faceplates: 2,
    deployments: [tally({ env: { TALLY_PASSWORD: SECRET } })],
  });
  [one, two] = cluster.faceplates as [ClusterProcess, ClusterProcess];
}, BUSY_MS);
afterAll(() => cluster?.end(), BUSY_MS);

const keys = keysOf('test');

/** Returns `ok`, or the code of AdminRefused, or the error. */
async function ask(
  at: ClusterProcess,
  token: string,
  method: string,
  params: Record<string, unknown> = {},
): Promise<{ readonly code: string; readonly why: string; readonly result?: unknown }> {
  const { result, error } = await jsonRpc(`${at.addresses.jsonRpc}/rpc`, `Katamari.${method}`, { token, ...params });
  if (error === undefined) return { code: 'ok', why: '', result };
  const { exception, code, why } = error.data ?? {};
  if (exception === 'AdminRefused') return { code: String(code), why: String(why) };
  return { code: error.message, why: '' };
}

function katamari(at: ClusterProcess, token: string, ...args: string[]): Promise<RunResult> {
  return runKatamari(args, { env: { KATAMARI_URL: at.addresses.jsonRpc, KATAMARI_TOKEN: token } });
}

/** A document in Consul without its signature. */
function documentOf(value: string): object {
  return JSON.parse(value.slice(0, value.indexOf('\n'))) as object;
}

type Line = Readonly<Record<string, unknown>>;

async function logOf({ directory }: ClusterProcess): Promise<Line[]> {
  const files = await auditFiles(path.join(directory, 'data', 'audit'));
  return files
    .flatMap((file) => readFileSync(file, 'utf8').trimEnd().split('\n'))
    .map((line) => JSON.parse(line) as Line);
}

const { service, idl: _, concurrency: __, ...rest } = aDeployment({ count: 0 });
const later = { ...rest, serviceName: service };

const NO_CALL = { method: '', version: '', caller: '', roles: [], headers: {}, tags: [], key: '' };

/** Every method with its scope, and parameters that change nothing. */
const METHODS: readonly (readonly [scope: string, method: string, params: Record<string, unknown>])[] = [
  ['read', 'status', {}],
  ['read', 'events', { afterSeq: 0, waitMs: 0 }],
  ['read', 'getDeployments', {}],
  ['read', 'getDrained', {}],
  ['read', 'getSettings', {}],
  ['read', 'getRoutes', {}],
  ['read', 'getRouteHistory', { serviceName: 'None' }],
  ['read', 'explainRoute', { imagined: { ...NO_CALL, serviceName: 'None' } }],
  ['read', 'getTokens', {}],
  ['operate', 'getMirrors', { serviceName: 'None' }],
  ['operate', 'restart', { serviceName: 'None', version: '', resource: '' }],
  ['operate', 'scale', { serviceName: 'None', version: '1.0.0', count: 1 }],
  ['operate', 'drain', { manager: 'none' }],
  ['operate', 'undrain', { manager: 'none' }],
  ['operate', 'setSettings', { settings: {} }],
  ['operate', 'undoRoute', { serviceName: 'None', index: 0, force: false }],
  ['operate', 'setRoute', { route: { serviceName: 'None', weights: {} } }],
  ['deploy', 'deploy', { deployment: { ...later, version: 'none' } }],
  ['deploy', 'undeploy', { serviceName: 'None', version: '1.0.0' }],
  ['deploy', 'createToken', { name: 'x', scopes: [], roles: [] }],
  ['deploy', 'revokeToken', { name: 'none' }],
];

describe('An admin token', () => {
  test(
    'works in every process once it is created, and in none once it is revoked',
    async () => {
      const made = await katamari(
        one,
        cluster.adminToken,
        'token',
        'create',
        'ci',
        '--scopes',
        'deploy,read',
        '--expires',
        '30d',
      );
      expect(made).toMatchObject({ code: 0, stdout: expect.stringMatching(/^katamari_[\w-]{43}\n$/) });
      expect(made.stderr).toContain('The token ci has the scopes deploy, read and is valid until 20');
      const token = made.stdout.trim();
      expect((await ask(one, token, 'getDrained')).code).toBe('ok');
      await until(
        'the other process to know the token',
        async () => (await ask(two, token, 'getDrained')).code === 'ok',
      );
      const listed = await katamari(two, token, 'token', 'list');
      expect(listed.stdout).toMatch(
        /^NAME +SCOPES +ROLES +CREATED +BY +EXPIRES\nci +read,deploy +- +\d{4}-.* +admin +\d{4}-.*Z\n$/,
      );
      // Consul has the hash alone.
      const stored = await (await cluster.consul.ask(`/v1/kv/${keys.tokens}ci?raw`)).text();
      expect(stored).not.toContain(token);
      expect(documentOf(stored)).toMatchObject({ name: 'ci', sha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
      const revoked = await katamari(two, cluster.adminToken, 'token', 'revoke', 'ci');
      expect(revoked).toMatchObject({ code: 0, stdout: 'The token ci is revoked.\n' });
      expect((await ask(two, token, 'getDrained')).code).toBe('wrong_token');
      await until(
        'the other process to refuse the token',
        async () => (await ask(one, token, 'getDrained')).code !== 'ok',
      );
      const refused = await katamari(one, token, 'status');
      expect(refused).toMatchObject({ code: 1, stdout: '' });
      expect(refused.stderr).toContain('the token is wrong, has expired or was revoked; the root token is');
      expect(refused.stderr).toContain('the token came from KATAMARI_TOKEN. Pass the right one with --token');
    },
    BUSY_MS,
  );

  test(
    'may call the methods of its scopes and no other',
    async () => {
      for (const scopes of [['read'], ['operate'], ['deploy'], ['read', 'operate'], ['read', 'operate', 'deploy']]) {
        const name = scopes.join('-');
        const { result } = await ask(one, cluster.adminToken, 'createToken', { name, scopes, roles: [] });
        for (const [scope, method, params] of METHODS) {
          const { code, why } = await ask(one, String(result), method, params);
          const isAllowed = scopes.includes(scope);
          if (!isAllowed) {
            expect([name, method, code]).toEqual([name, method, 'missing_scope']);
            expect(why).toContain(
              `${method} needs the scope ${scope}, and the token ${name} has ${scopes.join(', ')}; `,
            );
            expect(why).toContain('katamari token create NAME --scopes ');
          } else expect([name, method, code]).toEqual([name, method, expect.not.stringMatching(/_token|_scope/)]);
        }
        await ask(one, cluster.adminToken, 'revokeToken', { name });
      }
    },
    BUSY_MS,
  );

  test(
    'cannot give more than it has',
    async () => {
      const create = async (token: string, params: Record<string, unknown>): Promise<string> => {
        const { code, result } = await ask(one, token, 'createToken', { roles: [], ...params });
        return code === 'ok' ? String(result) : code;
      };
      const all = ['read', 'operate', 'deploy'];
      const deployer = await create(cluster.adminToken, { name: 'deployer', scopes: ['read', 'deploy'] });
      expect(await create(deployer, { name: 'x', scopes: ['read'] })).toBe('missing_scope');
      const full = await create(cluster.adminToken, { name: 'full', scopes: all, roles: ['eu'], expiresInMs: 600_000 });
      expect(await create(full, { name: 'x', scopes: all, roles: ['us'] })).toBe('missing_scope');
      expect(await create(full, { name: 'x', scopes: all, expiresInMs: 700_000 })).toBe('missing_scope');
      expect(await create(full, { name: 'child', scopes: ['read'], roles: ['eu'] })).toMatch(/^katamari_/);
      const tokens = (await ask(one, cluster.adminToken, 'getTokens')).result as {
        name: string;
        expiresAtMs?: number;
      }[];
      const [child, parent] = ['child', 'full'].map((name) => tokens.find((token) => token.name === name));
      expect(child).toMatchObject({ createdBy: 'full', expiresAtMs: parent?.expiresAtMs });
      for (const params of [
        { name: 'admin', scopes: all },
        { name: 'leader', scopes: all },
        { name: '../x', scopes: all },
        { name: 'x', scopes: [] },
        { name: 'x', scopes: ['root'] },
        { name: 'x', scopes: ['read'], roles: ['a b'] },
        { name: 'x', scopes: ['read'], expiresInMs: 0 },
      ])
        expect([params, await create(cluster.adminToken, params)]).toEqual([params, 'invalid']);
      expect(await create(cluster.adminToken, { name: 'full', scopes: all })).toBe('bad_request');
      expect((await ask(one, cluster.adminToken, 'revokeToken', { name: 'admin' })).why).toContain(
        'admin is the root token',
      );
      expect((await ask(one, cluster.adminToken, 'revokeToken', { name: 'toString' })).why).toContain(
        'There is no token "toString"; tokens are child, deployer, full',
      );
      for (const name of ['child', 'deployer', 'full']) await ask(one, cluster.adminToken, 'revokeToken', { name });
    },
    BUSY_MS,
  );

  test(
    'ends at its time',
    async () => {
      const params = { name: 'short', scopes: ['read'], roles: [], expiresInMs: 1_500 };
      const token = String((await ask(one, cluster.adminToken, 'createToken', params)).result);
      expect((await ask(one, token, 'getDrained')).code).toBe('ok');
      await until('the token to expire', async () => (await ask(one, token, 'getDrained')).code === 'wrong_token');
      expect((await katamari(one, cluster.adminToken, 'token', 'list')).stdout).toContain('(expired)');
      expect((await ask(one, cluster.adminToken, 'revokeToken', { name: 'short' })).code).toBe('ok');
    },
    BUSY_MS,
  );

  test(
    'is not made by write access to Consul',
    async () => {
      const params = { name: 'real', scopes: ['read'], roles: [] };
      const token = String((await ask(one, cluster.adminToken, 'createToken', params)).result);
      const raw = await (await cluster.consul.ask(`/v1/kv/${keys.tokens}real?raw`)).text();
      const real = documentOf(raw);
      const put = (name: string, value: string): Promise<Response> =>
        cluster.consul.ask(`/v1/kv/${keys.tokens}${name}`, { method: 'PUT', body: value });
      const all = { scopes: ['read', 'operate', 'deploy'] };
      const signature = raw.slice(raw.indexOf('\n'));
      await put('forged', JSON.stringify({ ...real, ...all, name: 'forged' }) + signature);
      await put('unsigned', JSON.stringify({ ...real, ...all, name: 'unsigned' }));
      await put('moved', raw);
      await put('garbage', '[null]');
      await until('the forged documents to be reported', async () => {
        const forged = (await logOf(two)).filter(({ code }) => code === 'bad_signature').map(({ subject }) => subject);
        return ['forged', 'unsigned', 'moved', 'garbage'].every((name) => forged.includes(`${keys.tokens}${name}`));
      });
      expect((await ask(two, token, 'getDrained')).code).toBe('ok');
      expect((await ask(two, token, 'drain', { manager: 'none' })).code).toBe('missing_scope');
      // More rights in the place of the real one.
      await put('real', JSON.stringify({ ...real, ...all }) + signature);
      await until('the token to be refused', async () => (await ask(two, token, 'getDrained')).code === 'wrong_token');
      for (const name of ['forged', 'unsigned', 'moved', 'garbage', 'real'])
        await ask(one, cluster.adminToken, 'revokeToken', { name });
      expect((await ask(one, cluster.adminToken, 'getTokens')).result).toEqual([]);
    },
    BUSY_MS,
  );

  test(
    'that is wrong is limited by its source, and the right one still works',
    async () => {
      const codes = new Map<string, number>();
      for (let at = 0; at < 30; at++) {
        const { code } = await ask(two, `guess-${at}`, 'status');
        codes.set(code, (codes.get(code) ?? 0) + 1);
      }
      expect(codes.get('rate_limited')).toBeGreaterThan(10);
      expect((codes.get('rate_limited') ?? 0) + (codes.get('wrong_token') ?? 0)).toBe(30);
      expect((await ask(two, cluster.adminToken, 'getDrained')).code).toBe('ok');
      const { why } = await ask(two, 'guess', 'status');
      expect(why).toMatch(/^too many wrong tokens came from 127\.\d+\.\d+\.\d+; try again in \d+ s$/);
      const metrics = await (await fetch(`${two.addresses.stats}/metrics`)).text();
      expect(metrics).toMatch(/^katamari_audit_refusals_total\{code="rate_limited"\} \d\d/m);
    },
    BUSY_MS,
  );
});

describe('The audit log', () => {
  test(
    'of each process has what that process did, with who, from where, before and after, and no secret',
    async () => {
      const made = await ask(one, cluster.adminToken, 'createToken', {
        name: 'ann',
        scopes: ['read', 'operate', 'deploy'],
        roles: [],
      });
      const ann = String(made.result);
      const deployment = { ...later, env: { API_KEY: SECRET, MODEL: 'small' } };
      expect((await ask(one, ann, 'deploy', { deployment })).code).toBe('ok');
      expect((await ask(one, ann, 'deploy', { deployment })).code).toBe('ok');
      const scale = { serviceName: service, version: later.version, count: 1 };
      expect((await ask(one, ann, 'scale', scale)).code).toBe('ok');
      const route = { serviceName: service, weights: { '1.0.0': 5 } };
      const misspelled = { serviceName: service, weights: { '1.0.1': 5 } };
      expect((await ask(one, ann, 'setRoute', { route: misspelled })).code).toBe('unknown_name');
      expect((await ask(one, ann, 'setRoute', { route })).code).toBe('ok');
      expect((await ask(one, ann, 'setSettings', { settings: { timeoutMs: 9_999 } })).code).toBe('ok');
      expect((await ask(one, ann, 'setSettings', { settings: {} })).code).toBe('ok');
      expect((await ask(one, ann, 'setSettings', { settings: { timeoutMs: -1 } })).code).toBe('invalid');
      expect((await ask(one, ann, 'restart', { serviceName: 'Tally', version: '', resource: '' })).code).toBe('ok');
      expect((await ask(one, ann, 'undeploy', { serviceName: service, version: later.version })).code).toBe('ok');
      expect((await ask(one, ann, 'drain', { manager: 'nobody' })).code).toBe('no_pool');
      await ask(one, 'a wrong one', 'undeploy', { serviceName: service, version: later.version });
      // A change is answered when its line is on disk.
      const all = await logOf(one);
      const mine = all
        .filter(({ who }) => who === 'ann')
        .map(({ action, subject, result, code }) => [action, subject, result, code]);
      const id = `${service}@${later.version}`;
      expect(mine).toEqual([
        ['deploy', id, 'done', undefined],
        ['deploy', id, 'unchanged', undefined],
        ['scale', id, 'done', undefined],
        ['setRoute', service, 'refused', 'unknown_name'],
        ['setRoute', service, 'done', undefined],
        ['setSettings', 'settings', 'done', undefined],
        ['setSettings', 'settings', 'done', undefined],
        ['setSettings', 'settings', 'refused', 'invalid'],
        ['restart', 'Tally', 'started', undefined],
        ['restart', 'Tally', 'done', undefined],
        ['undeploy', id, 'done', undefined],
        ['drain', 'nobody', 'refused', 'no_pool'],
      ]);
      const line = (action: string, result = 'done'): Line | undefined =>
        all.find((found) => found['who'] === 'ann' && found['action'] === action && found['result'] === result);
      expect(line('deploy')).toMatchObject({
        process: one.name,
        from: expect.stringMatching(/^json-rpc 127\./),
        before: null,
        after: { count: 0, env: { API_KEY: '***', MODEL: 'small' } },
      });
      expect(line('scale')).toMatchObject({ before: { count: 0 }, after: { count: 1 } });
      expect(line('setSettings')).toMatchObject({ before: { timeoutMs: 10_000 }, after: { timeoutMs: 9_999 } });
      expect(line('setRoute')).toMatchObject({ before: null, after: { weights: { '1.0.0': 5 } } });
      expect(line('undeploy')).toMatchObject({ before: { count: 1 }, after: null });
      expect(line('drain', 'refused')).toMatchObject({ reason: expect.stringContaining('No manager of this mesh') });
      expect(all.find(({ action, subject }) => action === 'createToken' && subject === 'ann')).toMatchObject({
        who: 'admin',
        before: null,
        after: { name: 'ann', scopes: ['read', 'operate', 'deploy'] },
      });
      expect(all.filter(({ code }) => code === 'wrong_token').length).toBeGreaterThan(0);
      const [master] = cluster.masters as [ClusterProcess];
      const [manager] = cluster.managers as [ClusterProcess];
      const ofLeader = await until('the line of the leader', async () =>
        (await logOf(master)).find(
          ({ who, after }) => who === 'leader' && JSON.stringify(after) === JSON.stringify({ [id]: 1 }),
        ),
      );
      expect(ofLeader).toMatchObject({ action: 'assign', subject: manager.name, from: master.name });
      const ofManager = await logOf(manager);
      expect(ofManager.filter(({ who }) => who === 'mesh')).toMatchObject([
        {
          action: 'restart',
          subject: 'Tally',
          result: 'started',
          from: expect.stringMatching(/^link token ann, json-rpc 127\./),
        },
        { action: 'restart', subject: 'Tally', result: 'done' },
      ]);
      const configured = ofManager.filter(({ who }) => who === 'katamari.yaml');
      expect(configured.map(({ subject }) => subject)).toEqual(['settings', 'Tally@1.0.0']);
      expect(configured[1]).toMatchObject({
        action: 'configure',
        before: null,
        after: { env: { TALLY_PASSWORD: '***' } },
      });
      for (const process of cluster.processes) {
        const folder = path.join(process.directory, 'data', 'audit');
        const [files, head] = [await auditFiles(folder), await readHead(folder)];
        expect(await verifyChain(files, { isWhole: true, known: [String(head?.hash)] })).toMatchObject({
          isIntact: true,
          lost: 0,
        });
        const text = files.map((file) => readFileSync(file, 'utf8')).join('');
        for (const secret of [SECRET, cluster.adminToken, ann])
          expect([process.name, text.includes(secret)]).toEqual([process.name, false]);
        expect(readFileSync(path.join(process.directory, 'data', 'configured.json'), 'utf8')).not.toContain(SECRET);
      }
    },
    BUSY_MS,
  );

  test(
    'goes on after a start; a start without Consul takes the root token alone',
    async () => {
      const made = await ask(one, cluster.adminToken, 'createToken', { name: 'bob', scopes: ['read'], roles: [] });
      const bob = String(made.result);
      const [server] = cluster.consul.servers;
      await two.stop();
      server?.signal('SIGSTOP');
      two.start();
      await two.untilReady();
      expect((await ask(two, cluster.adminToken, 'getSettings')).code).toBe('ok');
      expect(await ask(two, bob, 'getSettings')).toMatchObject({
        code: 'wrong_token',
        why: expect.stringContaining('Consul has not answered yet'),
      });
      server?.signal('SIGCONT');
      await until('the token to be known', async () => (await ask(two, bob, 'getSettings')).code === 'ok');
      const log = await logOf(two);
      // Nothing of the configuration has changed.
      expect(log.filter(({ who }) => who === 'katamari.yaml').map(({ subject }) => subject)).toEqual(['settings']);
      const verified = await runKatamari(['audit', 'verify', '--data-dir', path.join(two.directory, 'data')]);
      expect(verified).toMatchObject({ code: 0, stderr: '' });
      expect(verified.stdout).toMatch(/^\d+ lines in 1 file are intact, number 1 to \d+\.\nhead [0-9a-f]{64}\n$/);
    },
    BUSY_MS,
  );
});

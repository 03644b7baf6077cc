// The page of a service with its versions side by side: what each reader sees, what only an operator with an admin
// token may see and change, and the same in a real browser.

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fixture, startTestMesh, type DeploymentText, type TestMesh } from '../kit/mesh/mesh.ts';
import { toolPath } from '../kit/tools/tools.ts';
import { until } from '../kit/tools/wait.ts';

/** A browser is slow on a busy machine. */
const PATIENCE_MS = 60_000;
const HIDDEN = 'nobody-else-may-read-this';

let mesh: TestMesh;

function mirrored(version: string, env: Readonly<Record<string, string>> = {}): DeploymentText {
  const command = fixture('mirrored.ts');
  return { service: 'Mirrored', version, command, count: 2, env: { WORK_VERSION: version, ...env } };
}

const ROUTE = {
  weights: { '1.0.0': 90, '2.0.0': 10 },
  rules: [{ name: 'friends', to: '2.0.0', keys: ['ada@example.org'] }],
  mirror: { to: '2.0.0' },
};

beforeAll(async () => {
  const deployments = [mirrored('1.0.0'), mirrored('2.0.0', { MIRRORED_SCORE: '2' })];
  mesh = await startTestMesh(deployments, { routes: { Mirrored: ROUTE } });
  await mesh.mesh.whenReady;
});

afterAll(() => mesh.end());

interface View {
  readonly index: number;
  readonly versions: readonly { readonly version: string; readonly share: number }[];
  readonly mirror: { readonly counts: readonly { readonly different: number }[]; readonly paths: readonly object[] };
  readonly history: readonly { readonly index: number; readonly by: string }[];
}

async function view(query = ''): Promise<View> {
  const response = await fetch(`${mesh.mesh.addresses.stats}/versions/Mirrored${query}`);
  expect(response.status).toBe(200);
  return (await response.json()) as View;
}

async function shares(): Promise<Record<string, number>> {
  return Object.fromEntries((await view()).versions.map(({ version, share }) => [version, share]));
}

type Said = readonly [status: number, body: unknown];

async function ask(
  request: unknown,
  token = mesh.mesh.adminToken,
  headers: Readonly<Record<string, string>> = {},
): Promise<Said> {
  const response = await fetch(`${mesh.mesh.addresses.stats}/versions/Mirrored`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(token === '' ? {} : { authorization: `Bearer ${token}` }),
      ...headers,
    },
    body: JSON.stringify(request),
  });
  const text = await response.text();
  return [response.status, text.startsWith('{') || text.startsWith('[') ? JSON.parse(text) : text];
}

async function tokenWith(...scopes: readonly string[]): Promise<string> {
  const params = { token: mesh.mesh.adminToken, name: `only-${scopes.join('-')}`, scopes, roles: [] };
  const { result } = await mesh.call('Katamari.createToken', params);
  return String(result);
}

interface AuditedChange {
  readonly action: string;
  readonly who: string;
  readonly result: string;
  readonly from: string;
}

/** The lines about the service in the audit log. */
function audited(): readonly AuditedChange[] {
  const file = path.join(path.dirname(mesh.ledgerFile), 'data', 'audit', 'audit-000001.jsonl');
  const lines = readFileSync(file, 'utf8').split('\n');
  return lines.filter((line) => line.includes('"Mirrored"')).map((line) => JSON.parse(line) as AuditedChange);
}

const LESS = { do: 'setWeights', weights: { '1.0.0': 95, '2.0.0': 5 }, index: 0 };

describe('GET /versions/Service', () => {
  test('shows shares, comparison and mirror to every reader, and no data of calls', async () => {
    for (let n = 0; n < 60; n++) await mesh.call('Mirrored.search', { words: `a bb ${HIDDEN}`, password: 'secret' });
    const found = await until('a difference', async () => {
      const seen = await view();
      return seen.mirror.paths.length > 0 ? seen : undefined;
    });
    expect(found).toMatchObject({
      service: 'Mirrored',
      index: 0,
      versions: [
        { version: '1.0.0', weight: 90, share: 90, alive: 2, wanted: 2 },
        { version: '2.0.0', weight: 10, share: 10, alive: 2, wanted: 2 },
      ],
      route: { rules: [{ name: 'friends', to: '2.0.0' }], parts: ['100 % mirrored to 2.0.0'] },
      comparison: { first: '1.0.0', second: '2.0.0' },
      mirror: { paths: [{ method: 'search', path: 'hits[].score' }] },
      history: [],
    });
    const text = JSON.stringify(found);
    for (const secret of [HIDDEN, 'ada@example.org', 'mirrorAnswer']) expect(text).not.toContain(secret);
  });

  test('sends the histograms of one method only', async () => {
    interface Durations {
      readonly method: string;
      readonly first: { readonly durations: readonly number[] };
    }
    const lengths = async (query: string): Promise<Record<string, boolean>> => {
      const { comparison } = (await view(query)) as unknown as { comparison: { methods: readonly Durations[] } };
      return Object.fromEntries(comparison.methods.map(({ method, first }) => [method, first.durations.length > 0]));
    };
    expect(await lengths('')).toEqual({ '': true, search: false });
    expect(await lengths('?method=search')).toEqual({ '': false, search: true });
  });

  test('says why nothing can be compared, and which services there are', async () => {
    expect(await view('?first=1.0.0&second=7.0.0')).toMatchObject({
      whyNotCompared: 'Mirrored has no version 7.0.0; it has 1.0.0, 2.0.0',
    });
    const unknown = await fetch(`${mesh.mesh.addresses.stats}/versions/Other`);
    expect([unknown.status, await unknown.text()]).toEqual([
      404,
      'The mesh has no service Other; GET /status lists all pools\n',
    ]);
  });
});

describe('POST /versions/Service', () => {
  test('needs an admin token with the scope operate', async () => {
    const [status, said] = await ask(LESS, '');
    expect([status, said]).toMatchObject([401, { error: expect.stringContaining('send an admin token') }]);
    const reader = await tokenWith('read');
    for (const request of [LESS, { do: 'differences' }, { do: 'undo', change: 1, index: 1 }]) {
      expect(await ask(request, reader)).toMatchObject([
        403,
        { error: expect.stringContaining('needs the scope operate, and the token only-read has read') },
      ]);
      expect((await ask(request, 'no-such-token'))[0]).toBe(401);
    }
    expect(await shares()).toEqual({ '1.0.0': 90, '2.0.0': 10 });
  });

  test('refuses pages of other origins, forms, and what is no request', async () => {
    expect((await ask(LESS, undefined, { origin: 'https://evil.example' }))[0]).toBe(403);
    expect((await ask(LESS, undefined, { 'sec-fetch-site': 'cross-site' }))[0]).toBe(403);
    expect(await ask(LESS, undefined, { 'content-type': 'text/plain' })).toMatchObject([
      400,
      { error: 'Content-Type is "text/plain", expected application/json' },
    ]);
    for (const wrong of [null, 7, {}, { do: 'reboot' }, { ...LESS, index: -1 }, { ...LESS, weights: { x: 'y' } }])
      expect((await ask(wrong))[0]).toBe(400);
    expect(await ask({ ...LESS, weights: { '3.0.0': 1 } })).toMatchObject([
      409,
      { error: expect.stringContaining('3.0.0 is no version of the service Mirrored') },
    ]);
    expect(await shares()).toEqual({ '1.0.0': 90, '2.0.0': 10 });
  });

  test('shows the calls that differ to an operator', async () => {
    const [status, found] = await ask({ do: 'differences' });
    expect(status).toBe(200);
    expect(JSON.stringify(found)).toContain(HIDDEN);
    expect(JSON.stringify(found)).not.toContain('"secret"');
    expect((found as readonly unknown[])[0]).toMatchObject({ method: 'search', places: [{ path: 'hits[].score' }] });
  });

  test('changes weights and undoes a change, as the operator, unless somebody was faster', async () => {
    const operator = await tokenWith('read', 'operate');
    expect(await ask(LESS, operator)).toEqual([200, 'null']);
    expect(await shares()).toEqual({ '1.0.0': 95, '2.0.0': 5 });
    // What else the route has is kept.
    expect(await view()).toMatchObject({ index: 1, route: { by: 'only-read-operate', rules: [{ name: 'friends' }] } });
    expect(await ask({ ...LESS, weights: { '1.0.0': 50, '2.0.0': 50 } })).toMatchObject([
      409,
      { error: expect.stringContaining('is not that of change 0 any more: change 1 by only-read-operate came since') },
    ]);
    expect(await ask({ do: 'undo', change: 1, index: 0 })).toMatchObject([
      409,
      { error: expect.stringContaining('was changed meanwhile by only-read-operate (change 1)') },
    ]);
    expect(await shares()).toEqual({ '1.0.0': 95, '2.0.0': 5 });
    expect(await ask({ do: 'undo', change: 1, index: 1 })).toEqual([200, 'null']);
    expect(await shares()).toEqual({ '1.0.0': 90, '2.0.0': 10 });
    const done = audited().filter(({ result, who }) => result === 'done' && who !== 'katamari.yaml');
    expect(done.map(({ action, who, from }) => [action, who, from])).toEqual([
      ['setRoute', 'only-read-operate', 'stats 127.0.0.1'],
      ['undoRoute', 'admin', 'stats 127.0.0.1'],
    ]);
  });
});

describe('an access policy', () => {
  test('that lists who may read the stats port covers the versions too', async () => {
    const { adminToken: token } = mesh.mesh;
    const set = async (text: string, expectedVersion: number): Promise<void> => {
      expect((await mesh.call('Katamari.setAccessPolicy', { token, text, expectedVersion })).error).toBeUndefined();
    };
    await set('stats: [token:only-read-operate]\nrules: [{ who: ["*", anonymous], may: "*" }]', 0);
    const url = `${mesh.mesh.addresses.stats}/versions/Mirrored`;
    await until('the refusal of a reader', async () => (await fetch(url)).status === 403);
    // The root token is not on the list.
    expect(await ask({ do: 'differences' })).toMatchObject([403, expect.stringContaining('may not read this port')]);
    await set('', 1);
    await until('the end of the policy', async () => (await fetch(url)).status === 200);
  });
});

describe('the page of a service in a browser', () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await chromium.launch({
      executablePath: toolPath('chromium'),
      args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'],
    });
  });
  afterAll(() => browser.close());

  const left = async (page: Page): Promise<string> =>
    (await page.locator('.share-handle').getAttribute('aria-valuetext')) ?? '';

  test(
    'moves shares by dragging and by keys, applies them when confirmed, and goes back',
    async () => {
      const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, locale: 'en-GB' });
      const complaints: string[] = [];
      page.on('pageerror', (error) => complaints.push(String(error)));
      page.on('console', (message) => {
        if (message.type() === 'error') complaints.push(message.text());
      });
      // The route has changed above, so its comparison begins anew.
      for (let n = 0; n < 40; n++) await mesh.call('Mirrored.search', { words: `a bb ${HIDDEN}`, password: 'x' });
      await page.goto(mesh.mesh.addresses.stats);
      await page.getByRole('link', { name: 'versions of Mirrored side by side' }).first().click();
      await page.getByRole('heading', { name: 'Mirrored versions side by side' }).waitFor();
      await page.getByRole('img', { name: /^Durations: 1\.0\.0 with \d+ calls, p50 / }).waitFor();
      await until('marks of both versions', async () => (await page.locator('.mark-text').count()) === 4);
      expect(await page.locator('#versions-trouble').isVisible()).toBe(false);
      expect(await page.locator('#pools').isVisible()).toBe(false);
      // Without a token, nothing can be moved.
      expect(await page.locator('.share-handle').isVisible()).toBe(false);
      expect(complaints).toEqual([]);

      await page.getByLabel('Admin token').fill('wrong');
      await page.keyboard.press('Enter');
      await page.getByText('The bearer token is not one that this mesh knows').waitFor();
      complaints.length = 0;
      await page.getByLabel('Admin token').fill(mesh.mesh.adminToken);
      await page.keyboard.press('Enter');
      const handle = page.getByRole('slider', { name: 'Share of 1.0.0 against 2.0.0' });
      await handle.waitFor();
      expect(await left(page)).toBe('1.0.0 90 %, 2.0.0 10 %');

      const bar = await page.locator('.shares-bar').boundingBox();
      const box = await handle.boundingBox();
      if (bar === null || box === null) throw new Error('no bar');
      const y = bar.y + bar.height / 2;
      await page.mouse.move(box.x + box.width / 2, y);
      await page.mouse.down();
      await page.mouse.move(bar.x + bar.width * 0.7, y, { steps: 5 });
      await page.mouse.up();
      expect(await left(page)).toBe('1.0.0 70 %, 2.0.0 30 %');
      await page.keyboard.press('ArrowLeft');
      await page.keyboard.press('Shift+ArrowRight');
      expect(await left(page)).toBe('1.0.0 79 %, 2.0.0 21 %');
      expect(await shares()).toEqual({ '1.0.0': 90, '2.0.0': 10 });

      await page.getByRole('button', { name: 'Apply 79 / 21' }).click();
      await page.getByText('Applied.').waitFor();
      expect(await shares()).toEqual({ '1.0.0': 79, '2.0.0': 21 });

      // Another operator is faster.
      await page.keyboard.press('Tab');
      await handle.focus();
      await page.keyboard.press('Home');
      expect(await left(page)).toBe('1.0.0 0 %, 2.0.0 100 %');
      const index = (await view()).index;
      expect((await ask({ do: 'setWeights', weights: { '1.0.0': 1, '2.0.0': 1 }, index }))[0]).toBe(200);
      await page.getByText(`Somebody else has made change ${index + 1} meanwhile`).waitFor();
      expect(await page.getByRole('button', { name: 'Apply 0 / 100' }).isDisabled()).toBe(true);
      await page.getByRole('button', { name: 'Discard' }).click();
      expect(await left(page)).toBe('1.0.0 50 %, 2.0.0 50 %');

      const row = page.locator('#history li').filter({ hasText: '1.0.0 79 %, 2.0.0 21 %' });
      await row.getByRole('button', { name: 'Go back to this' }).click();
      await row.getByRole('button', { name: /^Apply 1\.0\.0 79 %, 2\.0\.0 21 %/ }).click();
      await until('the share of before', async () => (await left(page)) === '1.0.0 79 %, 2.0.0 21 %');
      expect(await shares()).toEqual({ '1.0.0': 79, '2.0.0': 21 });

      await page.getByRole('button', { name: 'Show the latest calls that differ' }).click();
      await page.getByText(HIDDEN).first().waitFor();
      await page.getByRole('button', { name: 'Forget the token' }).click();
      expect(await page.getByText(HIDDEN).count()).toBe(0);
      expect(await handle.isVisible()).toBe(false);
      await page.getByRole('link', { name: 'All services' }).click();
      await page.locator('#pools').waitFor();
      expect(complaints).toEqual([]);
      await page.close();
    },
    PATIENCE_MS,
  );

  test(
    'shows the steps and guards of a rollout, which an operator pauses, resumes and aborts',
    async () => {
      const { adminToken: token, addresses } = mesh.mesh;
      const times = { holdMs: 3_600_000, keepMs: 0, startMs: 60_000 };
      const plan = { serviceName: 'Mirrored', toVersion: '2.0.0', steps: [5, 50, 100], ...times };
      const guards = ['errors +0.5pt', 'p99 x1.3'];
      const started = await mesh.call('KatamariVersions.startRollout', { token, plan: { ...plan, guards } });
      expect(started.error).toBeUndefined();
      expect(await ask({ do: 'rollout', action: 'PAUSE' }, await tokenWith('deploy'))).toMatchObject([403, {}]);

      const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, locale: 'en-GB' });
      await page.goto(`${addresses.stats}/#versions/Mirrored`);
      const steps = page.locator('.rollout-steps li');
      await until('the first step', async () => (await steps.first().innerText()).includes('holding'));
      expect(await steps.allInnerTexts()).toEqual(['5 %\nholding', '50 %\nto come', '100 %\nto come']);
      expect(await page.locator('.rollout-steps [aria-current="step"]').count()).toBe(1);
      const shown = await page.locator('#rollout').innerText();
      for (const text of ['running', '1.0.0 to 2.0.0: 5 %, step 1 of 3', 'errors +0.5pt', 'by admin'])
        expect(shown).toContain(text);
      // Only an operator gets the buttons.
      expect(await page.getByRole('button', { name: 'Abort' }).isVisible()).toBe(false);
      await page.getByLabel('Admin token').fill(token);
      await page.keyboard.press('Enter');
      const state = async (): Promise<string> => await page.locator('#rollout .state').innerText();
      for (const [button, question, after] of [
        ['Pause', 'Stay at 5 %', 'paused'],
        ['Resume', 'Go on from 5 %', 'running'],
        ['Abort', 'Give the calls back to 1.0.0', 'aborted'],
      ] as const) {
        await page.getByRole('button', { name: button, exact: true }).click();
        await page.getByRole('button', { name: question }).click();
        await until(after, async () => (await state()) === after);
      }
      expect(await page.getByRole('button', { name: 'Abort' }).isVisible()).toBe(false);
      await until('the shares of an end', async () => (await shares())['1.0.0'] === 100);
      await page.close();
    },
    PATIENCE_MS,
  );
});

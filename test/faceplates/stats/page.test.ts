// The status page in a real browser: what a person sees of pools, changes, crashes, and of a mesh that goes down and
// comes back.

import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { toolPath } from '../../kit/tools/tools.ts';
import { until } from '../../kit/tools/wait.ts';
import type { StatsFaceplate } from '../../../faceplates/stats/faceplate.ts';
import { FakeMesh, madeFleet, madeIndex, madePool, madeProcess } from './fake-mesh.ts';

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** A browser is slow on a busy machine, and one test runner has a default timeout of 5 s. */
const PATIENCE_MS = 60_000;

let browser: Browser;
let mesh: FakeMesh;
let faceplate: StatsFaceplate;
let page: Page;
/** Errors of the browser (such as a blocked script or style), and requests to another server. */
let complaints: string[];
let strayRequests: string[];

beforeAll(async () => {
  browser = await chromium.launch({ executablePath: toolPath('chromium'), args: FLAGS });
});

afterAll(() => browser.close());

beforeEach(async () => {
  mesh = new FakeMesh();
  faceplate = await mesh.serve();
  page = await browser.newPage({ viewport: { width: 1280, height: 900 }, locale: 'en-GB' });
  complaints = [];
  strayRequests = [];
  page.on('console', (message) => {
    if (message.type() === 'error') complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (request) => {
    if (!request.url().startsWith(`http://127.0.0.1:${faceplate.port}/`)) strayRequests.push(request.url());
  });
});

afterEach(async () => {
  await page.close();
  await faceplate.close();
});

/** Shows a page of another mesh than the empty one. */
async function serve(other: FakeMesh): Promise<void> {
  await faceplate.close();
  mesh = other;
  faceplate = await mesh.serve();
}

async function open(): Promise<void> {
  await page.goto(`http://127.0.0.1:${faceplate.port}/`);
  await showsText('#state', mesh.status().isReady ? 'ready' : 'not ready');
}

/** Waits until an element has exactly this text. */
async function showsText(selector: string, text: string): Promise<void> {
  await until(
    `"${text}" in ${selector}`,
    async () => (await page.locator(selector).first().innerText()).trim() === text,
  );
}

function squares(pool: number): Promise<(string | null)[]> {
  return page
    .locator('tbody.pool')
    .nth(pool)
    .locator('.squares .square')
    .all()
    .then((all) => Promise.all(all.map((square) => square.getAttribute('data-state'))));
}

describe('the status page', () => {
  test(
    'shows every pool with its version, its figures, and one square a resource',
    async () => {
      mesh.pools = [
        madePool('Calculator', '1.0.0', ['idle', 'busy', 'starting', 'draining', 'stopping', 'backing_off', 'failed'], {
          queued: 16,
          ratePerS: 12.5,
          p50Ms: 4.25,
          p99Ms: 1234,
          weight: 0.25,
          tags: ['sample'],
        }),
        madePool('Calculator', '2.0.0', ['busy'], { weight: 0.75 }),
      ];
      await open();
      await showsText('#pools-count', '2 with 3 of 8 resources alive');
      expect(await squares(0)).toEqual(['idle', 'busy', 'starting', 'draining', 'stopping', 'backing_off', 'failed']);
      const row = await page.locator('tbody.pool').first().innerText();
      for (const text of [
        'Calculator',
        '1.0.0',
        'sample',
        '25 %',
        '2 of 7 alive',
        '16 / 64',
        '12.5',
        '4.3 ms',
        '1.23 s',
      ]) {
        expect(row).toContain(text);
      }
      const failed = await page.locator('.square[data-state="failed"][data-tip]').first().getAttribute('aria-label');
      expect(failed).toContain('Calculator@1.0.0/6: failed');
      expect(failed).toContain('method add takes i64, i32 there');
      expect({ complaints, strayRequests }).toEqual({ complaints: [], strayRequests: [] });
    },
    PATIENCE_MS,
  );

  test(
    'follows changes: states, sums, pools that are added and removed, the state of the mesh',
    async () => {
      mesh.pools = [madePool('Calculator', '1.0.0', ['idle', 'idle'])];
      await open();
      expect(await squares(0)).toEqual(['idle', 'idle']);

      const calls = mesh.callStats.of('thrift', 'Calculator', 'add');
      for (let i = 0; i < 1500; i++) calls.accept();
      for (let i = 0; i < 1400; i++) calls.settle('ok', 3, 100);
      for (let i = 0; i < 20; i++) calls.settle('timeout', 10_000, 0);
      mesh.pools = [
        madePool('Calculator', '1.0.0', ['busy', 'idle', 'idle']),
        madePool('Reformulate', '1.0.0', ['idle']),
      ];
      await showsText('[data-sum="accepted"] dd', '1,500');
      await showsText('[data-sum="replied"] dd', '1,400');
      await showsText('[data-sum="timed_out"] dd', '20');
      await showsText('[data-sum="inFlight"] dd', '80');
      expect(await squares(0)).toEqual(['busy', 'idle', 'idle']);
      expect(await squares(1)).toEqual(['idle']);
      await until('a latency in words', async () =>
        /p50 [\d.]+ ms/.test((await page.locator('#chart-latency').getAttribute('aria-label')) ?? ''),
      );

      mesh.pools = [];
      mesh.change = { isReady: false, note: 'no chassis is alive' };
      await showsText('#state', 'not ready');
      await showsText('#note', 'no chassis is alive');
      expect(await page.locator('#no-pools').isVisible()).toBe(true);
      expect(await page.locator('tbody.pool').count()).toBe(0);
    },
    PATIENCE_MS,
  );

  test(
    'shows that the mesh is gone, and continues when it is back',
    async () => {
      mesh.pools = [madePool('Calculator', '1.0.0', ['idle'])];
      mesh.happens('mesh_ready', 'tests', 'first life');
      await open();
      await until('the first event', () => page.locator('#events li').count());
      const { port } = faceplate;
      await faceplate.close();
      await until('the banner', () => page.locator('#banner').isVisible());
      expect(await page.locator('#banner').innerText()).toContain('Connection lost, retrying');
      await showsText('#state', 'not reachable');

      mesh = new FakeMesh();
      mesh.change = { pid: process.pid + 1 };
      mesh.pools = [madePool('Calculator', '2.0.0', ['busy', 'busy'])];
      mesh.happens('mesh_ready', 'tests', 'second life');
      faceplate = await mesh.serve(port);
      await showsText('#state', 'ready');
      expect(await page.locator('#banner').isVisible()).toBe(false);
      expect(await squares(0)).toEqual(['busy', 'busy']);
      await until('the event of the new process', async () =>
        (await page.locator('#events').innerText()).includes('second life'),
      );
      const lines = await page.locator('#events li').allInnerTexts();
      expect(lines.length).toBe(3);
      expect(lines[1]).toContain('restarted');
    },
    PATIENCE_MS,
  );

  test(
    'shows the last output of a crashed chassis, always as text',
    async () => {
      const hostile = '<img src=x onerror="document.title=1"><script>document.title=1</script>';
      mesh.pools = [madePool('Calculator', '1.0.0', ['idle'], { note: hostile, tags: [hostile] })];
      mesh.change = { note: hostile };
      mesh.happens('resource_ended', 'Calculator@1.0.0/0', hostile, ['one', hostile]);
      await open();
      await page.locator('#events summary').first().click();
      expect(await page.locator('#events pre').innerText()).toBe(`one\n${hostile}`);
      expect(await page.locator('#note').innerText()).toBe(hostile);
      expect(await page.locator('main img, .top img').count()).toBe(0);
      expect(complaints).toEqual([]);
    },
    PATIENCE_MS,
  );

  test(
    'says which calls a pool refuses because they have cost copies',
    async () => {
      const call = (method: string, change: object): object => ({
        method,
        caller: '<b>10.0.0.7',
        shape: 'ab 9',
        losses: 2,
        doubts: 0,
        refusedForMs: 61_000,
        refused: 13,
        ...change,
      });
      const suspects = [call('hash', {}), call('once', { losses: 1 }), call('late', { refusedForMs: 0 })];
      mesh.pools = [madePool('Calculator', '1.0.0', ['idle'], { suspects } as object)];
      await open();
      await showsText(
        '.pool-note',
        'refuses hash of <b>10.0.0.7 as poison for 1 min 1 s: it has cost 2 copies · refuses once of <b>10.0.0.7 as poison for 1 min 1 s: it has cost 1 copy',
      );
      expect(complaints).toEqual([]);
    },
    PATIENCE_MS,
  );

  test(
    'shows each version of an index: state, figures, what is missing, and the shards of each manager',
    async () => {
      await open();
      expect(await page.locator('#indices-section').isVisible()).toBe(false);
      const hostile = 'wiki@2.0.0/part-00002 on worker-2: <b>no space left</b> (3 tries)';
      mesh.indices = {
        versions: [
          madeIndex(
            'wiki',
            '2.0.0',
            { 'worker-1': 'ssss-', 'worker-2': 'sfbol' },
            {
              state: 'incomplete',
              share: 0.05,
              conditions: [hostile],
              calls: { whole: 1200, partial: 30, exception: 4, incomplete: 2, failed: 0 },
            },
          ),
          madeIndex('wiki', '1.0.0', { 'worker-1': 'sss' }, { share: 0.95, replicas: 1 }),
        ],
        requests: { first: 5000, retry: 12, hedge: 3 },
        missing: { noReplica: 0, timedOut: 31 },
      };
      await showsText('#indices-count', '1 in 2 versions, 1 not complete');
      await showsText(
        '#gathered',
        'Requests to managers from here: 5,015, 12 retried, 3 hedged. Shards missing in answers: 31 timed out.',
      );
      const card = page.locator('.index').first();
      const text = await card.innerText();
      for (const part of ['4 of 5 shards served', '2 replicas wanted', '5 % of calls', '1,234,567 entries', '5.0 GiB'])
        expect(text).toContain(part);
      expect(text).toContain('1,236 calls from here, 30 partial, 2 incomplete');
      expect(await card.locator('.conditions li').allInnerTexts()).toEqual([hostile]);
      expect(await card.locator('.index-manager b').allInnerTexts()).toEqual(['worker-1', 'worker-2']);
      const pictures = card.locator('.shards');
      expect(await pictures.nth(1).getAttribute('aria-label')).toBe(
        'wiki@2.0.0 on worker-2: 1 serving, 1 fetching, 1 opening, 1 backing off, 1 leaving',
      );
      expect(await card.locator('progress').nth(1).getAttribute('aria-label')).toBe(
        'wiki@2.0.0 on worker-2: 1.0 GiB of 4.0 GiB fetched',
      );
      expect(await card.locator('progress').first().isVisible()).toBe(false);
      // Each state is drawn with a path of its own.
      const drawn = await pictures.nth(1).locator('path[data-shard]:not([d=""])').count();
      expect(drawn).toBe(5);

      await pictures.nth(1).focus();
      for (const key of ['Home', 'ArrowRight', 'ArrowRight']) await page.keyboard.press(key);
      expect(await page.locator('#tip').innerText()).toBe('part-00002: backing off');
      expect(await pictures.nth(1).getAttribute('aria-label')).toBe('part-00002: backing off');
      await pictures.first().hover({ position: { x: 4 * 14 + 5, y: 5 } });
      await until('the tip of a cell', async () => (await page.locator('#tip').innerText()) === 'part-00004: not here');

      mesh.indices = { ...mesh.indices, versions: mesh.indices.versions.slice(1) };
      await showsText('#indices-count', '1 in 1 version, all complete');
      expect(await page.locator('.index').count()).toBe(1);
      expect({ complaints, strayRequests }).toEqual({ complaints: [], strayRequests: [] });
    },
    PATIENCE_MS,
  );

  test(
    'fits with four thousand shards on three managers from 360 px up',
    async () => {
      const letters = (missing: number): string =>
        Array.from({ length: 4_000 }, (_, place) => (place % 3 === missing ? '-' : place % 97 === 5 ? 'f' : 's')).join(
          '',
        );
      const managers = { 'worker-1': letters(0), 'worker-2': letters(1), 'worker-3': letters(2) };
      mesh.indices = {
        ...mesh.indices,
        requests: { first: 0, retry: 0, hedge: 0 },
        versions: [madeIndex('wiki', '1.0.0', managers)],
      };
      const response = await fetch(`http://127.0.0.1:${faceplate.port}/mesh`);
      expect((await response.text()).length).toBeLessThan(40_000);
      for (const [width, colorScheme] of [
        [360, 'dark'],
        [1280, 'light'],
      ] as const) {
        await page.setViewportSize({ width, height: 800 });
        await page.emulateMedia({ colorScheme });
        await open();
        await showsText('#indices-count', '1 in 1 version, all complete');
        await until('the pictures to be drawn', () => page.locator('.shards[width]').count());
        const over = await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth');
        expect([width, over]).toEqual([width, 0]);
      }
      expect(complaints).toEqual([]);
    },
    PATIENCE_MS,
  );

  test(
    'is operated with the keyboard: Tab to the squares of a pool, arrows among them, Enter opens details',
    async () => {
      mesh.pools = [madePool('Calculator', '1.0.0', ['idle', 'busy', 'failed'])];
      await open();
      await page.locator('tbody.pool .name').focus();
      await page.keyboard.press('Tab');
      expect(await page.locator(':focus').getAttribute('href')).toBe('#versions/Calculator');
      await page.keyboard.press('Tab');
      await page.keyboard.press('End');
      const focused = page.locator(':focus');
      expect(await focused.getAttribute('data-state')).toBe('failed');
      await until('the tooltip', () => page.locator('#tip').isVisible());
      expect(await page.locator('#tip').innerText()).toContain('Calculator@1.0.0/2: failed');
      await page.keyboard.press('Enter');
      const chosen = page.locator('.resources tr.chosen');
      expect(await chosen.innerText()).toContain('Calculator@1.0.0/2');
      const looks = mesh.happened.length;
      mesh.happens('settings_changed', 'timeout', 'is 5 s now');
      await until('the next look', async () => (await page.locator('#events li').count()) > looks);
      expect(await focused.getAttribute('data-state')).toBe('failed');
      expect(await chosen.count()).toBe(1);
    },
    PATIENCE_MS,
  );

  test(
    'fits from 360 px up with twenty pools, in light and dark mode',
    async () => {
      mesh.pools = Array.from({ length: 20 }, (_, i) =>
        madePool(
          `com.example.search.AServiceWithAVeryLongName${i}`,
          `${i}.0.0-rc.1`,
          Array.from({ length: 40 }, () => 'idle'),
          {
            tags: ['a-tag-that-nobody-would-call-short', 'gpu'],
            note: 'A note without end: '.repeat(10),
          },
        ),
      );
      for (const [width, colorScheme] of [
        [360, 'light'],
        [820, 'dark'],
        [1920, 'light'],
      ] as const) {
        await page.setViewportSize({ width, height: 800 });
        await page.emulateMedia({ colorScheme });
        await open();
        await showsText('#pools-count', '20 with 800 of 800 resources alive');
        // As text, because this file is type-checked without the types of a browser.
        const over = await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth');
        expect([width, over]).toEqual([width, 0]);
      }
      expect(complaints).toEqual([]);
    },
    PATIENCE_MS,
  );

  test(
    'shows a mesh of many machines: each pool once, its resources by manager, an unreachable manager with its note',
    async () => {
      await serve(madeFleet());
      await open();
      await showsText('#pools-count', '5 with 9 of 12 resources alive');
      expect(await page.locator('tbody.pool').count()).toBe(5);
      const options = await page.locator('#scope option').allInnerTexts();
      expect(options).toEqual([
        'all calls',
        'Calculator@1.0.0',
        'Calculator@2.0.0',
        'Reformulate@1.0.0',
        'Search@1.0.0',
        'Troublemaker@0.1.0',
      ]);
      const search = page.locator('tbody.pool').nth(3);
      expect(await search.locator('.place').allInnerTexts()).toEqual([
        'worker-1',
        'worker-2',
        expect.stringMatching(/^worker-3\s*none known$/),
      ]);
      expect(await squares(3)).toEqual(['idle', 'busy', 'busy', 'draining']);
      expect(await search.locator('.pool-note').innerText()).toBe('worker-3: manager worker-3 cannot be reached');
      expect(await search.locator('.alive').innerText()).toBe('3 of 8 alive');
      expect(await page.locator('tbody.pool').nth(4).locator('.pool-note').innerText()).toContain('worker-3');

      // Two managers have a resource of this name; the clicked one is marked.
      await search.locator('.place').nth(1).locator('.square').first().click();
      expect(await search.locator('.resources .place-title').allInnerTexts()).toEqual([
        'worker-1 · host-c · 2 resources',
        'worker-2 · host-d · 2 resources · draining',
        'worker-3 · host-e · none known · unreachable',
      ]);
      const chosen = await search.locator('.resources tbody').nth(1).locator('tr').nth(1).getAttribute('class');
      expect([chosen, await page.locator('tr.chosen').count()]).toEqual(['chosen', 1]);
      await search.locator('.square').first().focus();
      await page.keyboard.press('End');
      expect(await page.locator(':focus').getAttribute('aria-label')).toContain('Search@1.0.0/1 on worker-2: draining');
      expect(complaints).toEqual([]);
    },
    PATIENCE_MS,
  );

  test(
    'lists every process: roles, machine, state in words, the leader and its term, the link to its own page',
    async () => {
      await serve(madeFleet());
      mesh.processes.push(madeProcess('odd', 'manager', 'host-f', { stats: 'javascript:document.title=1' }));
      await open();
      await showsText('#processes-count', '8 on 6 machines, 1 unreachable, 1 draining');
      const texts = (await page.locator('.process').allInnerTexts()).map((text) => text.split(/\s*\n\s*/).join(' | '));
      expect(texts[0]).toMatch(/^master-1 \| (● )?up \| master.*leader, term 1207.*on host-a$/s);
      expect(texts[1]).not.toContain('leads');
      expect(texts[2]).toContain('5 resources alive, capacity 4');
      expect(texts[3]).toContain('draining');
      expect(texts[4]).toContain('unreachable');
      expect(texts[4]).toContain('6 resources alive (from its Consul record), capacity 4');
      expect(texts[4]).toContain('its link does not answer');
      expect(texts[5]).toContain('this is its page');
      const links = await page.evaluate('[...document.querySelectorAll(".process a")].map(({ href }) => href)');
      expect(links).toEqual(
        ['host-a', 'host-b', 'host-c', 'host-d', 'host-e', 'host-b'].map((host) => `http://${host}.example:9081/`),
      );
      expect(await page.locator('#facts').innerText()).toContain('master-1, term 1207');
      expect(await page.locator('#calls-of').innerText()).toContain('through front-1');
      expect(await page.locator('#no-leader').isVisible()).toBe(false);

      mesh.change = { ...mesh.change, leader: '', term: 1207 };
      mesh.processes = mesh.processes.filter(({ name }) => name !== 'master-1');
      await until('no leader', () => page.locator('#no-leader').isVisible());
      expect(await page.locator('.process').count()).toBe(7);
      expect({ complaints, strayRequests }).toEqual({ complaints: [], strayRequests: [] });
    },
    PATIENCE_MS,
  );

  test(
    'omits the list of processes when there is only one, and names the process of each event otherwise',
    async () => {
      mesh.processes = (['master', 'manager', 'faceplate'] as const).map((role) => madeProcess('one', role, 'here'));
      mesh.pools = [madePool('Calculator', '1.0.0', ['idle'])];
      mesh.happens('mesh_ready', 'tests', 'in 5 ms');
      await open();
      await until('the event', () => page.locator('#events li').count());
      expect(await page.locator('#processes-section').isVisible()).toBe(false);
      expect(await page.locator('#events .in-process').isVisible()).toBe(false);
      expect(await page.locator('.place-name').count()).toBe(0);
      expect(await page.locator('#facts').innerText()).toContain('master, manager, faceplate');

      mesh.processes.push(madeProcess('two', 'manager', 'there'));
      mesh.happens('link_lost', 'two', 'does not answer', [], 'one');
      mesh.happens('order_refused', 'two', 'an order of term 3, newest is 4', [], 'two');
      await until('their places', async () => (await page.locator('#events .in-process').count()) === 3);
      await until('the processes', () => page.locator('#processes-section').isVisible());
      expect(await page.locator('#events .in-process').allInnerTexts()).toEqual(['two', 'one', 'one']);
      expect(await page.locator('#events li[data-tone="trouble"] .kind').allInnerTexts()).toEqual([
        'order refused',
        'link lost',
      ]);
    },
    PATIENCE_MS,
  );

  test(
    'does not count the calls of a returning manager as an increase or a rate',
    async () => {
      await serve(madeFleet());
      await open();
      await page.locator('#scope').selectOption('Search@1.0.0');
      const errors = page.locator('tbody.pool').nth(3).locator('[data-label="Errors"]');
      expect(await errors.innerText()).toBe('3');
      const back = madePool('Search', '1.0.0', ['idle'], { manager: 'worker-3', calls: 9_000_000, errors: 500 });
      mesh.elsewhere = mesh.elsewhere.map((pool) =>
        pool.service === 'Search' && pool.manager === 'worker-3' ? back : pool,
      );
      await until('its errors', async () => (await errors.innerText()) === '503');
      expect(await errors.getAttribute('class')).not.toContain('some');
      const chart = page.locator('#chart-calls');
      const label = await until('a chart of it', () => chart.getAttribute('aria-label'));
      expect(label).toMatch(/calls (none|0), errors (none|0)$/);
      await until('rates again', async () => (await chart.getAttribute('aria-label'))?.endsWith('calls 0, errors 0'));
      // A real increase is shown.
      mesh.elsewhere = mesh.elsewhere.map((pool) => (pool === back ? { ...back, errors: 501 } : pool));
      await until('red', async () => (await errors.getAttribute('class'))?.includes('some'));
    },
    PATIENCE_MS,
  );

  test(
    'fits from 360 px up with many machines, in light and dark mode',
    async () => {
      const made = madeFleet();
      const name = 'a-machine-whose-name-nobody-would-call-short';
      for (let i = 0; i < 5; i++) {
        made.processes.push(madeProcess(`${name}-${i}`, 'manager', `${name}.rack-${i}.example.com`));
        made.elsewhere.push(
          madePool(
            'Search',
            '1.0.0',
            Array.from({ length: 30 }, () => 'idle'),
            { manager: `${name}-${i}` },
          ),
        );
      }
      made.happens('link_lost', `${name}-0`, `${name} `.repeat(8), [name.repeat(9)], `${name}-0`);
      await serve(made);
      for (const [width, colorScheme] of [
        [360, 'dark'],
        [820, 'light'],
        [1920, 'dark'],
      ] as const) {
        await page.setViewportSize({ width, height: 800 });
        await page.emulateMedia({ colorScheme });
        await open();
        await showsText('#processes-count', '12 on 10 machines, 1 unreachable, 1 draining');
        await page.locator('tbody.pool .name').nth(3).click();
        const over = await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth');
        expect([width, over]).toEqual([width, 0]);
        // The number of squares is limited; the rest is shown as a number.
        expect((await squares(3)).length).toBeLessThanOrEqual(200);
        expect(await page.locator('tbody.pool').nth(3).locator('.more').first().innerText()).toBe('+ 5');
      }
      expect(complaints).toEqual([]);
    },
    PATIENCE_MS,
  );
});

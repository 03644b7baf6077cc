// The guest book sample with its own configuration in a whole mesh, in a real browser.

import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestMesh, type TestMesh } from '../kit/mesh/mesh.ts';
import { scriptCommand } from '../../core/mod.ts';
import { toolPath } from '../kit/tools/tools.ts';

const FOLDER = fileURLToPath(new URL('../../examples/web/', import.meta.url));
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'];
/** A browser is slow on a busy machine, and one test runner has a default timeout of 5 s. */
const PATIENCE_MS = 60_000;

let mesh: TestMesh;
let browser: Browser;
let page: Page;
const complaints: string[] = [];

beforeAll(async () => {
  mesh = await startTestMesh(
    [{ service: 'GuestBook', version: '1.0.0', command: scriptCommand(path.join(FOLDER, 'guestbook.ts')), count: 1 }],
    {
      web: {
        port: 0,
        sites: [{ prefix: '/guestbook', service: 'GuestBook', files: path.join(FOLDER, 'public'), timeout: '5s' }],
      },
    },
  );
  await mesh.mesh.whenReady;
  browser = await chromium.launch({ executablePath: toolPath('chromium'), args: FLAGS });
  page = await browser.newPage({ viewport: { width: 900, height: 900 } });
  page.on('console', (message) => {
    if (message.type() === 'error') complaints.push(message.text());
  });
}, PATIENCE_MS);

afterAll(async () => {
  await browser.close();
  await mesh.end();
}, PATIENCE_MS);

describe('The guest book', () => {
  test(
    'accepts a form, shows its text escaped, and recognizes its guest by a cookie',
    async () => {
      const start = await page.goto(`${mesh.mesh.addresses.web}/guestbook/`);
      expect([start?.status(), start?.headers()['katamari-version']]).toEqual([200, '1.0.0']);
      expect(await page.locator('h2').innerText()).toBe('Nobody has signed yet');
      // The style sheet is a static file and was applied.
      expect(await page.evaluate("getComputedStyle(document.querySelector('form')).display")).toBe('grid');

      await page.fill('input[name=name]', 'Änne & <b>Co</b>');
      await page.fill('textarea', 'Grüße! <script>document.title = "taken"</script>');
      await page.click('button');
      await page.waitForURL('**/guestbook/');
      await page.locator('.entries li').waitFor();
      expect(await page.locator('h2').innerText()).toBe('One guest so far');
      expect(await page.locator('.entries p').innerText()).toBe('Grüße! <script>document.title = "taken"</script>');
      expect(await page.locator('.entries b').innerText()).toBe('Änne & <b>Co</b>');
      expect(await page.title()).toBe('Guest book');
      expect(await page.inputValue('input[name=name]')).toBe('Änne & <b>Co</b>');

      await page.reload();
      expect(await page.locator('.entries li').count()).toBe(1);
      expect(complaints).toEqual([]);
    },
    PATIENCE_MS,
  );

  test(
    'has a static page with a link back',
    async () => {
      await page.goto(`${mesh.mesh.addresses.web}/guestbook/about.html`);
      expect(await page.locator('h1').innerText()).toBe('About the guest book');
      await page.click('main p:last-child a');
      expect(await page.locator('h1').innerText()).toBe('Guest book');
      const missing = await page.goto(`${mesh.mesh.addresses.web}/guestbook/nothing`);
      expect(missing?.status()).toBe(404);
      expect(await page.locator('.note').innerText()).toContain('There is no such page');
    },
    PATIENCE_MS,
  );

  test('asks again for missing input', async () => {
    const answer = await fetch(`${mesh.mesh.addresses.web}/guestbook/`, {
      method: 'POST',
      body: new URLSearchParams({ name: 'x', words: ' ' }),
    });
    expect([answer.status, await answer.text()]).toEqual([
      400,
      expect.stringContaining('Please give a name') as string,
    ]);
    const wrong = await fetch(`${mesh.mesh.addresses.web}/guestbook/`, { method: 'DELETE' });
    expect([wrong.status, wrong.headers.get('allow')]).toEqual([405, 'GET, HEAD, POST']);
  });
});

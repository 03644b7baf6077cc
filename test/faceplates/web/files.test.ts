// Static files of a site: which files are found, which never are, and their HTTP semantics.

import { readdirSync, readlinkSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { rawClient } from '../../kit/wire/raw-http.ts';
import { until } from '../../kit/tools/wait.ts';
import { makeFiles, site, startShop, type Shop } from './shop.ts';

let files: ReturnType<typeof makeFiles>;
let shop: Shop;

beforeAll(async () => {
  files = makeFiles();
  shop = await startShop({
    sites: [
      site({ prefix: '/shop', files: files.folder, cacheControl: 'max-age=60' }),
      site({ prefix: '/only', service: '', files: files.folder }),
    ],
  });
});

afterAll(async () => {
  await shop.end();
  files.remove();
});

/** One raw request, because a client library would normalize the path. Returns status line, headers, body. */
async function raw(method: string, target: string, headers = ''): Promise<string> {
  const client = await rawClient(
    shop.server.port,
    `${method} ${target} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n${headers}\r\n`,
  );
  return await client.closed();
}

/** Open files of this process, by name (Linux). */
function openFiles(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      // The descriptor of the listing itself.
      return [];
    }
  });
}

describe('Files of a site', () => {
  test('are served with type, length, ETag, date and the configured Cache-Control', async () => {
    const answer = await fetch(`${shop.url}/shop/style.css`);
    expect([answer.status, await answer.text()]).toEqual([200, 'body { color: red }']);
    expect(answer.headers.get('content-type')).toBe('text/css; charset=utf-8');
    expect(answer.headers.get('content-length')).toBe('19');
    expect(answer.headers.get('cache-control')).toBe('max-age=60');
    expect(answer.headers.get('x-content-type-options')).toBe('nosniff');
    expect(answer.headers.get('etag')).toMatch(/^W\/"/);
    const changed = Math.floor(statSync(path.join(files.folder, 'style.css')).mtimeMs / 1_000) * 1_000;
    expect(Date.parse(answer.headers.get('last-modified') ?? '')).toBe(changed);
    expect(shop.got).toEqual([]);
  });

  test('are not sent again to a client that has them', async () => {
    const first = await fetch(`${shop.url}/shop/style.css`);
    await first.text();
    // As browsers ask; fetch of some runtimes adds its own Cache-Control.
    for (const header of [
      `If-None-Match: ${first.headers.get('etag')}`,
      `If-Modified-Since: ${first.headers.get('last-modified')}`,
    ]) {
      expect(await raw('GET', '/shop/style.css', `${header}\r\n`)).toMatch(/^HTTP\/1\.1 304 [\s\S]*\r\n\r\n$/);
    }
    const stale = await fetch(`${shop.url}/shop/style.css`, { headers: { 'if-none-match': '"other"' } });
    expect([stale.status, await stale.text()]).toEqual([200, 'body { color: red }']);
  });

  test('are sent in part for a range request', async () => {
    const part = await fetch(`${shop.url}/shop/style.css`, { headers: { range: 'bytes=0-3' } });
    expect([part.status, part.headers.get('content-range'), await part.text()]).toEqual([206, 'bytes 0-3/19', 'body']);
    const beyond = await fetch(`${shop.url}/shop/style.css`, { headers: { range: 'bytes=100-' } });
    expect([beyond.status, beyond.headers.get('content-range'), await beyond.text()]).toEqual([416, 'bytes */19', '']);
    const failed = await fetch(`${shop.url}/shop/style.css`, { headers: { 'if-match': '"other"' } });
    expect([failed.status, await failed.text()]).toEqual([412, '']);
  });

  test('are sent as headers only for HEAD, and may be empty or have unusual names', async () => {
    expect(await raw('HEAD', '/shop/style.css')).toMatch(/^HTTP\/1\.1 200 [\s\S]*content-length: 19[\s\S]*\r\n\r\n$/i);
    const empty = await fetch(`${shop.url}/shop/empty.txt`);
    expect([empty.status, empty.headers.get('content-length'), await empty.text()]).toEqual([200, '0', '']);
    const odd = await fetch(`${shop.url}/shop/${encodeURIComponent('grüße & more.txt')}`);
    expect([odd.status, await odd.text()]).toEqual([200, 'hello']);
    const link = await fetch(`${shop.url}/shop/inside.css`);
    expect([link.status, await link.text()]).toEqual([200, 'body { color: red }']);
  });

  test('include index.html of a folder, and a path without the slash redirects to it', async () => {
    for (const [target, text] of [
      ['/shop/', 'Start'],
      ['/shop/sub/', 'Sub'],
      ['/only/', 'Start'],
    ] as const) {
      expect(await raw('GET', target)).toContain(`<h1>${text}</h1>`);
    }
    expect(await raw('GET', '/shop')).toMatch(/^HTTP\/1\.1 307 [\s\S]*location: \/shop\/\r\n/i);
    expect(await raw('GET', '/shop/sub?a=1&b')).toMatch(/^HTTP\/1\.1 307 [\s\S]*location: \/shop\/sub\/\?a=1&b\r\n/i);
  });

  test('take precedence over the pool, which gets the other requests', async () => {
    for (const target of ['/shop/none.css', '/shop/bare/', '/shop/bare', '/shop/style.css/', '/shop/style.css/x']) {
      const answer = await fetch(shop.url + target);
      expect([answer.status, ((await answer.json()) as { path: string }).path]).toEqual([200, target]);
    }
    const posted = await fetch(`${shop.url}/shop/style.css`, { method: 'POST', body: 'x' });
    expect(((await posted.json()) as { method: string }).method).toBe('POST');
  });

  test('are the only content of a site without a service', async () => {
    const none = await fetch(`${shop.url}/only/none.css`);
    expect([none.status, await none.text()]).toEqual([404, 'There is no such file here.\n']);
    const posted = await fetch(`${shop.url}/only/style.css`, { method: 'POST', body: 'x' });
    expect([posted.status, posted.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
    expect(await posted.text()).toContain('use GET or HEAD');
  });

  test('may be large, and are closed when the client disconnects', async () => {
    const size = 48 * 1024 * 1024;
    const name = path.join(files.folder, 'large.bin');
    writeFileSync(name, '');
    truncateSync(name, size);
    const whole = await fetch(`${shop.url}/shop/large.bin`);
    expect(whole.headers.get('content-type')).toBe('application/octet-stream');
    expect((await whole.arrayBuffer()).byteLength).toBe(size);
    const before = shop.server.connections();
    const leaving = await rawClient(shop.server.port, 'GET /shop/large.bin HTTP/1.1\r\nHost: x\r\n\r\n');
    await leaving.seen(/^HTTP\/1\.1 200 /);
    leaving.socket.pause();
    leaving.destroy();
    await until('it to be gone', () => shop.server.connections() <= before);
    await until('the file to be closed', () => !openFiles().includes(name));
    const other = await fetch(`${shop.url}/shop/style.css`);
    expect([other.status, await other.text()]).toEqual([200, 'body { color: red }']);
  });

  test('are read again after they have changed', async () => {
    const name = path.join(files.folder, 'fresh.txt');
    writeFileSync(name, 'one');
    const first = await fetch(`${shop.url}/shop/fresh.txt`);
    expect(await first.text()).toBe('one');
    writeFileSync(name, 'two and more');
    const headers = { 'if-none-match': first.headers.get('etag') ?? '' };
    const second = await fetch(`${shop.url}/shop/fresh.txt`, { headers });
    expect([second.status, await second.text()]).toEqual([200, 'two and more']);
  });
});

describe('A path outside the files of the site', () => {
  const targets = [
    '/only/../outside/secret.txt',
    '/only/%2e%2e/outside/secret.txt',
    '/only/..%2foutside%2fsecret.txt',
    '/only/%2e%2e%2foutside/secret.txt',
    '/only/sub/../../outside/secret.txt',
    '/only/..%5coutside%5csecret.txt',
    '/only/..\\outside\\secret.txt',
    '/only/%252e%252e/outside/secret.txt',
    '/only//../../outside/secret.txt',
    '/only/../public-not.txt',
    '/only/.env',
    '/only/%2eenv',
    '/only/.git/config',
    '/only/.git/',
    '/only/link.txt',
    '/only/linked/secret.txt',
    '/only/linked/',
    '/only/trap/',
    '/only/trap',
    '/only/dotless.txt',
    '/only/style.css%00.txt',
    '/only/%ff%fe',
    '/only/%',
    `/only/${'a'.repeat(5_000)}`,
  ];
  for (const target of targets) {
    test(`is not served: ${target.slice(0, 60)}`, async () => {
      const answer = await raw('GET', target);
      expect(answer).toMatch(/^HTTP\/1\.1 (404|400) /);
      expect(answer).not.toContain('SECRET');
      expect(answer).not.toContain('307');
    });
  }

  test('is not served as an absolute file name either', async () => {
    const answer = await raw('GET', `/only/${files.outside}/secret.txt`);
    expect(answer).toMatch(/^HTTP\/1\.1 404 /);
    expect(answer).not.toContain('SECRET');
  });

  test('never redirects to another server', async () => {
    const root = await startShop({ sites: [site({ prefix: '/', service: '', files: files.folder })] });
    const client = await rawClient(root.server.port, 'GET //sub HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    const answer = await client.closed();
    await root.end();
    expect(answer).not.toMatch(/location: \/\//i);
  });
});

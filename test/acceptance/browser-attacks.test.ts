// Attacks of web pages on a whole mesh, in a real browser: a page of another origin, and a page whose name resolves to
// this machine (DNS rebinding). Nothing may be executed, which the ledger of the chassis shows, and nothing may be
// read. Pages of the mesh itself and of an allowed origin work.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium, type Browser, type BrowserContext, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import type { Interface } from '../../core/thrift/mod.ts';
import { startTestMesh, work, type TestMesh } from '../kit/mesh/mesh.ts';
import { toolPath } from '../kit/tools/tools.ts';
import { until } from '../kit/tools/wait.ts';
import { callBytes } from '../kit/wire/raw-thrift.ts';

/** A browser is slow on a busy machine, and one test runner has a default timeout of 5 s. */
const PATIENCE_MS = 60_000;
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--host-resolver-rules=MAP *.example 127.0.0.1',
  // The defense of the browser itself, which others lack.
  '--disable-features=LocalNetworkAccessChecks',
];
const WORK = parseIdl(
  readIdlFile(fileURLToPath(new URL('../fixtures/chassis/work.thrift', import.meta.url))),
).services.get('Work') as Interface;
const JSON_CALL = '{"jsonrpc":"2.0","id":1,"method":"Work.note","params":{"line":"attack"}}';

let mesh: TestMesh;
let browser: Browser;
let context: BrowserContext;
let page: Page;
/** Serves an empty page under any name. */
const pages = createServer((_request, response) => response.setHeader('content-type', 'text/html').end('<p>page'));
let pagePort: number;
let folder: string;

beforeAll(async () => {
  await new Promise<void>((resolve) => pages.listen(0, '127.0.0.1', resolve));
  pagePort = (pages.address() as AddressInfo).port;
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-site-'));
  writeFileSync(path.join(folder, 'index.html'), '<!doctype html><title>Site</title><p>own page');
  writeFileSync(path.join(folder, 'script.js'), 'globalThis.leaked = true;');
  mesh = await startTestMesh([work()], {
    http: { hosts: ['mesh.example'], origins: [`http://friend.example:${pagePort}`] },
    web: { port: 0, sites: [{ prefix: '/', files: folder }] },
  });
  await mesh.mesh.whenReady;
  browser = await chromium.launch({ executablePath: toolPath('chromium'), args: FLAGS });
}, PATIENCE_MS);

afterAll(async () => {
  await browser.close();
  await mesh.end();
  await new Promise((resolve) => pages.close(resolve));
  rmSync(folder, { recursive: true, force: true });
}, PATIENCE_MS);

beforeEach(async () => {
  context = await browser.newContext();
  page = await context.newPage();
});
afterEach(() => context.close());

interface Ports {
  readonly thrift: string;
  readonly jsonRpc: string;
  readonly stats: string;
  readonly web: string;
  readonly consul: string;
}

/** The origins of all HTTP ports, under this host name. */
function portsUnder(host: string): Ports {
  const { thrift, jsonRpc, stats, web, consul } = mesh.mesh.addresses;
  const under = (address: string): string => `http://${host}:${address.slice(address.lastIndexOf(':') + 1)}`;
  return {
    thrift: under(thrift),
    jsonRpc: under(jsonRpc),
    stats: under(stats),
    web: under(web),
    consul: under(consul),
  };
}

/** A oneway call of Work.note in the binary protocol, as numbers that a page can receive. */
function thriftCall(line: string): number[] {
  return [...callBytes(WORK, 'note', { line }, { framed: false, type: 4 })];
}

/** Sends a request from the page; returns the status, 0 for an opaque response, or the name of the error. */
async function send(
  url: string,
  {
    bytes,
    type,
    ...init
  }: { method?: string; mode?: string; body?: string; bytes?: number[]; type?: string | null } = {},
): Promise<number | string> {
  return page.evaluate(
    async (given): Promise<number | string> => {
      const content = given.bytes === undefined ? given.init.body : new Uint8Array(given.bytes);
      const isBlob = given.type !== undefined && content !== undefined;
      const body = isBlob ? new Blob([content], given.type === null ? {} : { type: given.type as string }) : content;
      try {
        const response = await fetch(given.url, {
          ...given.init,
          ...(body === undefined ? {} : { body }),
        } as RequestInit);
        return response.status;
      } catch (error) {
        return (error as Error).name;
      }
    },
    { url, bytes, type, init },
  );
}

/** Waits until all that was sent before has been handled, and returns what the chassis executed. */
async function executed(): Promise<string[]> {
  const mark = `mark ${Math.random()}`;
  await mesh.call('Work.note', { line: mark });
  for (;;) {
    const lines = mesh.ledger();
    if (lines.some((line) => line.includes(mark))) return lines.filter((line) => line.includes('attack'));
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

describe('A page of another origin', () => {
  for (const host of ['evil.example', 'localhost', '127.0.0.1'] as const) {
    test(
      `(http://${host}) executes nothing and reads nothing`,
      async () => {
        await page.goto(`http://${host}:${pagePort}/`);
        const { thrift, jsonRpc, stats, web, consul } = portsUnder('127.0.0.1');
        const binary = { method: 'POST', bytes: thriftCall('attack by thrift') };
        const json = { method: 'POST', body: JSON_CALL };
        const types = ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data', null];
        for (const type of types) {
          for (const url of [thrift, `${thrift}/x`]) {
            expect([0, 'TypeError']).toContain(await send(url, { ...binary, type, mode: 'no-cors' }));
            expect(await send(url, { ...binary, type })).toBe('TypeError');
          }
          expect([0, 'TypeError']).toContain(await send(`${jsonRpc}/rpc`, { ...json, type, mode: 'no-cors' }));
          expect(await send(`${jsonRpc}/rpc`, { ...json, type })).toBe('TypeError');
        }
        // These need a preflight, which is refused.
        expect(await send(thrift, { ...binary, type: 'application/x-thrift' })).toBe('TypeError');
        expect(await send(`${jsonRpc}/rpc`, { ...json, type: 'application/json' })).toBe('TypeError');
        const deployment = { method: 'PUT', body: '{"attack":1}' };
        expect(await send(`${consul}/v1/kv/katamari/test/deployments/attack`, deployment)).toBe('TypeError');
        for (const url of [
          `${stats}/status`,
          `${stats}/metrics`,
          `${jsonRpc}/openrpc.json`,
          `${web}/`,
          `${consul}/v1/kv/?recurse`,
        ]) {
          expect(await send(url)).toBe('TypeError');
        }
        await page.evaluate(`navigator.sendBeacon(${JSON.stringify(`${jsonRpc}/rpc`)}, ${JSON.stringify(JSON_CALL)})`);
        // A script is executed by the page that includes it.
        const loads = await page.evaluate(`(async () => {
          const script = document.createElement('script');
          script.src = ${JSON.stringify(`${web}/script.js`)};
          const ended = new Promise((resolve) => (script.onload = script.onerror = ({ type }) => resolve(type)));
          document.head.append(script);
          return [await ended, globalThis.leaked ?? false];
        })()`);
        expect(loads).toEqual(['error', false]);
        // A form that navigates.
        await page.setContent(
          `<form method=post enctype=text/plain action=${jsonRpc}/rpc><input name='${JSON_CALL.slice(0, -1)},"x":"' value='"}'></form>`,
        );
        const [answer] = await Promise.all([
          page.waitForResponse(`${jsonRpc}/rpc`),
          page.evaluate('document.forms[0].submit()'),
        ]);
        expect(answer.status()).toBe(403);
        expect(await executed()).toEqual([]);
        expect(JSON.stringify(await mesh.readConsul('kv/?keys'))).not.toContain('attack');
      },
      PATIENCE_MS,
    );
  }

  test(
    'may link to the status page and to a site, and to nothing that it can read',
    async () => {
      const { stats, web } = portsUnder('127.0.0.1');
      for (const [url, title] of [
        [`${stats}/`, /Katamari|ready/],
        [`${web}/`, /Site/],
      ] as const) {
        await page.goto(`http://evil.example:${pagePort}/`);
        await page.setContent(`<a href="${url}">link</a>`);
        await page.click('a');
        await page.waitForURL(url);
        expect(await page.title()).toMatch(title);
      }
    },
    PATIENCE_MS,
  );
});

describe('A page whose name resolves to this machine', () => {
  test(
    'executes nothing and reads nothing, although the port is of its own origin',
    async () => {
      const ports = portsUnder('evil.example');
      for (const origin of Object.values(ports)) {
        // The first answer came from the server of the attacker. Afterwards the name resolves to this machine.
        await page.route(`${origin}/`, (route) => route.fulfill({ contentType: 'text/html', body: '<p>attack' }), {
          times: 1,
        });
        await page.goto(`${origin}/`);
        expect(await page.evaluate('document.body.innerText')).toBe('attack');
        const binary = { method: 'POST', bytes: thriftCall('attack by thrift') };
        const json = { method: 'POST', body: JSON_CALL };
        const statuses = {
          thrift: [await send('/', { ...binary, type: 'application/x-thrift' }), await send('/', binary)],
          rpc: [
            await send('/rpc', { ...json, type: 'application/json' }),
            await send('/rpc', { ...json, type: 'text/plain' }),
          ],
          put: await send('/v1/kv/katamari/test/deployments/attack', { method: 'PUT', body: '{"attack":1}' }),
        };
        expect([origin, statuses]).toEqual([origin, { thrift: [421, 421], rpc: [421, 421], put: expect.anything() }]);
        // The Thrift port knows POST alone.
        const isThrift = origin === ports.thrift;
        expect(statuses.put).toBe(isThrift ? 400 : 421);
        for (const target of ['/status', '/openrpc.json', '/v1/kv/?recurse', '/script.js']) {
          expect([target, await send(target)]).toEqual([target, isThrift ? 400 : 421]);
        }
      }
      expect(await executed()).toEqual([]);
    },
    PATIENCE_MS,
  );
});

describe('A refused page', () => {
  test('is named in the audit log, once there are too many by their number', async () => {
    const file = path.join(path.dirname(mesh.ledgerFile), 'data', 'audit', 'audit-000001.jsonl');
    const line =
      /"from":"[^"]*127\.0\.0\.1".*"code":"bad_origin".*Web pages of .*evil\.example.* may not use this port/;
    await until('a line', () => line.test(readFileSync(file, 'utf8')));
    const metrics = await (await fetch(`${mesh.mesh.addresses.stats}/metrics`)).text();
    expect(Number(/^katamari_audit_refusals_total\{code="bad_origin"\} (\d+)$/m.exec(metrics)?.[1])).toBeGreaterThan(
      20,
    );
  });
});

describe('A page that may', () => {
  test(
    'call does: of an allowed origin, by JSON-RPC and by Thrift over HTTP, under a configured name',
    async () => {
      const { thrift, jsonRpc, stats } = portsUnder('mesh.example');
      await page.goto(`http://friend.example:${pagePort}/`);
      const body = JSON_CALL.replace('attack', 'friend by json');
      expect(await send(`${jsonRpc}/rpc`, { method: 'POST', body, type: 'application/json' })).toBe(200);
      const bytes = thriftCall('friend by thrift');
      expect(await send(thrift, { method: 'POST', bytes, type: 'application/x-thrift' })).toBe(200);
      expect(await send(`${stats}/status`)).toBe(200);
      await executed();
      const lines = mesh.ledger().map((line) => line.replace(/ \d+$/, ''));
      expect(lines).toContain('note friend by json');
      expect(lines).toContain('note friend by thrift');
    },
    PATIENCE_MS,
  );

  test(
    'read its own port does: the status page, under every name of the machine',
    async () => {
      for (const host of ['127.0.0.1', 'localhost', 'status.localhost', 'mesh.example']) {
        await page.goto(`${portsUnder(host).stats}/`);
        await page.locator('#state', { hasText: 'ready' }).waitFor();
        expect(await send('/status')).toBe(200);
      }
    },
    PATIENCE_MS,
  );
});

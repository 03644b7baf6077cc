// A web faceplate on an ephemeral port with two applications behind it, for the tests of this module. What the
// applications answer is told by the last step of the path.

import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DEFAULT_LIMITS, type ByteLedger, type FaceplateLimits } from '../../../core/mod.ts';
import type { Call, Handlers } from '../../../core/rpc/mod.ts';
import { startWebFaceplate, type Site } from '../../../faceplates/web/mod.ts';
import type { WebFaceplate } from '../../../faceplates/web/server.ts';
import { fileURLToPath } from 'node:url';
import { testMeshAccess, type PoolText, type TestMeshAccess } from '../../kit/mesh/mesh-access.ts';

export interface Header {
  readonly name: string;
  readonly value: string;
}

/** struct Request as a handler gets it. */
export interface Got {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly headers: readonly Header[];
  readonly body: Buffer;
  readonly remote_address: string;
  readonly scheme: string;
  readonly host: string;
  readonly prefix: string;
}

export interface Shop {
  readonly mesh: TestMeshAccess;
  readonly server: WebFaceplate;
  readonly url: string;
  /** Requests that reached a handler, in order. */
  readonly got: Got[];
  /** Lets a request of `/wait/NAME` answer. */
  release(name: string): void;
  isWaiting(name: string): boolean;
  end(): Promise<void>;
}

export const SHOP_IDL: string = fileURLToPath(new URL('./shop.thrift', import.meta.url));

const SITE: Site = {
  prefix: '/shop',
  service: 'Shop',
  version: '',
  files: '',
  cacheControl: 'no-cache',
  timeoutMs: Number.POSITIVE_INFINITY,
  stickyCookie: '',
};

export function site(change: Partial<Site>): Site {
  return { ...SITE, ...change };
}

export async function startShop(
  options: {
    readonly sites?: readonly Site[];
    readonly limits?: Partial<FaceplateLimits>;
    readonly trustProxy?: boolean;
    /** Origins of pages that may send requests. */
    readonly origins?: readonly string[];
    readonly ledger?: ByteLedger;
    readonly pools?: (handlers: Handlers<Call>) => readonly PoolText[];
    /** Replaces the answer of the handler. */
    readonly answer?: (request: Got) => unknown;
  } = {},
): Promise<Shop> {
  const got: Got[] = [];
  const waiting = new Map<string, () => void>();
  const handlers: Handlers<Call> = {
    async handle_request({ request }: { request: Got }, call: Call) {
      got.push(request);
      if (options.answer !== undefined) return options.answer(request);
      const [, what = '', name = ''] = /\/(\w+)\/(\w+)$/.exec(request.path) ?? [];
      if (what === 'wait') await new Promise<void>((resolve) => waiting.set(name, resolve));
      if (what === 'crash') throw new Error('a secret of the shop');
      const about = { service: call.service, version: call.version, key: call.key, caller: call.caller };
      return {
        headers: [{ name: 'Content-Type', value: 'application/json' }],
        body: Buffer.from(JSON.stringify({ ...request, body: request.body.toString('latin1'), ...about })),
      };
    },
  };
  const mesh = testMeshAccess(
    options.pools?.(handlers) ?? [
      { idl: SHOP_IDL, service: 'Shop', handlers, resources: 4 },
      { idl: SHOP_IDL, service: 'Blog', handlers, resources: 4 },
    ],
  );
  const server = await startWebFaceplate({
    mesh,
    callStats: mesh.callStats,
    limits: { ...DEFAULT_LIMITS, ...options.limits },
    host: '127.0.0.1',
    access: { hosts: ['x', 'inner', '*.example'], origins: options.origins ?? [] },
    port: 0,
    sites: options.sites ?? [SITE],
    trustProxy: options.trustProxy ?? false,
    ...(options.ledger === undefined ? {} : { ledger: options.ledger }),
  });
  return {
    mesh,
    server,
    url: server.address,
    got,
    release: (name) => waiting.get(name)?.(),
    isWaiting: (name) => waiting.has(name),
    end: () => server.close(),
  };
}

/** A folder with files to serve, and beside it a file that must never be served. */
export function makeFiles(): { readonly folder: string; readonly outside: string; remove(): void } {
  const base = mkdtempSync(path.join(tmpdir(), 'katamari-files-'));
  const folder = path.join(base, 'public');
  const outside = path.join(base, 'outside');
  for (const made of [
    folder,
    outside,
    path.join(folder, 'sub'),
    path.join(folder, 'bare'),
    path.join(folder, '.git'),
  ]) {
    mkdirSync(made, { recursive: true });
  }
  writeFileSync(path.join(outside, 'secret.txt'), 'SECRET');
  writeFileSync(path.join(base, 'public-not.txt'), 'SECRET');
  writeFileSync(path.join(folder, 'index.html'), '<h1>Start</h1>');
  writeFileSync(path.join(folder, 'style.css'), 'body { color: red }');
  writeFileSync(path.join(folder, 'grüße & more.txt'), 'hello');
  writeFileSync(path.join(folder, 'empty.txt'), '');
  writeFileSync(path.join(folder, '.env'), 'SECRET');
  writeFileSync(path.join(folder, '.git', 'config'), 'SECRET');
  writeFileSync(path.join(folder, 'sub', 'index.html'), '<h1>Sub</h1>');
  writeFileSync(path.join(folder, 'bare', 'page.html'), '<h1>Page</h1>');
  symlinkSync(path.join(outside, 'secret.txt'), path.join(folder, 'link.txt'));
  symlinkSync(outside, path.join(folder, 'linked'));
  symlinkSync(path.join(folder, '.env'), path.join(folder, 'dotless.txt'));
  symlinkSync(path.join(folder, 'style.css'), path.join(folder, 'inside.css'));
  mkdirSync(path.join(folder, 'trap'));
  symlinkSync(path.join(outside, 'secret.txt'), path.join(folder, 'trap', 'index.html'));
  return { folder, outside, remove: () => rmSync(base, { recursive: true, force: true }) };
}

// Hostile requests to the stats port and the web port.

import type { Random } from '../kit/tools/random.ts';
import { httpInput } from './http-inputs.ts';
import type { Input } from './target.ts';

export function statsInput(random: Random): Input {
  return httpInput(random, { method: random.chance(0.9) ? 'GET' : 'HEAD', target: random.pick(STATS_TARGETS) });
}

/** @param prefixes of a site with an application that returns the body, and of one with files */
export function webInput(random: Random, prefixes: { readonly app: string; readonly files: string }): Input {
  if (random.chance(0.4)) {
    const headers = random.chance(0.2) ? [random.pick(FILE_HEADERS)] : [];
    return httpInput(random, {
      method: random.chance(0.9) ? 'GET' : 'HEAD',
      target: `${prefixes.files}${random.pick(FILES)}`,
      headers,
    });
  }
  const body = random.chance(0.7)
    ? random.bytes(random.pick([0, 1, 100, 3_000]))
    : Buffer.from('x'.repeat(random.pick([10, 70_000])));
  const method = random.pick(['POST', 'PUT', 'GET', 'DELETE', 'PATCH']);
  return httpInput(random, {
    method,
    target: `${prefixes.app}/${random.pick(APP_TARGETS)}`,
    headers: [`content-type: ${random.pick(TYPES)}`],
    body,
  });
}

const STATS_TARGETS: readonly string[] = [
  '/',
  '/metrics',
  '/livez',
  '/livez',
  '/readyz',
  '/status',
  '/mesh',
  '/status/Work',
  '/status/Work/1',
  '/status/Work@1.0.0/2',
  '/status/Work/-1',
  '/status/Work/x',
  '/status/__proto__',
  '/status/%00',
  '/status/%zz',
  '/status/%F0%9F%A6%86/1e9',
  '/status/a/b/c',
  '/events',
  '/events?after=0',
  '/events?after=999999999999999',
  '/events?after=-1',
  '/events?after=x&after=1',
  '/durations',
  '/page-assets/page.js',
  '/page-assets/..%2f..%2fpackage.json',
  '/page-assets/__proto__',
  '/favicon.ico',
];

const FILES: readonly string[] = [
  '/',
  '/index.html',
  '/style.css',
  '/nothing',
  '/..%2f..%2fsecret',
  '/../secret',
  '/%2e%2e/secret',
  '/.hidden',
  '/a%00.html',
  '/%ff',
  '/%',
  '/index.html/',
  '/index.html?x=%',
  '//index.html',
  '/con',
  '/folder',
  '',
];

const FILE_HEADERS: readonly string[] = [
  'range: bytes=0-3',
  'range: bytes=-1',
  'range: bytes=5-2',
  'range: bytes=0-0,1-1,2-2,3-3',
  'range: x',
  'if-none-match: *',
  'if-modified-since: Thu, 01 Jan 2099 00:00:00 GMT',
  'if-range: "x"',
];

const APP_TARGETS: readonly string[] = [
  'echo',
  'echo?a=b&a=c',
  'echo/%20/%zz',
  'echo?%',
  '',
  '..',
  '%2e%2e/x',
  `echo?${'q'.repeat(3_000)}`,
  '%00',
  '\u00e9',
];
const TYPES: readonly string[] = [
  'text/plain',
  'application/json',
  'application/x-www-form-urlencoded',
  'multipart/form-data; boundary=x',
  '',
  'x'.repeat(500),
];

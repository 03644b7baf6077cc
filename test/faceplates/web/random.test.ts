// Random and corrupted requests: after each, a good request is answered, counters add up, no connection stays open,
// and no file outside the folder is served. The seed is in the name of the test and comes from KATAMARI_SEED if that
// is set.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Random } from '../../kit/tools/random.ts';
import { rawClient } from '../../kit/wire/raw-http.ts';
import { until } from '../../kit/tools/wait.ts';
import { makeFiles, site, startShop, type Shop } from './shop.ts';

const SEED = Number(process.env['KATAMARI_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const COUNT = 400;

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'get', 'TRACE', 'X', ''];
const STEPS = [
  'shop',
  'only',
  'sub',
  '..',
  '%2e%2e',
  '.',
  '',
  '%00',
  '%',
  'style.css',
  'link.txt',
  'linked',
  'trap',
  '.env',
  '\xff',
  ' ',
  '\\',
  'a'.repeat(300),
];
const HEADERS = [
  'Host: x',
  'Host: ',
  'Content-Length: 3',
  'Content-Length: 0',
  'Content-Length: -1',
  'Content-Length: 99999999999',
  'Transfer-Encoding: chunked',
  'Transfer-Encoding: gzip',
  'Connection: close',
  'Connection: content-length, host',
  'Expect: 100-continue',
  'Range: bytes=5-2',
  'Range: bytes=0-,1-,2-,3-',
  'If-None-Match: *',
  'If-Match: "x"',
  'If-Modified-Since: yesterday',
  'Accept: application/json',
  'Cookie: guest=; guest=a; =; guest',
  'Katamari-Timeout-Ms: 5',
  'Katamari-Timeout-Ms: never',
  'Katamari-Version: ^^1',
  'Katamari-Version: 1.0.0',
  'X-Forwarded-For: a, b\x01',
  'Upgrade: websocket',
  ': nameless',
  'No colon',
  `X-Long: ${'y'.repeat(20_000)}`,
];
const BODIES = [
  '',
  'abc',
  '3\r\nabc\r\n0\r\n\r\n',
  'ffffffff\r\nabc',
  'GET /shop/next HTTP/1.1\r\nHost: x\r\n\r\n',
  '\x00\xff\r\n',
];

function request(random: Random): Buffer {
  const path = Array.from({ length: random.between(1, 4) }, () => `/${random.pick(STEPS)}`).join('');
  const headers = Array.from({ length: random.below(6) }, () => `${random.pick(HEADERS)}\r\n`).join('');
  const text = `${random.pick(METHODS)} ${path}${random.chance(0.3) ? '?a=%' : ''} HTTP/1.${random.below(12)}\r\nHost: x\r\n${headers}\r\n${random.pick(BODIES)}`;
  const bytes = Buffer.from(text, 'latin1');
  for (let damage = random.chance(0.25) ? random.between(1, 3) : 0; damage > 0; damage--)
    bytes[random.below(bytes.length)] = random.below(256);
  return random.chance(0.12) ? bytes.subarray(0, random.below(bytes.length)) : bytes;
}

describe('The web faceplate', () => {
  let files: ReturnType<typeof makeFiles>;
  let shop: Shop;
  beforeAll(async () => {
    files = makeFiles();
    shop = await startShop({
      limits: { requestMs: 300, idleMs: 300 },
      sites: [
        site({ files: files.folder, stickyCookie: 'guest' }),
        site({ prefix: '/only', service: '', files: files.folder }),
      ],
    });
  });
  afterAll(async () => {
    await shop.end();
    files.remove();
  });

  test(`survives ${COUNT} corrupted requests, seed ${SEED}`, async () => {
    const random = new Random(SEED);
    for (let round = 0; round < COUNT; round += 20) {
      const answers = await Promise.all(
        Array.from({ length: 20 }, async () => {
          const client = await rawClient(shop.server.port, request(random));
          if (random.chance(0.2)) client.socket.end();
          return await client.closed(20_000);
        }),
      );
      for (const answer of answers) {
        expect(answer).not.toContain('SECRET');
        expect(answer).not.toMatch(/^HTTP\/1\.1 500/);
      }
    }
    const good = await fetch(`${shop.url}/shop/good`);
    expect([good.status, ((await good.json()) as { path: string }).path]).toEqual([200, '/shop/good']);
    await until('all connections to close', () => shop.server.connections() === 0);
    const { accepted, replied, failed, refused, timed_out, cancelled, inFlight } = shop.mesh.callStats.sums();
    expect(inFlight).toBe(0);
    expect(replied + failed + refused + timed_out + cancelled).toBe(accepted);
    expect(accepted).toBeGreaterThan(COUNT / 4);
  }, 120_000);
});

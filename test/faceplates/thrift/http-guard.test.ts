// What Thrift over HTTP refuses before any work: hosts, origins, content types and heads with two meanings. The rules
// are those of every HTTP port (test/core/http/guard.test.ts); here they run on the Thrift port.

import { afterEach, describe, expect, test } from 'vitest';
import { rawClient } from '../../kit/wire/raw-http.ts';
import { until } from '../../kit/tools/wait.ts';
import type { HttpAccess } from '../../../core/http/mod.ts';
import { startFixture, type Fixture } from './fixture.ts';
import { keepsHalfOpen } from '../../../core/mod.ts';

const fixtures: Fixture[] = [];
async function start(access?: HttpAccess): Promise<Fixture> {
  const fixture = await startFixture(access === undefined ? {} : { access });
  fixtures.push(fixture);
  return fixture;
}
afterEach(async () => {
  for (const fixture of fixtures.splice(0)) await fixture.end();
});

/** A call of `add` as the body of a request. */
function call(fixture: Fixture, headers: readonly string[], method = 'POST', path = '/'): Buffer {
  const body = method === 'POST' ? fixture.bytes('add', { a: 1, b: 2 }, { framed: false }) : Buffer.alloc(0);
  const hosts = headers.some((line) => /^host:/i.test(line)) ? [] : ['Host: localhost'];
  const length = method === 'POST' && !headers.some((line) => /^(content-length|transfer-encoding):/i.test(line));
  const lines = [...hosts, ...headers, ...(length ? [`Content-Length: ${body.length}`] : [])];
  return Buffer.concat([Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`, 'latin1'), body]);
}

describe('Thrift over HTTP', () => {
  for (const headers of [
    ['Content-Type: application/x-thrift'],
    ['Content-Type: application/vnd.apache.thrift.binary; charset=utf-8'],
    ['content-type: application/octet-stream'],
    ['Host: 127.0.0.1:9090'],
    ['Host: [::1]', 'Content-Encoding: identity'],
    ['Origin: http://localhost', 'Content-Type: application/x-thrift'],
    ['Sec-Fetch-Site: same-origin', 'Content-Type: application/x-thrift'],
  ]) {
    test(`serves a call with ${headers.join(', ')}`, async () => {
      const fixture = await start();
      const client = await rawClient(fixture.faceplate.port, call(fixture, headers));
      expect(await client.seen(/\r\n\r\n/)).toMatch(/^HTTP\/1\.1 200 OK/);
      expect(fixture.behind.handled.length).toBe(1);
      client.destroy();
    });
  }

  for (const [status, headers, path = '/'] of [
    [421, ['Host: evil.example:9090', 'Content-Type: application/x-thrift']],
    [421, ['Host: localhost.evil.example']],
    [421, ['Host: localhost'], 'http://evil.example/'],
    [400, ['Host: localhost', 'Host: localhost']],
    [400, ['Host:']],
    [403, ['Origin: https://evil.example', 'Content-Type: application/x-thrift']],
    [403, ['Origin: null', 'Content-Type: text/plain']],
    [403, ['Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: no-cors', 'Content-Type: text/plain;charset=UTF-8']],
    [403, ['Sec-Fetch-Site: same-site']],
    [415, ['Content-Type: text/plain']],
    [415, ['Content-Type: application/x-www-form-urlencoded']],
    [415, ['Content-Type: multipart/form-data; boundary=x']],
    [415, ['Sec-Fetch-Site: same-origin']],
    [415, ['Origin: http://localhost']],
    [415, ['Content-Encoding: gzip']],
    [501, ['Transfer-Encoding: gzip, chunked']],
    [400, ['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked']],
    [400, ['Content-Length: 30', 'Content-Length: 30']],
    [400, ['Content-Type: a/b', 'Content-Type: a/b']],
    [400, [], '/%ZZ'],
  ] as const) {
    test(`refuses a call with ${status}, and executes nothing: ${path} ${headers.join(', ')}`, async () => {
      const fixture = await start();
      const good = call(fixture, []);
      // As the first request of a connection, and behind one that is served.
      for (const before of [[], [good]]) {
        const handled = fixture.behind.handled.length;
        const bytes = Buffer.concat([...before, call(fixture, headers, 'POST', path), good]);
        const client = await rawClient(fixture.faceplate.port, bytes);
        const came = await client.closed();
        const statuses = [...came.matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, found]) => Number(found));
        expect(statuses).toEqual([...before.map(() => 200), status]);
        expect(came).toMatch(/connection: close/);
        expect(fixture.behind.handled.length).toBe(handled + before.length);
      }
      expect(fixture.callStats.sums()).toMatchObject({ replied: 1, refused: 2, inFlight: 0 });
    });
  }

  test('refuses HTTP/1.1 without Host, and serves HTTP/1.0 without it', async () => {
    const fixture = await start();
    const bytes = call(fixture, []).toString('latin1').replace('Host: localhost\r\n', '');
    const without = await rawClient(fixture.faceplate.port, Buffer.from(bytes, 'latin1'));
    expect(await without.closed()).toMatch(/^HTTP\/1\.1 400 /);
    const old = await rawClient(fixture.faceplate.port, Buffer.from(bytes.replace('1.1', '1.0'), 'latin1'));
    expect(await old.closed()).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('answers the preflight of a page of an allowed origin, and its calls with CORS headers', async () => {
    const fixture = await start({ hosts: ['mesh.example'], origins: ['https://app.example'] });
    const from = ['Host: mesh.example', 'Origin: https://app.example', 'Sec-Fetch-Site: cross-site'];
    const preflight = call(fixture, [...from, 'Access-Control-Request-Method: POST'], 'OPTIONS');
    const typed = call(fixture, [...from, 'Content-Type: application/x-thrift']);
    const client = await rawClient(fixture.faceplate.port, Buffer.concat([preflight, typed]));
    const came = await client.seen(/ 204 [^]* 200 [^]*\r\n\r\n/);
    expect(came.match(/access-control-allow-origin: https:\/\/app\.example\r/g)?.length).toBe(2);
    expect(came).toMatch(/access-control-allow-headers: [^\r]*content-type/);
    expect(fixture.callStats.sums()).toMatchObject({ accepted: 1, replied: 1 });
    client.destroy();
    const other = call(fixture, ['Origin: https://evil.example'], 'OPTIONS');
    expect(await (await rawClient(fixture.faceplate.port, other)).closed()).toMatch(/^HTTP\/1\.1 403 /);
  });

  test.skipIf(!keepsHalfOpen())('is answered after the client has closed its writing side', async () => {
    const fixture = await start();
    const hold = fixture.bytes('hold', { key: 'a' }, { framed: false });
    const client = await rawClient(fixture.faceplate.port);
    client.socket.end(
      Buffer.concat([
        Buffer.from(`POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${hold.length}\r\n\r\n`),
        hold,
      ]),
    );
    await until('the call to begin', () => fixture.behind.held().length === 1);
    fixture.behind.release('a');
    expect(await client.closed()).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  });

  test('holds 300 pipelined requests back, and answers all', async () => {
    const fixture = await start();
    const client = await rawClient(
      fixture.faceplate.port,
      Buffer.concat(Array.from({ length: 300 }, () => call(fixture, []))),
    );
    await until('all answers', () => client.received().match(/HTTP\/1\.1 200 OK/g)?.length === 300);
    client.destroy();
  });
});

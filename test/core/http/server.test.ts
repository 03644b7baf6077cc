import { afterEach, describe, expect, test } from 'vitest';
import { rawClient } from '../../kit/wire/raw-http.ts';
import { until } from '../../kit/tools/wait.ts';
import {
  clientSignal,
  remoteAddress,
  requestBody,
  serveHttp,
  type HttpEnv,
  type HttpServer,
} from '../../../core/http/mod.ts';
import type { HttpServerLimits } from '../../../core/http/server.ts';
import { keepsHalfOpen, DEFAULT_LIMITS } from '../../../core/mod.ts';

const servers: HttpServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

async function start(
  fetch: (request: Request, env: HttpEnv) => Response | Promise<Response>,
  limits: Partial<HttpServerLimits> = {},
  refused: number[] = [],
): Promise<HttpServer> {
  const server = await serveHttp({
    fetch,
    host: '127.0.0.1',
    port: 0,
    limits: { ...DEFAULT_LIMITS, ...limits },
    access: { hosts: ['x'], origins: [] },
    refusal: ({ status, message }) => {
      refused.push(status);
      return JSON.stringify({ refused: message });
    },
  });
  servers.push(server);
  return server;
}

const echo = (_request: Request, env: HttpEnv): Response => {
  const body = requestBody(env);
  return new Response(`got ${body.length} from ${remoteAddress(env)}`);
};

/** A promise and the function that resolves it. */
function gate(): { opened: Promise<void>; open: () => void } {
  let open: () => void = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

describe('serveHttp()', () => {
  test("passes the whole body and the client's address to the app, and sends its answer", async () => {
    const server = await start(echo);
    const url = `http://${server.address}:${server.port}/`;
    expect(await (await fetch(url)).text()).toBe('got 0 from 127.0.0.1');
    expect(await (await fetch(url, { method: 'POST', body: 'x'.repeat(100_000) })).text()).toBe(
      'got 100000 from 127.0.0.1',
    );
    const chunked = await rawClient(
      server.port,
      'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n',
    );
    chunked.write('2\r\nde\r\n0\r\n\r\n');
    await chunked.seen(/got 5 /);
    chunked.destroy();
  });

  test.each(['GET', 'HEAD'])(
    'reads the body of a %s too, so that it sees the client go away afterwards',
    async (method) => {
      const server = await start(echo);
      const client = await rawClient(server.port, `${method} / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n`);
      client.write('x'.repeat(200_000));
      client.write('x'.repeat(100_000));
      await client.seen(/HTTP\/1.1 200/);
      client.destroy();
      await until('the connection to be gone', () => server.connections() === 0);
    },
  );

  test('refuses a GET whose body is too large', async () => {
    const server = await start(echo, { frameBytesMax: 1_000 });
    const client = await rawClient(server.port, 'GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n');
    await client.seen(/HTTP\/1.1 413/);
    client.destroy();
  });

  test('lets the app read the body through the standard methods of Request too', async () => {
    const server = await start(async (request) => new Response(JSON.stringify(await request.json())));
    const answer = await fetch(`http://127.0.0.1:${server.port}/`, { method: 'POST', body: '{"a":1}' });
    expect(await answer.text()).toBe('{"a":1}');
  });

  test('rejects when the port is taken', async () => {
    const server = await start(echo);
    await expect(
      serveHttp({ fetch: echo, host: '127.0.0.1', port: server.port, limits: DEFAULT_LIMITS }),
    ).rejects.toThrow(/EADDRINUSE|in use/);
  });

  test('aborts request.signal when the client disconnects, and not when the request succeeds', async () => {
    const ended: string[] = [];
    const release = gate();
    const started = gate();
    const server = await start(async (request, env) => {
      const { pathname } = new URL(request.url);
      request.signal.addEventListener('abort', () => ended.push(pathname));
      clientSignal(env).addEventListener('abort', () => ended.push(`${pathname}, connection`));
      if (pathname === '/slow') {
        started.open();
        await release.opened;
      }
      return new Response('done');
    });
    expect(await (await fetch(`http://127.0.0.1:${server.port}/fast`, { method: 'POST', body: 'x' })).text()).toBe(
      'done',
    );
    const client = await rawClient(server.port, 'POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx');
    await started.opened;
    client.disconnect();
    await until('the signals', () => ended.length >= 2);
    release.open();
    await until('the end of every connection but the kept one', () => server.connections() <= 1);
    expect(ended.filter((what) => !what.startsWith('/fast, ')).sort()).toEqual(['/slow', '/slow, connection']);
  });

  for (const [name, sent] of [
    ['a silent connection', ''],
    ['half a header', 'GET / HTTP/1.1\r\nHost: x\r\n'],
    ['half a body', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc'],
  ] as const) {
    test(`closes ${name} after its time limit, and says why`, async () => {
      const refused: number[] = [];
      const server = await start(echo, { requestMs: 400 }, refused);
      const client = await rawClient(server.port, sent);
      const answer = await client.closed();
      if (sent !== '') {
        expect(answer).toMatch(/^HTTP\/1\.1 408 /);
        expect(answer).toContain('not complete within 400 ms');
        expect(refused).toEqual([408]);
      }
      await until('no connection left', () => server.connections() === 0);
    });
  }

  test('closes a sender that drips one header at a time', async () => {
    const server = await start(echo, { requestMs: 400 });
    const client = await rawClient(server.port, 'GET / HTTP/1.1\r\nHost: x\r\n');
    const drip = setInterval(() => client.write('a: b\r\n'), 50);
    const answer = await client.closed();
    clearInterval(drip);
    expect(answer).toMatch(/^HTTP\/1\.1 408 /);
  });

  test('keeps a call that takes longer than the request timeout or the idle timeout', async () => {
    const release = gate();
    const started = gate();
    const server = await start(
      async () => {
        started.open();
        await release.opened;
        return new Response('at last');
      },
      { requestMs: 200, idleMs: 200 },
    );
    const client = await rawClient(server.port, 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx');
    await started.opened;
    // A silent connection opened now is closed for its age. By then the older one has outlived the same limits.
    await (await rawClient(server.port, 'GET / HTTP/1.1\r\n')).closed();
    release.open();
    expect(await client.seen(/at last/)).toMatch(/^HTTP\/1\.1 200 /);
    await client.closed();
  });

  test('closes a kept connection after the idle time', async () => {
    const server = await start(echo, { idleMs: 200 });
    const client = await rawClient(server.port, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    expect(await client.closed()).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('closes the connection of a client that does not read its answer', async () => {
    const server = await start(() => new Response('x'.repeat(30_000_000)), { idleMs: 300 });
    const client = await rawClient(server.port);
    client.socket.pause();
    client.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    await until('the connection to be seen', () => server.connections() === 1);
    await until('the connection to be ended', () => server.connections() === 0);
    client.destroy();
  });

  test('refuses a body whose declared size is too large before it is sent, also with Expect: 100-continue', async () => {
    const refused: number[] = [];
    const server = await start(echo, { frameBytesMax: 1_000 }, refused);
    for (const expectation of ['', 'Expect: 100-continue\r\n']) {
      const client = await rawClient(
        server.port,
        `POST / HTTP/1.1\r\nHost: x\r\n${expectation}Content-Length: 1001\r\n\r\n`,
      );
      const answer = await client.closed();
      expect(answer).toMatch(/^HTTP\/1\.1 413 /);
      expect(answer).toContain('1001 bytes, limit is 1000 bytes');
    }
    expect(refused).toEqual([413, 413]);
  });

  test('refuses a chunked body as soon as it exceeds the limit', async () => {
    const server = await start(echo, { frameBytesMax: 1_000 });
    const client = await rawClient(server.port, 'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
    client.write(`258\r\n${'a'.repeat(600)}\r\n`);
    client.write(`258\r\n${'a'.repeat(600)}\r\n`);
    expect(await client.closed()).toMatch(/^HTTP\/1\.1 413 /);
  });

  test('answers Expect: 100-continue', async () => {
    const server = await start(echo);
    const client = await rawClient(
      server.port,
      'POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n',
    );
    await client.seen(/100 Continue/);
    client.write('abc');
    await client.seen(/got 3 /);
    client.destroy();
  });

  test('refuses too many headers and too large ones', async () => {
    const refused: number[] = [];
    const server = await start(echo, { headersMax: 20 }, refused);
    const many = Array.from({ length: 21 }, (_, i) => `h${i}: v\r\n`).join('');
    const counted = await rawClient(server.port, `GET / HTTP/1.1\r\nHost: x\r\n${many}\r\n`);
    expect(await counted.closed()).toMatch(/^HTTP\/1\.1 431 [^]*20/);
    const large = await rawClient(server.port, `GET / HTTP/1.1\r\nHost: x\r\nz: ${'q'.repeat(20_000)}\r\n\r\n`);
    expect(await large.closed()).toMatch(/^HTTP\/1\.1 431 [^]*16384 bytes/);
    expect(refused).toEqual([431, 431]);
  });

  for (const [name, sent] of [
    ['bytes that are not HTTP', 'blah blah\r\n\r\n'],
    ['a TLS hello', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
    ['two lengths', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde'],
    [
      'a length and chunks',
      'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n',
    ],
    ['a negative length', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n'],
    ['a Host that makes no URL', 'GET / HTTP/1.1\r\nHost: a b<>\r\n\r\n'],
    ['NUL in a header', 'GET / HTTP/1.1\r\nHost: x\r\na: \0\r\n\r\n'],
  ] as const) {
    test(`refuses ${name} with 400`, async () => {
      const server = await start(echo);
      const client = await rawClient(server.port, sent);
      expect(await client.seen(/\r\n\r\n/)).toMatch(/^HTTP\/1\.1 400 /);
      client.destroy();
      expect((await fetch(`http://127.0.0.1:${server.port}/`)).status).toBe(200);
    });
  }

  test('answers bytes that are not HTTP whole, however much follows them', async () => {
    const server = await start(echo);
    for (let n = 0; n < 50; n++) {
      const client = await rawClient(server.port, 'GET / HTTP/1.1\nHost: x\r\n');
      client.write('x'.repeat(100_000));
      expect(await client.closed()).toMatch(/^HTTP\/1\.1 400 [^]*\r\n\r\n\{"refused":"[^]*"\}$/);
    }
  });

  test('accepts no more connections than the limit, and new ones after some have closed', async () => {
    const server = await start(echo, { connectionsMax: 3 });
    const kept = [];
    for (let i = 0; i < 3; i++) kept.push(await rawClient(server.port));
    await until('three connections', () => server.connections() === 3);
    const fourth = await rawClient(server.port, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    expect(await fourth.closed()).toBe('');
    kept[0]?.destroy();
    await until('a place', () => server.connections() === 2);
    const fifth = await rawClient(server.port, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    await fifth.seen(/got 0/);
    for (const client of [...kept, fifth]) client.destroy();
  });

  test('holds pipelined requests above the limit back, and answers all in order', async () => {
    const release = gate();
    let [inProgress, most, begun] = [0, 0, 0];
    const server = await start(
      async (request) => {
        begun++;
        most = Math.max(most, ++inProgress);
        await release.opened;
        inProgress--;
        return new Response(`answer to ${new URL(request.url).pathname}.`);
      },
      { pipelineMax: 4 },
    );
    const count = 3_000;
    const requests = Array.from({ length: count }, (_, i) =>
      i % 3 === 0
        ? `POST /${i} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc`
        : `GET /${i} HTTP/1.1\r\nHost: x\r\n\r\n`,
    );
    const client = await rawClient(server.port, requests.join(''));
    await until('four of them', () => begun === 4);
    release.open();
    await client.seen(new RegExp(`answer to /${count - 1}[.]`));
    const answers = [...client.received().matchAll(/answer to \/(\d+)[.]/g)].map(([, number]) => Number(number));
    expect(answers).toEqual(Array.from({ length: count }, (_, i) => i));
    expect(most).toBe(4);
    client.destroy();
    await until('no connection left', () => server.connections() === 0);
  });

  const POST_A = 'POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na';
  for (const [name, sent, answered] of [
    ['a GET', 'GET /a HTTP/1.1\r\nHost: x\r\n\r\n', 1],
    ['a POST', POST_A, 1],
    ['a request of HTTP/1.0', 'GET /a HTTP/1.0\r\n\r\n', 1],
    ['five requests', 'GET /a HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(5), 5],
    ['two requests and a half', `${'GET /a HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(2)}GET /b HT`, 2],
    [
      'a request and half a body',
      'GET /a HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\na',
      1,
    ],
    ['a POST and half a body', `${POST_A}${POST_A.slice(0, -1)}`, 1],
    ['two POSTs and half a body', `${POST_A.repeat(2)}${POST_A.slice(0, -1)}`, 2],
  ] as const) {
    test.skipIf(!keepsHalfOpen())(`answers a client that sends ${name} and then closes its writing side`, async () => {
      const release = gate();
      let begun = 0;
      const server = await start(
        async () => {
          begun++;
          await release.opened;
          return new Response('the answer');
        },
        { pipelineMax: 2 },
      );
      const client = await rawClient(server.port);
      client.socket.end(sent);
      await until('the first to begin', () => begun === Math.min(2, answered));
      // Longer than it takes to notice that a client has gone.
      const later = await rawClient(server.port, 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx');
      await until('another to begin', () => begun === Math.min(2, answered) + 1);
      later.destroy();
      release.open();
      const came = await client.closed();
      expect(came).toMatch(/^HTTP\/1\.1 200 /);
      expect(came.match(/HTTP\/1\.1 200 [^]*?the answer/g)?.length).toBe(answered);
      await until('no connection left', () => server.connections() === 0);
    });
  }

  test('answers 500 when the app throws, and keeps serving', async () => {
    let isBroken = true;
    const server = await start(() => {
      if (isBroken) throw new Error('oops');
      return new Response('fine');
    });
    const url = `http://127.0.0.1:${server.port}/`;
    const broken = await fetch(url);
    expect(broken.status).toBe(500);
    expect(await broken.text()).toContain('oops');
    isBroken = false;
    expect(await (await fetch(url)).text()).toBe('fine');
  });

  test('drain() finishes requests in flight, closes idle connections and accepts no new ones', async () => {
    const release = gate();
    const started = gate();
    const server = await start(async (request) => {
      if (new URL(request.url).pathname === '/slow') {
        started.open();
        await release.opened;
      }
      return new Response('finished');
    });
    const idle = await rawClient(server.port, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    await idle.seen(/finished/);
    const slow = await rawClient(server.port, 'GET /slow HTTP/1.1\r\nHost: x\r\n\r\n');
    await started.opened;
    const half = await rawClient(server.port, 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na');
    await until('three connections', () => server.connections() === 3);
    // The server knows of the half request once it has read its head. A whole request on another connection follows
    // it.
    const after = await rawClient(server.port, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    await after.seen(/finished/);

    let isDrained = false;
    const drained = server.drain().then(() => {
      isDrained = true;
    });
    await idle.closed();
    await after.closed();
    await expect(rawClient(server.port)).rejects.toThrow(/ECONNREFUSED/);
    expect(isDrained).toBe(false);
    half.write('bc');
    release.open();
    expect(await slow.closed()).toMatch(/^HTTP\/1\.1 200 [^]*connection: close[^]*finished/i);
    expect(await half.closed()).toMatch(/^HTTP\/1\.1 200 [^]*finished/i);
    await drained;
    expect(server.connections()).toBe(0);
    await server.drain();
    await server.close();
  });

  test('close() ends everything at once and may be called twice', async () => {
    const started = gate();
    const server = await start(() => {
      started.open();
      return new Promise<Response>(() => {});
    });
    const client = await rawClient(server.port, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    await started.opened;
    await server.close();
    expect(await client.closed()).toBe('');
    await server.close();
    expect(server.connections()).toBe(0);
  });

  test('retains nothing of aborted requests', async () => {
    let [begun, aborted] = [0, 0];
    const server = await start((request) => {
      begun++;
      return new Promise<Response>((resolve) => {
        request.signal.addEventListener('abort', () => {
          aborted++;
          resolve(new Response('nobody'));
        });
      });
    });
    for (let round = 1; round <= 10; round++) {
      const sent = 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx';
      const clients = await Promise.all(Array.from({ length: 20 }, () => rawClient(server.port, sent)));
      await until('all to be in flight', () => begun === round * 20);
      for (const client of clients) client.disconnect();
      await until('all to be gone', () => server.connections() === 0 && aborted === begun);
    }
    expect(aborted).toBe(200);
  });
});

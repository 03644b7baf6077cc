// The server for line protocols: order, limits, misbehaving clients, shutdown. The protocol here is an invented one.

import { afterEach, describe, expect, test } from 'vitest';
import { rawClient, type RawClient } from '../../kit/wire/raw-http.ts';
import { keepsHalfOpen, ByteLedger, DEFAULT_LIMITS, type FaceplateLimits } from '../../../core/mod.ts';
import { serveLines, type LineServer, type ServeLinesOptions } from '../../../faceplates/kit/line-server.ts';
import { until } from '../../kit/tools/wait.ts';

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** Echoes each line. `wait X` answers when released, `many` answers two lines, `fail` throws. */
class Echo {
  readonly waiting = new Map<string, () => void>();
  readonly ran: string[] = [];
  server!: LineServer;

  static async start(
    limits: Partial<FaceplateLimits> = {},
    more: Partial<Pick<ServeLinesOptions, 'ledger' | 'lineBytesMax' | 'mesh'>> = {},
  ): Promise<Echo> {
    const echo = new Echo();
    echo.server = await serveLines({
      mesh: { timeoutMs: () => 10_000 },
      host: '127.0.0.1',
      port: 0,
      limits: { ...DEFAULT_LIMITS, ...limits },
      answer: (line, { signal }) => echo.answer(line, signal),
      refusal: ({ code, message }) => `! ${code}: ${message}`,
      ...more,
    });
    ends.push(() => echo.server.close());
    return echo;
  }

  async answer(line: string, signal: AbortSignal): Promise<string> {
    this.ran.push(line);
    if (line === 'many') return 'one\ntwo';
    if (line === 'fail') throw new Error('a wheel came off');
    if (line.startsWith('fill')) return 'x'.repeat(100_000);
    if (!line.startsWith('wait')) return line;
    await new Promise<void>((resolve) => {
      const onGone = (): void => {
        this.ran.push(`gone ${line}`);
        resolve();
      };
      signal.addEventListener('abort', onGone);
      this.waiting.set(line, () => {
        signal.removeEventListener('abort', onGone);
        resolve();
      });
    });
    return line;
  }

  async client(first: string | Uint8Array = ''): Promise<RawClient> {
    const client = await rawClient(this.server.port, first);
    ends.push(() => client.destroy());
    return client;
  }
}

describe('serveLines', () => {
  test('answers pipelined lines in order, however they end', async () => {
    const echo = await Echo.start();
    const client = await echo.client('wait a\nwait b\nc\n');
    await until('all three to run', () => echo.ran.length === 3);
    echo.waiting.get('wait b')?.();
    expect(client.received()).toBe('');
    echo.waiting.get('wait a')?.();
    expect(await client.seen(/c\n/)).toBe('wait a\nwait b\nc\n');
  });

  test('joins lines from any pieces, accepts CR LF, skips empty lines', async () => {
    const echo = await Echo.start();
    const client = await echo.client();
    for (const byte of Buffer.from('grüße\r\n\r\n\nzwei\n')) client.write(Uint8Array.of(byte));
    const seen = await client.seen(/zwei\n/);
    expect(Buffer.from(seen, 'latin1').toString()).toBe('grüße\nzwei\n');
    expect(echo.ran).toEqual(['grüße', 'zwei']);
  });

  test.skipIf(!keepsHalfOpen())(
    'answers lines sent before the client closed its side, but no partial line',
    async () => {
      const echo = await Echo.start();
      const client = await echo.client('wait a\nb\nhalf of o');
      client.socket.end();
      await until('the lines to run', () => echo.ran.length === 2);
      echo.waiting.get('wait a')?.();
      expect(await client.closed()).toBe('wait a\nb\n');
      expect(echo.ran).toEqual(['wait a', 'b']);
    },
  );

  test('runs at most pipelineMax lines concurrently', async () => {
    const echo = await Echo.start({ pipelineMax: 2 });
    const client = await echo.client(Array.from({ length: 5 }, (_, index) => `wait ${index}\n`).join(''));
    for (let done = 0; done < 5; done++) {
      await until(`line ${done}`, () => echo.waiting.has(`wait ${done}`));
      expect(echo.waiting.size - done).toBeLessThanOrEqual(2);
      echo.waiting.get(`wait ${done}`)?.();
    }
    expect(await client.seen(/wait 4\n/)).toBe('wait 0\nwait 1\nwait 2\nwait 3\nwait 4\n');
  });

  test('stops reading from a client that does not read its answers, and closes it after a time', async () => {
    const echo = await Echo.start({ pipelineMax: 4, idleMs: 600 });
    const client = await echo.client();
    client.socket.pause();
    client.write('fill\n'.repeat(2_000));
    await until('its end', () => echo.server.connections() === 0);
    expect(echo.ran.length).toBeLessThan(1_000);
  });

  test('refuses an answer for which there is no room, and a line that waits too long for room, and gives all back', async () => {
    const sums = { connectionBytesMax: 400_000, callerBytesMax: 500_000, processBytesMax: 1_000_000 };
    const ledger = new ByteLedger(sums);
    const echo = await Echo.start({ requestMs: 300 }, { ledger });
    const elsewhere = ledger.open('127.0.0.1');
    elsewhere.add(450_000);
    const client = await echo.client('fill\nnext\n');
    expect(await client.seen(/next\n/)).toMatch(/^! too_large: An answer of 100000 bytes was dropped: .*\nnext\n$/);
    elsewhere.add(100_000);
    const late = await echo.client('x'.repeat(70_000));
    expect(await late.closed()).toMatch(
      /^! overloaded: Found no room for the request in 300 ms: the connections of 127/,
    );
    elsewhere.add(-elsewhere.bytes);
    client.write('fill\n');
    await until('the answer', () => client.received().endsWith(`${'x'.repeat(100_000)}\n`));
    await until('all to be given back', () => ledger.bytes === 0);
  });

  test('answers a line that is too long with an error, in order, and closes', async () => {
    const echo = await Echo.start({}, { lineBytesMax: 100 });
    const fits = await echo.client(`${'x'.repeat(100)}\n`);
    expect(await fits.seen(/x\n/)).toBe(`${'x'.repeat(100)}\n`);
    for (const tooLong of ['x'.repeat(101), `${'x'.repeat(101)}\nnever\n`]) {
      const client = await echo.client(`before\n${tooLong}`);
      expect(await client.closed()).toBe('before\n! too_large: The line is too long: limit is 100 bytes\n');
    }
    expect(echo.ran).not.toContain('never');
    await until('them to be gone', () => echo.server.connections() === 1);
  });

  test('accepts a line of 16 MiB and refuses one byte more', async () => {
    const echo = await Echo.start();
    const size = DEFAULT_LIMITS.frameBytesMax;
    const client = await echo.client();
    client.write('y'.repeat(size));
    client.write('\n');
    await until('it to be answered', () => client.received().length === size + 1);
    const other = await echo.client('y'.repeat(size + 1));
    expect(await other.seen(/too_large/, 20_000)).toContain('limit is 16777216 bytes');
  });

  test('refuses a partial line that is not finished in time', async () => {
    const echo = await Echo.start({ requestMs: 200 });
    const client = await echo.client('done\nhalf of o');
    expect(await client.closed()).toMatch(/^done\n! timeout: The line was not complete within 200 ms.*\n$/);
  });

  test('closes an idle connection, but not one that waits for its answer', async () => {
    const echo = await Echo.start({ idleMs: 200 });
    const waiting = await echo.client('wait a\n');
    const idle = await echo.client('b\n');
    expect(await idle.closed()).toBe('b\n');
    echo.waiting.get('wait a')?.();
    expect(await waiting.seen(/a\n/)).toBe('wait a\n');
    expect(await waiting.closed()).toBe('wait a\n');
  });

  test('refuses text that is not UTF-8, an answer of two lines and an exception, each in one line, and continues', async () => {
    const echo = await Echo.start();
    const client = await echo.client(Buffer.from('\xff\xfe\nmany\nfail\nafter\n', 'latin1'));
    const lines = (await client.seen(/after\n/)).split('\n');
    expect(lines[0]).toBe('! bad_request: The line is not UTF-8 text');
    expect(lines[1]).toMatch(/^! internal: .*several lines/);
    expect(lines[2]).toMatch(/^! internal: .*a wheel came off/);
    expect(lines[3]).toBe('after');
  });

  test('tells a connection over the limit why, and serves the others', async () => {
    const echo = await Echo.start({ connectionsMax: 2 });
    const [one] = [await echo.client('a\n'), await echo.client('b\n')];
    await until('both', () => echo.ran.length === 2);
    const third = await echo.client();
    expect(await third.closed()).toMatch(/^! overloaded: Too many connections: limit is 2/);
    one.write('c\n');
    expect(await one.seen(/c\n/)).toBe('a\nc\n');
  });

  test('aborts the signal of lines whose client has disconnected, at the latest when an answer cannot be written', async () => {
    const echo = await Echo.start();
    const lines = Array.from({ length: 50 }, (_, index) => `wait ${index}`);
    const client = await echo.client(`${lines.join('\n')}\n`);
    await until('them to run', () => echo.waiting.size === 50);
    client.destroy();
    // To a server that answers half-closed clients, a disconnected one looks the same.
    let next = 0;
    await until('its end', () => {
      echo.waiting.get(`wait ${next++}`)?.();
      return echo.ran.includes('gone wait 49');
    });
    await until('no connection', () => echo.server.connections() === 0);
  });

  test('drains: answers lines in progress, refuses later ones, closes idle connections and accepts none', async () => {
    const echo = await Echo.start();
    const busy = await echo.client('wait a\nwait b\n');
    const idle = await echo.client('x\n');
    await until('all to run', () => echo.ran.length === 3);
    const drained = echo.server.drain();
    expect(await idle.closed()).toBe('x\n');
    await until('no listener', () =>
      rawClient(echo.server.port).then(
        () => false,
        () => true,
      ),
    );
    busy.write('late\n');
    echo.waiting.get('wait a')?.();
    await busy.seen(/wait a\n/);
    echo.waiting.get('wait b')?.();
    expect(await busy.closed()).toMatch(/^wait a\nwait b\n! draining: .*\n$/);
    await drained;
    expect(echo.ran).not.toContain('late');
    await echo.server.close();
  });

  test('serves a line that was sent when the drain began', async () => {
    const echo = await Echo.start();
    const client = await echo.client('a\n');
    await client.seen(/a\n/);
    client.write('b\n');
    const drained = echo.server.drain();
    expect(await client.closed()).toBe('a\nb\n');
    await drained;
  });

  test('closes at once, also during a drain', async () => {
    const echo = await Echo.start();
    const client = await echo.client('wait a\n');
    await until('it to run', () => echo.waiting.has('wait a'));
    const drained = echo.server.drain();
    await echo.server.close();
    await drained;
    expect(await client.closed()).toBe('');
  });

  test('names the port that is taken', async () => {
    const echo = await Echo.start();
    let thrown: unknown;
    try {
      await serveLines({
        mesh: { timeoutMs: () => 1 },
        host: '127.0.0.1',
        port: echo.server.port,
        limits: DEFAULT_LIMITS,
        answer: (line) => Promise.resolve(line),
        refusal: String,
      });
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({ code: 'EADDRINUSE', port: echo.server.port });
  });
});

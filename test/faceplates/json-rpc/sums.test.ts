// Large answers: they are printed between other work, a batch of them is written as it comes, and what waits in memory
// stays within the sums, whether a client reads or not. Effects are counted, such as other answers between two parts;
// no time is measured.

import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { keepsHalfOpen, ByteLedger, DEFAULT_LIMITS, type FaceplateLimits } from '../../../core/mod.ts';
import type { Call, Handlers } from '../../../core/rpc/mod.ts';
import { until } from '../../kit/tools/wait.ts';
import { FIXTURE_IDL, startFixture, type JsonRpcFixture } from './fixture.ts';

const MIB = 1024 * 1024;
const SUMS = { connectionBytesMax: 32 * MIB, callerBytesMax: 48 * MIB, processBytesMax: 64 * MIB };

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

/** A faceplate whose `echo` answers with a text of `tiny` MiB and whose `half` is another pool. */
async function start(
  resources = 2,
  change: Partial<FaceplateLimits> = {},
  more: Handlers<Call> = {},
): Promise<JsonRpcFixture & { readonly ledger: ByteLedger }> {
  const ledger = new ByteLedger(SUMS);
  const texts = new Map<number, string>();
  const fixture = await startFixture({
    ledger,
    limits: { ...SUMS, ...change },
    pools: (handlers) => [
      {
        idl: FIXTURE_IDL,
        service: 'Fixture',
        resources,
        handlers: {
          ...handlers,
          echo: ({ things }: { things: { tiny?: number } }) => {
            const mib = things.tiny ?? 0;
            const text = texts.get(mib) ?? 'x'.repeat(mib * MIB);
            texts.set(mib, text);
            return { text, defaulted: 7 };
          },
          ...more,
        },
      },
    ],
  });
  closers.push(() => fixture.end());
  return { ...fixture, ledger };
}

const large = (id: number, mib: number): string =>
  `{"jsonrpc":"2.0","id":${id},"method":"Fixture.echo","params":{"things":{"tiny":${mib}}}}`;
const batchOf = (count: number, mib: number): string =>
  `[${Array.from({ length: count }, (_, id) => large(id, mib)).join(',')}]`;
const HALF = '{"jsonrpc":"2.0","id":1,"method":"Fixture.half","params":[3]}';

function httpPost(body: string): string {
  return `POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

/** A client that sends a request and does not read until it is told to. */
async function silentClient(port: number, text: string): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1' });
  closers.push(() => socket.destroy());
  await new Promise((resolve) => socket.once('connect', resolve));
  socket.pause();
  socket.write(text);
  return socket;
}

/** The highest number of bytes in the ledger while `work` runs. */
async function highest(ledger: ByteLedger, work: Promise<unknown>): Promise<number> {
  let most = 0;
  const timer = setInterval(() => (most = Math.max(most, ledger.bytes)), 1);
  await work;
  clearInterval(timer);
  return most;
}

describe('a batch of 30 calls with answers of 8 MiB', () => {
  test('is answered whole and in order, within the sum, and other clients are served meanwhile', async () => {
    const fixture = await start();
    let isOver = false;
    const batch = fixture.post(batchOf(30, 8)).finally(() => (isOver = true));
    let others = 0;
    const meanwhile = (async () => {
      while (!isOver) {
        expect((await fixture.post(HALF)).json.result).toBe(1.5);
        others++;
      }
    })();
    const most = await highest(fixture.ledger, batch);
    await meanwhile;
    const answers = (await batch).json as unknown as readonly { id: number; result?: { text: string } }[];
    expect(answers.map(({ id }) => id)).toEqual(Array.from({ length: 30 }, (_, id) => id));
    for (const { result } of answers) expect(result?.text.length).toBe(8 * MIB);
    expect((await batch).headers.get('transfer-encoding')).toBe('chunked');
    // Each answer is printed in more than a hundred parts.
    expect(others).toBeGreaterThan(30);
    expect(most).toBeLessThanOrEqual(SUMS.connectionBytesMax + 17 * MIB);
    await until('everything to be given back', () => fixture.ledger.bytes === 0);
  });

  test('that is not read stops by itself, however many clients send one, and harms no other', async () => {
    const fixture = await start();
    const clients = await Promise.all(
      Array.from({ length: 12 }, () => silentClient(fixture.server.port, httpPost(batchOf(30, 8)))),
    );
    let last = -1;
    const most = await highest(
      fixture.ledger,
      until('no further call to begin', async () => {
        const ran = fixture.mesh.ran.filter(({ method }) => method === 'echo').length;
        const isSteady = ran === last && fixture.mesh.callStats.sums().inFlight === 0;
        last = ran;
        for (let i = 0; i < 20; i++) expect((await fixture.post(HALF)).json.result).toBe(1.5);
        return isSteady;
      }),
    );
    expect(most).toBeLessThanOrEqual(SUMS.processBytesMax);
    expect(fixture.mesh.ran.filter(({ method }) => method === 'echo').length).toBeLessThan(12 * 30);
    for (const client of clients) client.destroy();
    await until('everything to be given back', () => fixture.ledger.bytes === 0);
    const { accepted, replied, failed, refused, timed_out, cancelled, inFlight } = fixture.mesh.callStats.sums();
    expect([inFlight, replied + failed + refused + timed_out + cancelled]).toEqual([0, accepted]);
  });

  test('that is read late still comes whole', async () => {
    const fixture = await start();
    const client = await silentClient(fixture.server.port, httpPost(batchOf(6, 2)));
    await until('some calls to run', () => fixture.mesh.ran.length > 0);
    let bytes = 0;
    client.on('data', (chunk: Buffer) => (bytes += chunk.length));
    client.resume();
    await until('all answers', () => bytes > 12 * MIB && fixture.ledger.bytes === 0);
    client.write(httpPost(HALF));
    const before = bytes;
    await until('the next answer on the connection', () => bytes > before);
  });
});

describe('a single large answer', () => {
  test('is printed in parts between the answers to others, and its bytes are given back', async () => {
    const fixture = await start();
    const [answer, ...others] = await Promise.all([
      fixture.post(large(1, 16)),
      ...Array.from({ length: 50 }, () => fixture.post(HALF)),
    ]);
    expect((answer?.json.result as { text: string } | undefined)?.text.length).toBe(16 * MIB);
    expect(answer?.headers.get('content-length')).toBe(String(answer?.text.length));
    expect(others.every(({ json }) => json.result === 1.5)).toBe(true);
    await until('everything to be given back', () => fixture.ledger.bytes === 0);
  });

  test('for which there is no room is refused with the limit and the remedy, and was counted once', async () => {
    const fixture = await start();
    // Others hold nearly everything.
    const elsewhere = fixture.ledger.open('elsewhere');
    elsewhere.add(SUMS.processBytesMax - 8 * MIB);
    const { error } = (await fixture.post(large(1, 16))).json;
    expect([error?.code, error?.data]).toEqual([-32008, { code: 'too_large' }]);
    expect(error?.message).toMatch(
      /An answer of \d+ bytes was dropped: all connections of this process hold \d+ bytes/,
    );
    expect(error?.message).toContain(`limit is ${SUMS.processBytesMax}`);
    expect(error?.message).toContain('raise limits.memory');
    expect((await fixture.post(HALF)).json.result).toBe(1.5);
    elsewhere.close();
    elsewhere.add(-elsewhere.bytes);
    expect((await fixture.post(large(1, 16))).json.result).toBeDefined();
    await until('everything to be given back', () => fixture.ledger.bytes === 0);
  });
});

describe('large requests', () => {
  test('of one caller are held back at its sum, and served once there is room', async () => {
    const fixture = await start();
    const elsewhere = fixture.ledger.open('127.0.0.1');
    elsewhere.add(SUMS.callerBytesMax);
    const body = `{"jsonrpc":"2.0","id":1,"method":"Fixture.half","params":[5],"more":"${'z'.repeat(4 * MIB)}"}`;
    let isAnswered = false;
    const answer = fixture.post(body).finally(() => (isAnswered = true));
    await until(
      'a part of the request to be there',
      () => elsewhere.isFull && fixture.ledger.bytes > SUMS.callerBytesMax,
    );
    expect(isAnswered).toBe(false);
    elsewhere.add(-SUMS.callerBytesMax);
    expect((await answer).json.result).toBe(2.5);
    elsewhere.close();
    await until('everything to be given back', () => fixture.ledger.bytes === 0);
  });
});

test('the defaults leave room for a few messages of the largest size on each connection', () => {
  const { frameBytesMax, connectionBytesMax, callerBytesMax, processBytesMax } = DEFAULT_LIMITS;
  expect(connectionBytesMax).toBeGreaterThanOrEqual(2 * frameBytesMax);
  expect(callerBytesMax).toBeGreaterThanOrEqual(connectionBytesMax);
  expect(processBytesMax).toBeGreaterThan(callerBytesMax);
});

test.skipIf(!keepsHalfOpen())(
  'A client that has ended its side gets a large answer whole, and a batch that is streamed',
  async () => {
    // The connections are looked at every 100 ms, also while the client reads nothing.
    const fixture = await start(2, { requestMs: 400 });
    for (const body of [large(1, 16), batchOf(4, 4)]) {
      const text = httpPost(body).replace('\r\n\r\n', '\r\nContent-Type: application/json\r\n\r\n');
      const socket = await silentClient(fixture.server.port, text);
      socket.end();
      await until('the answer to wait for the client', () => fixture.ledger.bytes > MIB);
      await new Promise((resolve) => setTimeout(resolve, 400));
      const chunks: Buffer[] = [];
      socket.on('data', (chunk: Buffer) => chunks.push(chunk)).resume();
      await until('the end', () => socket.readableEnded);
      const answer = Buffer.concat(chunks).toString('latin1');
      const head = answer.slice(0, answer.indexOf('\r\n\r\n'));
      expect(head).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
      const content = answer.slice(head.length + 4);
      const json = /chunked/i.test(head) ? unchunked(content) : content;
      const answers = [JSON.parse(json)].flat() as { result: { text: string } }[];
      expect(answers.map(({ result }) => result.text.length)).toEqual(
        body.startsWith('[') ? [4, 4, 4, 4].map((n) => n * MIB) : [16 * MIB],
      );
      await until('all to be given back', () => fixture.ledger.bytes === 0);
    }
  },
);

/** The content of a body in chunks. */
function unchunked(body: string): string {
  let text = '';
  for (let at = 0; ;) {
    const end = body.indexOf('\r\n', at);
    const length = Number.parseInt(body.slice(at, end), 16);
    if (length === 0) return text;
    text += body.slice(end + 2, end + 2 + length);
    at = end + 2 + length + 2;
  }
}

test('A oneway call that was answered is booked until it ends', async () => {
  let release: () => void = () => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  const fixture = await start(2, {}, { tell: () => held });
  const what = 'w'.repeat(100_000);
  const { json } = await fixture.post(
    JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'Fixture.tell', params: { what } }),
  );
  expect(json.result).toBe(null);
  expect(fixture.ledger.bytes).toBeGreaterThanOrEqual(100_000);
  release();
  await until('all to be given back', () => fixture.ledger.bytes === 0);
});

// The sums of bytes on the Thrift port: backpressure first, refusal second, and everything is given back.

import { afterEach, expect, test } from 'vitest';
import { ByteLedger } from '../../../core/mod.ts';
import { readApplicationException } from '../../../core/thrift/mod.ts';
import { until } from '../../kit/tools/wait.ts';
import { startFixture, type Fixture } from './fixture.ts';

/** What a runtime reads from a socket at once. */
const READ_BYTES_MAX = 512 * 1024;
const MIB = 1024 * 1024;
const SUMS = { connectionBytesMax: 4 * MIB, callerBytesMax: 8 * MIB, processBytesMax: 16 * MIB };

const fixtures: Fixture[] = [];
afterEach(async () => {
  for (const fixture of fixtures.splice(0)) await fixture.end();
});

async function start(limits: Parameters<typeof startFixture>[0] = {}): Promise<Fixture & { ledger: ByteLedger }> {
  const ledger = new ByteLedger(SUMS);
  const fixture = await startFixture({ ...limits, ledger });
  fixtures.push(fixture);
  return { ...fixture, ledger };
}

/** The message of an exception of the mesh. */
const why = (body: Buffer): string => readApplicationException(body).message;

test('bytes of calls in flight and of oneway calls are booked until they end', async () => {
  const { ledger, connect, bytes, behind } = await start();
  const client = await connect();
  client.send(bytes('hold', { key: 'k'.repeat(100_000) }));
  await until('the call', () => behind.held().length === 1);
  expect(ledger.bytes).toBeGreaterThanOrEqual(100_000);
  behind.release('k'.repeat(100_000));
  await client.count(1);
  await until('all to be given back', () => ledger.bytes === 0);
  client.send(bytes('note', { text: 'n'.repeat(100_000) }, { type: 4 }));
  client.socket.end();
  await until('the oneway call', () => behind.handled.some(({ method }) => method === 'note'));
  await until('all to be given back', () => ledger.bytes === 0 && ledger.callers === 0);
});

test('a client that does not read is held back, and others of the same caller are served', async () => {
  const { ledger, connect, bytes, behind } = await start();
  const silent = await Promise.all(Array.from({ length: 4 }, () => connect()));
  const call = bytes('echo', { text: 'e'.repeat(MIB) });
  for (const { socket } of silent) {
    socket.pause();
    for (let i = 0; i < 40; i++) socket.write(call);
  }
  let last = -1;
  await until('no further call to begin', async () => {
    const { length } = behind.handled;
    const isSteady = length === last;
    last = length;
    await new Promise((resolve) => setTimeout(resolve, 100));
    return isSteady;
  });
  expect(behind.handled.length).toBeLessThan(160);
  expect(ledger.bytes).toBeLessThanOrEqual(SUMS.callerBytesMax + 4 * MIB);
  const other = await connect();
  other.send(bytes('add', { a: 1, b: 2 }));
  expect((await other.count(1))[0]?.type).toBe(2);
  for (const { socket } of silent) socket.resume();
  for (const client of silent) expect((await client.count(40)).length).toBe(40);
  await until('all to be given back', () => ledger.bytes === 0);
});

test('an answer for which there is no room becomes an error that says which limit, for that call alone', async () => {
  const { ledger, connect, bytes } = await start();
  const client = await connect();
  const elsewhere = ledger.open('127.0.0.1');
  elsewhere.add(SUMS.callerBytesMax - 3 * MIB);
  client.send(bytes('echo', { text: 'e'.repeat(2 * MIB) }));
  client.send(bytes('add', { a: 1, b: 2 }, { seqId: 2 }));
  const [dropped, added] = await client.count(2);
  expect(dropped?.type).toBe(3);
  expect(why(dropped?.body as Buffer)).toMatch(/An answer of \d+ bytes was dropped: the connections of 127.0.0.1 hold/);
  expect(why(dropped?.body as Buffer)).toContain('raise limits.callerMemory');
  expect(added?.type).toBe(2);
  elsewhere.add(-elsewhere.bytes);
  client.send(bytes('echo', { text: 'e'.repeat(2 * MIB) }, { seqId: 3 }));
  expect((await client.count(3))[2]?.type).toBe(2);
});

test('incomplete requests fill the sum of their caller: then they are held back, and refused after the time limit', async () => {
  const { ledger, connect, bytes } = await start({ limits: { requestMs: 500 } });
  const call = bytes('echo', { text: 'e'.repeat(3 * MIB) });
  const clients = await Promise.all(Array.from({ length: 6 }, () => connect()));
  for (const client of clients) client.send(call.subarray(0, call.length - 10));
  await until('the caller to hold as much as it may', () => ledger.bytes >= SUMS.callerBytesMax);
  expect(ledger.bytes).toBeLessThanOrEqual(SUMS.callerBytesMax + 6 * READ_BYTES_MAX);
  // Others do not notice.
  await until('all to be refused', () => clients.every(({ answers }) => answers.length === 1));
  const refusals = clients.map(({ answers }) => why(answers[0]?.body as Buffer));
  expect(refusals.some((text) => text.includes('Found no room for the request in 500 ms'))).toBe(true);
  expect(refusals.some((text) => text.includes('raise limits.callerMemory'))).toBe(true);
  await until('all to be given back', () => ledger.bytes === 0);
});

// Calls of the client through a real faceplate: what arrives, what is returned, and what is never sent.

import { getEventListeners } from 'node:events';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { startFixture, type Fixture } from '../faceplates/thrift/fixture.ts';
import { EXCHANGE_IDL, type Item } from '../kit/wire/exchange.ts';
import { refusalOf, rejectionOf } from '../kit/tools/rejection.ts';
import { until } from '../kit/tools/wait.ts';
import { connect } from '../../client/mod.ts';
import { ThriftException } from '../../core/thrift/mod.ts';
import { client, type ExchangeCalls } from './fixture.ts';

let fixture: Fixture;
let address: string;
beforeEach(async () => {
  fixture = await startFixture();
  address = `127.0.0.1:${fixture.faceplate.port}`;
});
afterEach(() => fixture.end());

const BIG = 2n ** 63n - 1n;

describe('A call', () => {
  test('takes arguments by name and returns the plain value, i64 as bigint', async () => {
    const { exchange } = client(address);
    expect(await exchange.add({ a: 20, b: 22 })).toBe(42);
    const item: Item = { id: 1, text: 'ä', numbers: [BIG], children: new Map([['x', { id: 2, text: '' }]]) };
    expect(await exchange.turn({ item })).toEqual(item);
  });

  test('returns i64 as number on request, and rejects when one is not exact', async () => {
    const { mesh } = client(address);
    const exchange = mesh.service<ExchangeCalls>('Exchange', { idl: EXCHANGE_IDL, i64: 'number' });
    expect(await exchange.turn({ item: { id: 1, text: '', numbers: [7n] } })).toEqual({
      id: 1,
      text: '',
      numbers: [7],
    });
    const error = await refusalOf(exchange.turn({ item: { id: 1, text: '', numbers: [BIG] } }));
    expect([error.code, error.message]).toEqual(['internal', expect.stringContaining('success.numbers[0]')]);
  });

  test('throws a declared exception with its fields, and an undeclared one with its message', async () => {
    const { exchange } = client(address);
    const thrown = await rejectionOf(exchange.refuse({ why: 'no' }));
    expect(thrown).toBeInstanceOf(ThriftException);
    expect(thrown).toMatchObject({ exception: 'Refused', fields: { why: 'no', code: 7 } });
    const error = await refusalOf(exchange.fail({ why: 'broken' }));
    expect([error.code, error.message]).toEqual(['internal', 'Exchange.fail failed: broken']);
  });

  test('with an invalid value is rejected with its path, and nothing is sent', async () => {
    const { mesh, exchange } = client(address);
    const wrong = { a: 1, b: 'seven' } as unknown as { a: number; b: number };
    const error = await refusalOf(exchange.add(wrong));
    expect([error.code, error.message]).toEqual(['bad_request', 'b: expected i32, got "seven"']);
    const unknown = await refusalOf(exchange.add({ a: 1, c: 2 } as unknown as { a: number; b: number }));
    expect(unknown.message).toContain('has no field "c"');
    expect([mesh.stats().sent, fixture.faceplate.connections()]).toEqual([0, 0]);
  });

  test('carries version, key, tags, roles, trace and timeout to the mesh', async () => {
    const { mesh } = client(address);
    const exchange = mesh.service<ExchangeCalls>('Exchange', { idl: EXCHANGE_IDL, version: '2.0.0', tags: ['fast'] });
    await exchange.add({ a: 1, b: 2 });
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const minCoverage = 2 / 3;
    const options = { key: 'k', roles: ['r', 's'], minCoverage, traceparent, tracestate: 'a=b', timeoutMs: 700 };
    const before = performance.now();
    await exchange.add({ a: 1, b: 2 }, { ...options, version: '1.0.0' });
    const [plain, special] = fixture.behind.calls;
    expect(plain).toMatchObject({ service: 'Exchange', version: '2.0.0', tags: ['fast'], roles: [], key: '' });
    const { timeoutMs: _, ...said } = options;
    expect(special).toMatchObject({ ...said, version: '1.0.0', tags: ['fast'], headers: {} });
    expect(special?.deadlineMs).toBeLessThanOrEqual(performance.now() + 700);
    expect(special?.deadlineMs).toBeGreaterThanOrEqual(before + 700);
  });

  test('refused by the mesh rejects with the code and the facts of the refusal', async () => {
    const { mesh } = client(address, { retries: false });
    const exchange = mesh.service<ExchangeCalls>('Exchange', { idl: EXCHANGE_IDL, version: '9.0.0' });
    const error = await refusalOf(exchange.add({ a: 1, b: 2 }));
    expect([error.code, error.message]).toEqual(['no_pool', 'No pool offers Exchange@9.0.0.add']);
  });

  test('of a oneway method settles when it was written', async () => {
    const { mesh, exchange } = client(address);
    expect(await exchange.note({ text: 'x' })).toBe(undefined);
    await until('the note', () => fixture.behind.handled.length === 1);
    expect(mesh.stats()).toMatchObject({ sent: 1, answered: 1, inFlight: 0 });
  });

  test('may have values of many megabytes', async () => {
    const { exchange } = client(address);
    const text = 'ä'.repeat(5_000_000);
    const [long, sum] = await Promise.all([exchange.echo({ text }), exchange.add({ a: 1, b: 1 })]);
    expect([long === text, sum]).toEqual([true, 2]);
  });

  test('that is too large is rejected locally and affects no other', async () => {
    const { mesh, exchange } = client(address, { frameBytesMax: 100_000 });
    const error = await refusalOf(exchange.echo({ text: 'x'.repeat(100_000) }));
    expect([error.code, error.message]).toEqual([
      'too_large',
      expect.stringMatching(/^The arguments of Exchange.echo/),
    ]);
    expect(mesh.stats().sent).toBe(0);
  });

  test('with an invalid option is rejected', async () => {
    const { exchange } = client(address);
    const refused = async (options: object): Promise<string> => {
      const error = await refusalOf(exchange.add({ a: 1, b: 2 }, options));
      expect(error.code).toBe('bad_request');
      return error.message;
    };
    expect(await refused({ timeoutMs: 0 })).toBe('timeoutMs: expected milliseconds above 0, up to 24 days, got 0');
    expect(await refused({ minCoverage: 1.5 })).toBe('minCoverage: expected a share from 0 to 1, got 1.5');
    expect(await refused({ tags: ['a,b'] })).toContain('expected words without commas, got "a,b"');
    expect(await refused({ key: 'k'.repeat(20_000) })).toContain('limit is 16384');
    expect(fixture.behind.calls).toEqual([]);
  });
});

describe('One connection', () => {
  test('carries calls whose replies arrive out of order', async () => {
    const { mesh, exchange } = client(address);
    const slow = ['a', 'b'].map((key) => exchange.hold({ key }));
    expect(await exchange.add({ a: 1, b: 2 })).toBe(3);
    await until('both', () => fixture.behind.held().length === 2);
    expect(mesh.stats()).toMatchObject({ inFlight: 2, answered: 1, address });
    fixture.behind.release('b');
    expect(await slow[1]).toBe('b');
    fixture.behind.release('a');
    expect(await slow[0]).toBe('a');
    expect([fixture.faceplate.connections(), mesh.stats().reconnects]).toEqual([1, 0]);
  });

  test('carries 3,000 concurrent calls, each with its own reply; calls over the limit wait in the client', async () => {
    const { mesh, exchange } = client(address, { callsMax: 40 });
    const sums = Array.from({ length: 3_000 }, (_, i) => exchange.add({ a: i, b: 1 }));
    expect(mesh.stats()).toMatchObject({ inFlight: 0, waiting: 3_000 });
    expect(await Promise.all(sums)).toEqual(sums.map((_, i) => i + 1));
    expect(mesh.stats()).toMatchObject({ sent: 3_000, answered: 3_000, inFlight: 0, waiting: 0, failed: 0 });
    expect(fixture.faceplate.connections()).toBe(1);
  });

  test('has at most callsMax calls in flight, and rejects those that exceed the waiting list', async () => {
    const { mesh, exchange } = client(address, { callsMax: 2, waitingMax: 3 });
    await exchange.add({ a: 0, b: 0 });
    const calls = Array.from({ length: 6 }, (_, i) => exchange.hold({ key: `k${i}` }));
    const error = await refusalOf(calls[5] as Promise<string>);
    expect([error.code, error.facts.notRun]).toEqual(['overloaded', true]);
    expect(error.message).toContain('2 calls are in flight and 3 are waiting');
    expect(mesh.stats()).toMatchObject({ inFlight: 2, waiting: 3 });
    for (const i of [0, 1, 2, 3, 4]) {
      await until(`k${i}`, () => fixture.behind.held().includes(`k${i}`));
      expect(fixture.behind.held().length).toBeLessThanOrEqual(2);
      fixture.behind.release(`k${i}`);
    }
    expect(await Promise.all(calls.slice(0, 5))).toEqual(['k0', 'k1', 'k2', 'k3', 'k4']);
  });

  test('is not opened before the first call', () => {
    const { mesh } = client(address);
    expect(mesh.stats()).toEqual({
      address: '',
      inFlight: 0,
      waiting: 0,
      sent: 0,
      answered: 0,
      failed: 0,
      retried: 0,
      reconnects: 0,
    });
    expect(fixture.faceplate.connections()).toBe(0);
  });

  test('that was idle for long is replaced before the next call', async () => {
    const { mesh, exchange } = client(address, { idleMs: 50 });
    await exchange.add({ a: 1, b: 2 });
    await until('the time', async () => {
      await new Promise((resolve) => setTimeout(resolve, 60));
      return true;
    });
    expect(await exchange.add({ a: 1, b: 2 })).toBe(3);
    expect(mesh.stats().reconnects).toBe(1);
    await until('the first to be closed', () => fixture.faceplate.connections() === 1);
  });
});

describe('A deadline', () => {
  test('that passes in the mesh rejects the call with the stage that the mesh reports', async () => {
    const { exchange } = client(address);
    const error = await refusalOf(exchange.hold({ key: 'x' }, { timeoutMs: 60 }));
    expect([error.code, error.facts.stage, error.message]).toEqual([
      'timeout',
      'service',
      'hold took longer than it may',
    ]);
  });

  test('that passes while the call waits in the client rejects it as certainly not run', async () => {
    const { exchange } = client(address, { callsMax: 1 });
    const first = exchange.hold({ key: 'x' });
    const error = await refusalOf(exchange.add({ a: 1, b: 2 }, { timeoutMs: 40 }));
    expect([error.code, error.facts]).toEqual(['timeout', { stage: 'queue', notRun: true }]);
    await until('the first', () => fixture.behind.held().length === 1);
    fixture.behind.release('x');
    expect(await first).toBe('x');
    expect(fixture.behind.calls.map(({ method }) => method)).toEqual(['hold']);
  });
});

describe('An AbortSignal', () => {
  test('cancels a call in flight at once; its reply is dropped, and no listener remains', async () => {
    const { mesh, exchange } = client(address);
    const { signal, abort } = aborter();
    const call = exchange.hold({ key: 'x' }, { signal });
    await until('the call', () => fixture.behind.held().length === 1);
    abort('enough');
    const error = await refusalOf(call);
    expect([error.code, error.message, error.cause, error.facts]).toEqual([
      'cancelled',
      'Exchange.hold was canceled by its signal',
      'enough',
      {},
    ]);
    expect(mesh.stats()).toMatchObject({ inFlight: 0, waiting: 0 });
    fixture.behind.release('x');
    expect(await exchange.add({ a: 1, b: 2 })).toBe(3);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });

  test('cancels a call that waits for a free place or for a connection', async () => {
    const { exchange } = client(address, { callsMax: 1 });
    const { signal, abort } = aborter();
    const first = exchange.hold({ key: 'x' }, { signal });
    const second = exchange.add({ a: 1, b: 2 }, { signal });
    abort('now');
    for (const call of [first, second]) {
      const { code, facts } = await refusalOf(call);
      expect([code, facts]).toEqual(['cancelled', { notRun: true }]);
    }
    expect(getEventListeners(signal, 'abort')).toEqual([]);
    expect(fixture.behind.calls).toEqual([]);
  });

  test('that is already aborted rejects the call', async () => {
    const { mesh, exchange } = client(address);
    expect((await refusalOf(exchange.add({ a: 1, b: 2 }, { signal: AbortSignal.abort() }))).code).toBe('cancelled');
    expect(mesh.stats().sent).toBe(0);
  });

  test('may be shared by many calls, and has no listeners when they have ended', async () => {
    const { exchange } = client(address);
    const { signal } = aborter();
    const calls = Array.from({ length: 100 }, (_, i) => exchange.add({ a: i, b: 0 }, { signal }));
    expect(getEventListeners(signal, 'abort').length).toBe(1);
    await Promise.all(calls);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });
});

describe('The end of a client', () => {
  test('by drain() waits for calls in flight, and rejects later ones', async () => {
    const { mesh, exchange } = client(address);
    const call = exchange.hold({ key: 'x' });
    await until('the call', () => fixture.behind.held().length === 1);
    const drained = mesh.drain();
    const { code, message } = await refusalOf(exchange.add({ a: 1, b: 2 }));
    expect([code, message]).toEqual(['cancelled', 'This client is draining; call connect() for another']);
    fixture.behind.release('x');
    expect(await call).toBe('x');
    await drained;
    await until('the connection to close', () => fixture.faceplate.connections() === 0);
  });

  test('by close() is immediate; closing twice is fine', async () => {
    const { mesh, exchange } = client(address);
    const call = exchange.hold({ key: 'x' });
    const failed = refusalOf(call);
    await until('the call', () => fixture.behind.held().length === 1);
    mesh.close();
    mesh.close();
    const { code, message } = await failed;
    expect([code, message]).toEqual(['cancelled', 'This client is closed; call connect() for another']);
    expect((await refusalOf(exchange.add({ a: 1, b: 2 }))).code).toBe('cancelled');
    await until('the connection to close', () => fixture.faceplate.connections() === 0);
  });

  test('by `await using` drains', async () => {
    {
      await using mesh = connect({ addresses: [address] });
      expect(await mesh.service<ExchangeCalls>('Exchange', { idl: EXCHANGE_IDL }).add({ a: 1, b: 2 })).toBe(3);
    }
    await until('the connection to close', () => fixture.faceplate.connections() === 0);
  });
});

describe('connect() and service()', () => {
  test('reject invalid options', () => {
    expect(() => connect({ addresses: [] })).toThrow('addresses: expected at least one');
    expect(() => connect({ addresses: 'localhost' })).toThrow(
      'addresses: expected host:port or unix:PATH, got "localhost"',
    );
    expect(() => connect({ addresses: address, callsMax: 0 })).toThrow(
      'callsMax: expected a whole number above 0, got 0',
    );
    const { mesh } = client(address);
    expect(() => mesh.service('Exchange@1')).toThrow('"Exchange@1" is not a valid service name');
    expect(() => mesh.service('Nobody', { idl: EXCHANGE_IDL })).toThrow(
      'exchange.thrift has no service Nobody; it has Exchange',
    );
  });

  test('return an object with exactly the methods of the IDL', () => {
    const { exchange } = client(address);
    expect(Object.keys(exchange).sort()).toEqual(['add', 'echo', 'fail', 'hold', 'note', 'refuse', 'turn']);
  });
});

function aborter(): { signal: AbortSignal; abort: (reason: unknown) => void } {
  const controller = new AbortController();
  return { signal: controller.signal, abort: (reason) => controller.abort(reason) };
}

// The client on a misbehaving mesh: every call settles once, and a call that may have run is retried only if it is
// idempotent.

import { connect as connectTcp, createServer, type AddressInfo, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { ManualClock } from '../kit/tools/manual-clock.ts';
import { Random } from '../kit/tools/random.ts';
import { refusalOf } from '../kit/tools/rejection.ts';
import { scriptedMesh, type ScriptedCall, type ScriptedMesh } from '../kit/mesh/scripted-mesh.ts';
import { connect, type CallOptions, type ClientReplyInfo, type ConnectOptions, type Mesh } from '../../client/mod.ts';
import { decodeStruct, parseIdl } from '../../core/idl/mod.ts';
import { KatamariError } from '../../core/mod.ts';
import type { Interface, Method } from '../../core/thrift/mod.ts';
import { until } from '../kit/tools/wait.ts';

const IDL = {
  main: 'sums.thrift',
  files: {
    'sums.thrift': `service Sums {
      i32 next(1: i32 n)
      i32 again(1: i32 n) (katamari.idempotent = "true")
      oneway void note(1: i32 n)
      i32 size(1: binary bytes)
    }`,
  },
};
const sums = parseIdl(IDL).services.get('Sums') as Interface;
type Sums = Readonly<
  Record<'next' | 'again' | 'note', (args: { n: number }, options?: CallOptions) => Promise<number>>
>;

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function server(
  onCall: (call: ScriptedCall) => void,
  options?: Parameters<typeof scriptedMesh>[2],
): Promise<ScriptedMesh> {
  const mesh = await scriptedMesh(sums, onCall, options);
  ends.push(() => mesh.close());
  return mesh;
}

function client(
  addresses: string | readonly string[],
  options: Omit<ConnectOptions, 'addresses'> = {},
  environment: Parameters<typeof connect>[1] = {},
): { mesh: Mesh; sums: Sums } {
  const mesh = connect({ addresses, ...options }, environment);
  ends.push(() => mesh.close());
  return { mesh, sums: mesh.service<Sums>('Sums', { idl: IDL }) };
}

const nOf = ({ name, args }: ScriptedCall): number =>
  decodeStruct((sums.methods.get(name.split(':')[1] as string) as Method).args, args)['n'] as number;
const answer = (call: ScriptedCall): void => call.answer(nOf(call) + 1);

/** The lines that would be logged. */
function bytesOf({ socket }: ScriptedCall, write: () => void): Buffer {
  const pieces: Buffer[] = [];
  const before = socket.write.bind(socket);
  socket.write = ((bytes: Buffer) => pieces.push(bytes) > 0) as Socket['write'];
  write();
  socket.write = before;
  return Buffer.concat(pieces);
}

/** A port where nothing listens. */
async function deadPort(): Promise<number> {
  const once = createServer();
  await new Promise<void>((resolve) => once.listen(0, '127.0.0.1', resolve));
  const { port } = once.address() as AddressInfo;
  await new Promise((resolve) => once.close(resolve));
  return port;
}

describe('A mesh that', () => {
  test('stays silent: calls end at their deadlines, and after some of them the client reconnects', async () => {
    const mesh = await server(() => {});
    const { mesh: own, sums: calls } = client(mesh.address, { retries: false });
    const options = { timeoutMs: 30 };
    const first = await refusalOf(calls.next({ n: 0 }, options));
    expect([first.code, first.facts]).toEqual(['timeout', { stage: 'service' }]);
    expect(first.message).toBe(
      `Sums.next got no reply within 30 ms: the mesh at ${mesh.address} sent nothing, not even an error`,
    );
    await until('another connection', async () => {
      await refusalOf(calls.next({ n: 1 }, options));
      return mesh.connections() > 1;
    });
    expect(own.stats()).toMatchObject({ inFlight: 0, waiting: 0, answered: 0 });
  });

  test('sends anything in between keeps its connection', async () => {
    const mesh = await server((call) => {
      if (nOf(call) % 2 === 0) answer(call);
    });
    const { sums: calls } = client(mesh.address);
    for (let n = 0; n < 40; n++)
      await calls.next({ n }, { timeoutMs: 20 }).catch((error: KatamariError) => expect(error.code).toBe('timeout'));
    expect(mesh.connections()).toBe(1);
  });

  test('answers too late: the reply is dropped', async () => {
    const late: ScriptedCall[] = [];
    const mesh = await server((call) => (nOf(call) === 0 ? late.push(call) : answer(call)));
    const { mesh: own, sums: calls } = client(mesh.address);
    expect((await refusalOf(calls.next({ n: 0 }, { timeoutMs: 20 }))).code).toBe('timeout');
    late[0]?.answer(77);
    expect(await calls.next({ n: 5 })).toBe(6);
    expect(own.stats()).toMatchObject({ answered: 1, failed: 1 });
  });

  test('disconnects: calls that may have run fail, except idempotent ones', async () => {
    const mesh = await server((call) => {
      if (call.connection > 0) answer(call);
      else if (nOf(call) === 3) call.socket.destroy();
    });
    const { mesh: own, sums: calls } = client(mesh.address);
    const [next, again, last] = [calls.next({ n: 1 }), calls.again({ n: 2 }), calls.next({ n: 3 })];
    const errors = await Promise.all([refusalOf(next), refusalOf(last)]);
    expect(errors.map(({ code, facts }) => [code, facts])).toEqual([
      ['resource_failed', {}],
      ['resource_failed', {}],
    ]);
    expect(await again).toBe(3);
    expect(own.stats()).toMatchObject({ retried: 1, reconnects: 1, sent: 4 });
  });

  test('disconnects every time: an idempotent call fails after three tries', async () => {
    const mesh = await server((call) => call.socket.destroy());
    const { sums: calls } = client(mesh.address);
    expect((await refusalOf(calls.again({ n: 1 }))).code).toBe('resource_failed');
    expect(mesh.calls.length).toBe(3);
  });

  test('disconnects: without retries nothing is sent again', async () => {
    const mesh = await server((call) => call.socket.destroy());
    const { sums: calls } = client(mesh.address, { retries: false });
    expect((await refusalOf(calls.again({ n: 1 }))).code).toBe('resource_failed');
    expect(mesh.calls.length).toBe(1);
  });

  test.each([
    ['an HTTP server', 'HTTP/1.1 400 Bad Request\r\n\r\n'],
    ['noise', '\u0000\u0000\u0000\u0008abcdefgh'],
  ])('is %s: the calls fail, with a hint', async (_, text) => {
    const mesh = await server((call) => call.socket.write(text));
    const { sums: calls } = client(mesh.address, { retries: false });
    const error = await refusalOf(calls.next({ n: 1 }));
    expect([error.code, error.message]).toEqual([
      'resource_failed',
      expect.stringMatching(/ broke the protocol: .*; is that the Thrift port of a mesh\?$/),
    ]);
  });

  test('answers with more than the limit: that call rejects with the limit', async () => {
    const mesh = await server((call) => {
      const head = Buffer.alloc(14);
      head.writeInt32BE(5_000_000, 0);
      head.writeUInt16BE(0x0fff, 4);
      head.writeInt32BE(call.seqId, 8);
      call.socket.write(head);
    });
    const { sums: calls } = client(mesh.address, { frameBytesMax: 1_000_000 });
    const error = await refusalOf(calls.again({ n: 1 }));
    expect([error.code, error.message]).toEqual([
      'too_large',
      'The reply to Sums.again has 5000000 bytes, the limit is 1000000: request less, or raise frameBytesMax',
    ]);
    expect(mesh.calls.length).toBe(1);
  });

  test.each(['at once', 'in pieces'])('answers with more than the limit, %s: the other calls go on', async (how) => {
    const large = Buffer.alloc(5_000_000 + 4, 1);
    const writeLarge = async ({ socket, seqId }: ScriptedCall): Promise<void> => {
      large.writeInt32BE(5_000_000, 0);
      large.writeUInt16BE(0x0fff, 4);
      large.writeInt32BE(seqId, 8);
      // The first piece ends inside the head.
      for (
        let [at, end] = [0, how === 'at once' ? large.length : 5];
        at < large.length;
        [at, end] = [end, end + 999_983]
      ) {
        socket.write(large.subarray(at, end));
        await new Promise((resolve) => setTimeout(resolve));
      }
    };
    let written = Promise.resolve();
    const mesh = await server((call) => {
      written = written.then(() => (nOf(call) === 1 ? writeLarge(call) : call.answer(nOf(call) * 10)));
    });
    const { mesh: own, sums: calls } = client(mesh.address, { frameBytesMax: 1_000_000 });
    const all = await Promise.allSettled([0, 1, 2, 3].map((n) => calls.next({ n })));
    expect(all.map((end) => (end.status === 'fulfilled' ? end.value : (end.reason as KatamariError).code))).toEqual([
      0,
      'too_large',
      20,
      30,
    ]);
    expect(await calls.next({ n: 4 })).toBe(40);
    expect([mesh.calls.length, own.stats().reconnects, own.stats().retried]).toEqual([5, 0, 0]);
  });

  test('sends a reply byte by byte is understood', async () => {
    const mesh = await server((call) => {
      for (const byte of bytesOf(call, () => answer(call))) call.socket.write(Buffer.of(byte));
    });
    const { sums: calls } = client(mesh.address);
    expect(await Promise.all([1, 2, 3].map((n) => calls.next({ n })))).toEqual([2, 3, 4]);
  });

  test('answers unknown calls, and calls twice, does no harm', async () => {
    const mesh = await server((call) => {
      answer(call);
      answer(call);
    });
    const { sums: calls } = client(mesh.address);
    for (let n = 0; n < 5; n++) expect(await calls.next({ n })).toBe(n + 1);
    expect(mesh.connections()).toBe(1);
  });

  test('refuses the connection says so, and the calls wait for another connection', async () => {
    const mesh = await server(answer, {
      onConnection: (socket) => {
        if (mesh.connections() > 1) return false;
        const text = Buffer.from('Cannot take another connection');
        const struct = Buffer.concat([
          Buffer.from('0b000100000000', 'hex'),
          text,
          Buffer.from('0800020000000600', 'hex'),
        ]);
        struct.writeInt32BE(text.length, 3);
        const message = Buffer.concat([Buffer.from('00000000800100030000000000000000', 'hex'), struct]);
        message.writeInt32BE(message.length - 4, 0);
        socket.write(message);
        return true;
      },
    });
    const { sums: calls } = client(mesh.address);
    expect(await calls.next({ n: 1 })).toBe(2);
    expect(mesh.connections()).toBe(2);
  });
});

describe('A call that was refused', () => {
  test('as overloaded is retried, no sooner than the mesh says', async () => {
    const mesh = await server((call) => {
      if (mesh.calls.length === 3) answer(call);
      else call.refuse({ 'katamari-error': 'overloaded', 'katamari-not-run': '1', 'katamari-retry-after-ms': '60' });
    });
    const clock = new ManualClock();
    const { mesh: own, sums: calls } = client(mesh.address, {}, { clock, random: () => 0 });
    const infos: ClientReplyInfo[] = [];
    const call = calls.next({ n: 1 }, { onReply: (info) => infos.push(info) });
    for (const tries of [1, 2]) {
      await until(`refusal ${tries}`, () => own.stats().retried === tries);
      clock.advance(59);
      expect(own.stats().sent).toBe(tries);
      clock.advance(11);
      expect(own.stats().sent).toBe(tries + 1);
    }
    expect(await call).toBe(2);
    expect(infos).toEqual([{ version: '1.0.0', coverage: undefined, tries: 3, address: mesh.address }]);
    expect(own.stats()).toMatchObject({ sent: 3, retried: 2, answered: 1, failed: 0 });
  });

  test('is not kept waiting when its deadline is before the earliest retry', async () => {
    const mesh = await server((call) =>
      call.refuse({ 'katamari-error': 'overloaded', 'katamari-retry-after-ms': '5000' }, 'full'),
    );
    const { sums: calls } = client(mesh.address);
    const error = await refusalOf(calls.next({ n: 1 }, { timeoutMs: 2_000 }));
    expect([error.code, error.message, error.facts]).toEqual(['overloaded', 'full', { retryAfterMs: 5_000 }]);
    expect(mesh.calls.length).toBe(1);
  });

  test.each(['no_pool', 'denied', 'bad_request', 'internal', 'timeout'])('as %s is not retried', async (code) => {
    const mesh = await server((call) => call.refuse({ 'katamari-error': code, 'katamari-not-run': '1' }));
    const { sums: calls } = client(mesh.address);
    expect((await refusalOf(calls.again({ n: 1 }))).code).toBe(code);
    expect(mesh.calls.length).toBe(1);
  });

  test('is not retried when the retry budget is used up', async () => {
    const mesh = await server((call) => call.refuse({ 'katamari-error': 'overloaded', 'katamari-not-run': '1' }));
    const { mesh: own, sums: calls } = client(mesh.address);
    const options = { timeoutMs: 1_000 };
    const refused = await Promise.all(Array.from({ length: 200 }, (_, n) => refusalOf(calls.next({ n }, options))));
    expect(new Set(refused.map(({ code }) => code))).toEqual(new Set(['overloaded']));
    // 10, plus a fifth of 200 calls, plus the refill of about a second.
    expect(own.stats().retried).toBeLessThan(100);
    expect(own.stats().retried).toBeGreaterThan(10);
  });
});

describe('A mesh that drains', () => {
  test('gets no further call on the connection, and calls in flight there are answered', async () => {
    const waiting: ScriptedCall[] = [];
    const mesh = await server((call) => (nOf(call) === 0 ? waiting.push(call) : answer(call)));
    const { mesh: own, sums: calls } = client(mesh.address);
    const slow = calls.next({ n: 0 });
    await until('the call', () => waiting.length === 1);
    mesh.sendGoAway(false);
    await until('the word', () => own.stats().address === '');
    expect(await calls.next({ n: 1 })).toBe(2);
    waiting[0]?.answer(1);
    expect(await slow).toBe(1);
    expect(mesh.calls.map(({ connection }) => connection)).toEqual([0, 1]);
    await until('the first connection to end', () => mesh.open() === 1);
  });

  test('announces at the end that the rest has not run: these calls are sent elsewhere, idempotent or not', async () => {
    const mesh = await server((call) => {
      if (call.connection > 0) answer(call);
    });
    const { mesh: own, sums: calls } = client(mesh.address);
    const all = Array.from({ length: 100 }, (_, n) => calls.next({ n }));
    await until('all', () => mesh.calls.length === 100);
    mesh.sendGoAway(false);
    mesh.sendGoAway(true);
    for (const { socket } of mesh.calls.slice(0, 1)) socket.end();
    expect(await Promise.all(all)).toEqual(all.map((_, n) => n + 1));
    expect(own.stats()).toMatchObject({ sent: 200, answered: 100, failed: 0, reconnects: 1 });
  });

  test('refuses late calls: they are sent elsewhere', async () => {
    const mesh = await server((call) => {
      if (call.connection > 0) answer(call);
      else call.refuse({ 'katamari-error': 'draining', 'katamari-not-run': '1' });
    });
    const { sums: calls } = client(mesh.address);
    const first = calls.next({ n: 1 });
    await until('the call', () => mesh.calls.length > 0);
    mesh.sendGoAway(true);
    expect(await first).toBe(2);
  });
});

describe('Where nothing listens', () => {
  test('calls wait until their deadlines, and say why', async () => {
    const port = await deadPort();
    const { mesh, sums: calls } = client(`127.0.0.1:${port}`);
    const error = await refusalOf(calls.next({ n: 1 }, { timeoutMs: 150 }));
    expect([error.code, error.facts]).toEqual(['timeout', { stage: 'queue', notRun: true }]);
    expect(error.message).toMatch(
      new RegExp(
        `^Sums.next got no reply within 150 ms: The mesh at 127.0.0.1:${port} cannot be reached: .*ECONNREFUSED`,
      ),
    );
    expect(mesh.stats()).toMatchObject({ sent: 0, waiting: 0, failed: 1 });
  });

  test('calls wait, and are sent once something listens', async () => {
    const port = await deadPort();
    const { sums: calls } = client(`127.0.0.1:${port}`);
    const call = calls.next({ n: 1 });
    const failed = refusalOf(calls.next({ n: 1 }, { timeoutMs: 30 }));
    expect((await failed).code).toBe('timeout');
    await server(answer, { port });
    expect(await call).toBe(2);
  });

  test('the next address is tried, and the first again when that one fails', async () => {
    const [dead, first] = [`127.0.0.1:${await deadPort()}`, await server(answer)];
    const { mesh, sums: calls } = client([dead, first.address], {}, { random: () => 0 });
    expect(await calls.next({ n: 1 })).toBe(2);
    expect(mesh.stats().address).toBe(first.address);
    await first.close();
    await until('the end of the connection', () => mesh.stats().address === '');
    await server(answer, { port: Number(dead.split(':')[1]) });
    expect(await calls.next({ n: 2 })).toBe(3);
    expect(mesh.stats().address).toBe(dead);
  });

  test('a mesh that accepts and never answers is abandoned for the next address', async () => {
    const [frozen, good] = [await server(() => {}), await server(answer)];
    const { mesh, sums: calls } = client([frozen.address, good.address], {}, { random: () => 0 });
    await until('an answer', async () => {
      const all = await Promise.allSettled([1, 2, 3].map((n) => calls.next({ n }, { timeoutMs: 50 })));
      return all.every(({ status }) => status === 'fulfilled');
    });
    expect(mesh.stats().address).toBe(good.address);
  });

  test('the first address is chosen at random', async () => {
    const [a, b] = [await server(answer), await server(answer)];
    for (const [random, expected] of [
      [0.2, a],
      [0.7, b],
    ] as const) {
      const { mesh, sums: calls } = client([a.address, b.address], {}, { random: () => random });
      await calls.next({ n: 1 });
      expect(mesh.stats().address).toBe(expected.address);
    }
  });

  test('a connection that does not open in time is abandoned', async () => {
    const silent = createServer(() => {});
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    ends.push(() => void silent.close());
    const { port } = silent.address() as AddressInfo;
    // A TLS handshake without an answer.
    const { sums: calls } = client(`127.0.0.1:${port}`, { tls: true, connectMs: 40 });
    const error = await refusalOf(calls.next({ n: 1 }, { timeoutMs: 200 }));
    expect([error.code, error.message]).toEqual(['timeout', expect.stringContaining('no connection within 40 ms')]);
  });
});

test('A mesh that does not read gets a bounded amount of data', async () => {
  let sleeper: Socket | undefined;
  const mesh = await server((call) => call.answer(1), {
    onConnection: (socket) => {
      sleeper = socket.pause();
      return false;
    },
  });
  const { mesh: own } = client(mesh.address, { frameBytesMax: 1_000_000 });
  const calls = own.service<{ size: (args: { bytes: Buffer }) => Promise<number> }>('Sums', { idl: IDL });
  const bytes = Buffer.alloc(900_000);
  const all = Array.from({ length: 60 }, () => calls.size({ bytes }));
  await until('some to be sent', () => own.stats().sent > 0);
  // The kernel buffers on both sides come on top.
  expect(own.stats().sent).toBeLessThan(30);
  expect(own.stats().waiting).toBeGreaterThan(30);
  sleeper?.resume();
  expect(await Promise.all(all)).toEqual(all.map(() => 1));
});

describe('Whatever happens', () => {
  test('every call settles, exactly once', async () => {
    let turn = 0;
    const mesh = await server((call) => {
      turn = (turn * 31 + 7) % 97;
      if (turn < 60) answer(call);
      else if (turn < 70) call.refuse({ 'katamari-error': 'overloaded', 'katamari-not-run': '1' });
      else if (turn < 75) call.refuse({ 'katamari-error': 'resource_failed' });
      else if (turn < 78) call.socket.destroy();
      else if (turn < 80) call.socket.end(Buffer.from('nonsense'));
      else if (turn < 82) mesh.sendGoAway(false);
    });
    const { mesh: own, sums: calls } = client(mesh.address, { callsMax: 20 });
    let settled = 0;
    const round = async (number: number): Promise<void> => {
      const controller = new AbortController();
      const all = Array.from({ length: 200 }, async (_, n) => {
        const options = { timeoutMs: 200 + (n % 300), ...(n % 50 === number ? { signal: controller.signal } : {}) };
        try {
          expect(await (n % 3 === 0 ? calls.again({ n }, options) : calls.next({ n }, options))).toBe(n + 1);
        } catch (error) {
          expect(error).toBeInstanceOf(KatamariError);
        }
        settled++;
      });
      setTimeout(() => controller.abort(), 30);
      await Promise.all(all);
      expect(settled).toBe(200 * number);
      const { answered, failed, inFlight, waiting } = own.stats();
      expect([answered + failed, inFlight, waiting]).toEqual([200 * number, 0, 0]);
    };
    let number = 0;
    await until('rounds in which enough was answered', async () => {
      await round(++number);
      return number >= 5 && own.stats().answered > 100;
    });
  }, 70_000);

  test('corrupt replies (changed, missing, duplicated or split bytes) end calls and do nothing else', async () => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    const random = new Random(seed);
    const mesh = await server((call) => {
      const bytes = bytesOf(call, () => answer(call));
      if (random.chance(0.3)) bytes[random.below(bytes.length)] = random.below(256);
      const from = random.chance(0.1) ? random.below(bytes.length) : 0;
      const to = random.chance(0.1) ? random.between(from, bytes.length) : bytes.length;
      const cut = random.between(from, to);
      call.socket.write(bytes.subarray(from, cut));
      call.socket.write(bytes.subarray(cut, to));
      if (random.chance(0.05)) call.socket.write(bytes);
    });
    const { mesh: own, sums: calls } = client(mesh.address, { frameBytesMax: 100_000 });
    let settled = 0;
    for (let round = 0; round < 20; round++) {
      const all = Array.from({ length: 50 }, async (_, n) => {
        try {
          await (n % 2 === 0 ? calls.again({ n }, { timeoutMs: 60 }) : calls.next({ n }, { timeoutMs: 60 }));
        } catch (error) {
          if (!(error instanceof KatamariError)) throw new Error(`seed ${seed}`, { cause: error });
        }
        settled++;
      });
      await Promise.all(all);
    }
    const { answered, failed, inFlight, waiting } = own.stats();
    expect([settled, answered + failed, inFlight, waiting, seed]).toEqual([1_000, 1_000, 0, 0, seed]);
  });

  test('a oneway call is never sent twice', async () => {
    const mesh = await server((call) => call.socket.destroy());
    const { sums: calls } = client(mesh.address);
    await calls.note({ n: 1 }).catch(() => undefined);
    await until('the call', () => mesh.calls.length > 0);
    expect(mesh.calls.length).toBe(1);
  });

  test('a closed client leaves no half-open connection', async () => {
    const mesh = await server(answer);
    const { mesh: own, sums: calls } = client(mesh.address);
    const call = refusalOf(calls.next({ n: 1 }));
    own.close();
    expect((await call).code).toBe('cancelled');
    // A later connection is visible, so all earlier ones were too.
    const probe = connectTcp(mesh.port, '127.0.0.1');
    await until('the probe', () => mesh.connections() > 0 && mesh.open() === 1);
    probe.destroy();
  });
});

// OrderedServer and OrderedConnection by a protocol of single bytes: a byte is a call, and its reply is the same byte
// in upper case, written when the test says so. `!` in place of a reply is a refusal.
import { afterEach, expect, test } from 'vitest';
import { OrderedConnection, OrderedServer, type QueuedCall, type TimedPipelineLimits } from '../../../core/link/mod.ts';
import { ByteLedger, KatamariError, systemClock, UNLIMITED_SUMS, type Address, type Clock } from '../../../core/mod.ts';
import { until } from '../../kit/tools/wait.ts';

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

const limits = { connectionsMax: 2, idleMs: 60_000, requestMs: 60_000 };
const closers: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

test('gives replies in the order of the calls', async () => {
  const { address, calls } = await startServer();
  const client = await open(address);
  client.socket.write('abc');
  await until('three calls', () => calls.length === 3);
  for (const at of [2, 1, 0]) calls[at]?.reply();
  await until('the replies', () => client.text() === 'ABC');
});

test('tells a client above the limit why it is refused, and serves it once another has gone', async () => {
  const { server, address, calls } = await startServer();
  const [first] = await Promise.all([open(address), open(address)]);
  await until('two connections', () => server.size === 2);
  const third = await open(address);
  await once(third.socket, 'close');
  expect(third.text()).toBe('!overloaded 2');

  first.socket.end();
  await until('one connection', () => server.size === 1);
  const fourth = await open(address);
  fourth.socket.write('d');
  await until('the call', () => calls.length === 1);
  calls[0]?.reply();
  await until('the reply', () => fourth.text() === 'D');
});

test('counts TLS handshakes as connections', async () => {
  const { address } = await startServer({ handshakes: () => 2 });
  const client = await open(address);
  await once(client.socket, 'close');
  expect(client.text()).toBe('!overloaded 2');
});

test('a drain serves the calls in flight, then closes their connections', async () => {
  const { server, address, calls } = await startServer();
  const client = await open(address);
  client.socket.write('a');
  await until('the call', () => calls.length === 1);
  const drained = server.drain();
  await expect(open(address)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  calls[0]?.reply();
  await once(client.socket, 'end');
  expect(client.text()).toBe('A');
  await drained;
  expect(server.size).toBe(0);
});

test('a drain gives an idle connection a moment for one more call', async () => {
  const { server, address, calls } = await startServer();
  const client = await open(address);
  await until('one connection', () => server.size === 1);
  const drained = server.drain();
  client.socket.write('a');
  await until('the call', () => calls.length === 1);
  calls[0]?.reply();
  await once(client.socket, 'end');
  expect(client.text()).toBe('A');
  await drained;
});

test('a drain waits for calls that have outlived their connection', async () => {
  const waits: number[] = [];
  const { server } = await startServer({ clock: clockThat((ms) => (waits.push(ms), ms)), timeoutMs: () => 5_000 });
  server.detachedCallBegins();
  let isDrained = false;
  const drained = server.drain().then(() => (isDrained = true));
  await until('the wait for the last replies', () => waits.includes(7_000));
  expect(isDrained).toBe(false);
  server.detachedCallEnds();
  await drained;
});

test('a drain ends 2 s after the last deadline, although a call never ends', async () => {
  const waits: number[] = [];
  // That wait takes no time here.
  const clock = clockThat((ms) => (waits.push(ms), ms === 7_000 ? 1 : ms));
  const { server, address, calls } = await startServer({ clock, timeoutMs: () => 5_000 });
  const client = await open(address);
  client.socket.write('a');
  await until('the call', () => calls.length === 1);
  await server.drain();
  expect(waits).toContain(7_000);
  expect(server.size).toBe(0);
});

test('names the address that it cannot listen on', async () => {
  const { address } = await startServer();
  const second = new OrderedServer(optionsOf({}, []));
  await expect(second.listen(address)).rejects.toMatchObject({ code: 'EADDRINUSE', address: address.host });
});

/** The system's clock. `seen` is told each wait and may return another one. */
function clockThat(seen: (ms: number) => number): Clock {
  return { ...systemClock, after: (ms, act) => systemClock.after(seen(ms), act) };
}

type Options = Partial<ConstructorParameters<typeof OrderedServer<ByteConnection>>[0]>;

async function startServer(
  options: Options = {},
): Promise<{ server: OrderedServer<ByteConnection>; address: Address; calls: ByteCall[] }> {
  const calls: ByteCall[] = [];
  const server: OrderedServer<ByteConnection> = new OrderedServer({
    ...optionsOf(options, calls),
    open: (socket) => new ByteConnection(socket, calls, (connection) => server.onClose(connection)),
  });
  const address = await server.listen({ host: '127.0.0.1', port: 0 });
  closers.push(() => server.close());
  return { server, address, calls };
}

function optionsOf(
  options: Options,
  calls: ByteCall[],
): ConstructorParameters<typeof OrderedServer<ByteConnection>>[0] {
  return {
    limits,
    open: (socket) => new ByteConnection(socket, calls, () => undefined),
    tooMany: (limit) => new KatamariError('overloaded', `${limit}`),
    timeoutMs: () => 5_000,
    ...options,
  };
}

async function open({ host, port }: Address): Promise<{ socket: Socket; text: () => string }> {
  const socket = connect({ host, port });
  let text = '';
  socket.setEncoding('utf8').on('data', (more: string) => (text += more));
  closers.push(() => socket.destroy());
  await once(socket, 'connect');
  return { socket, text: () => text };
}

const connectionLimits: TimedPipelineLimits = {
  pipelineMax: 8,
  unreadBytesMax: 1_024,
  unreadBytesClose: Number.POSITIVE_INFINITY,
  idleMs: limits.idleMs,
  requestMs: limits.requestMs,
};

class ByteCall implements QueuedCall<ByteCall> {
  next: ByteCall | undefined = undefined;
  isReady = false;
  readonly text: string;
  readonly #onReady: (call: ByteCall) => void;

  constructor(text: string, onReady: (call: ByteCall) => void) {
    this.text = text;
    this.#onReady = onReady;
  }

  reply(): void {
    this.isReady = true;
    this.#onReady(this);
  }
}

class ByteConnection extends OrderedConnection<ByteCall> {
  readonly #calls: ByteCall[];
  readonly #onClose: (connection: ByteConnection) => void;
  #output = '';

  constructor(socket: Socket, calls: ByteCall[], onClose: (connection: ByteConnection) => void) {
    super(socket, connectionLimits, systemClock, new ByteLedger(UNLIMITED_SUMS).open('a client'));
    this.#calls = calls;
    this.#onClose = onClose;
  }

  refuse({ code, message }: KatamariError): void {
    this.#output = `!${code} ${message}`;
    this.unflushed++;
    this.leave();
  }

  protected read(bytes: Buffer): number {
    for (const character of bytes.toString()) {
      const call = new ByteCall(character, (ready) => this.ready(ready));
      this.#calls.push(call);
      this.enqueue(call);
      this.begin();
    }
    return bytes.length;
  }

  protected writeReply(call: ByteCall): void {
    this.#output += call.text.toUpperCase();
  }

  protected writeOut(): void {
    this.socket.write(this.#output);
    this.#output = '';
  }

  protected onOverdue(): void {
    this.close();
  }

  protected onOverloaded(): void {
    this.close();
  }

  protected onClosed(): void {
    this.#onClose(this);
  }
}

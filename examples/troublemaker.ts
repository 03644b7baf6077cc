// Troublemaker: a chassis that fails on request, to show how the mesh recovers. `troublemaker.thrift` describes each
// method and its effect. Nothing here outlives its process group or changes anything outside its process.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Server, Socket } from 'node:net';
import { chassis, ThriftException } from 'katamari';
import type { HandlerContext } from 'katamari';

/** Limits of the arguments. */
const limits = { ms: 60_000, leakMegabytes: 512, replyMegabytes: 64, lines: 10_000, exitCode: 255 } as const;

const connections = watchConnections();
const leaked: Buffer[] = [];

await chassis({
  idl: new URL('./troublemaker.thrift', import.meta.url),
  service: 'Troublemaker',
  version: '1.0.0',
  tags: ['sample'],
  handlers: {
    echo: ({ bytes }: { bytes: Buffer }) => bytes,
    pid: () => process.pid,
    crash() {
      // An exception in a timer cannot be caught, like a typical crash in a real program.
      setImmediate(() => {
        throw new Error('Troublemaker was asked to crash');
      });
      return never();
    },
    exit({ code }: { code: number }) {
      process.exit(within('code', code, limits.exitCode));
    },
    hang() {
      for (;;);
    },
    hangAsync: () => never(),
    sleep: ({ ms }: { ms: number }, context: HandlerContext) => pause(within('ms', ms, limits.ms), context.signal),
    spin({ ms }: { ms: number }) {
      const end = performance.now() + within('ms', ms, limits.ms);
      while (performance.now() < end);
    },
    leak({ megabytes }: { megabytes: number }) {
      // Fill the memory; otherwise the operating system does not allocate it.
      leaked.push(Buffer.alloc(within('megabytes', megabytes, limits.leakMegabytes) * 2 ** 20, 1));
      return leaked.reduce((sum, buffer) => sum + buffer.length, 0) / 2 ** 20;
    },
    garbage() {
      for (const socket of connections) socket.write('This is not Thrift. It was sent by Troublemaker.garbage.\r\n');
      return never();
    },
    slowReply({ ms }: { ms: number }) {
      const pauseMs = within('ms', ms, limits.ms) / slowReplyPieces;
      for (const socket of connections) drip(socket, pauseMs);
      return `Dripped out in ${slowReplyPieces} pieces. `.repeat(slowReplyPieces);
    },
    bigReply: ({ megabytes }: { megabytes: number }) =>
      Buffer.alloc(within('megabytes', megabytes, limits.replyMegabytes) * 2 ** 20),
    throwUndeclared({ message }: { message: string }) {
      throw new Error(message);
    },
    throwDeclared({ why, code }: { why: string; code: number }) {
      throw new ThriftException('Trouble', { why, code });
    },
    async spawnChild() {
      const child = spawn('sleep', ['600'], { stdio: 'ignore' });
      await once(child, 'spawn');
      child.unref();
      return child.pid;
    },
    chatter({ lines }: { lines: number }) {
      for (let line = 1; line <= within('lines', lines, limits.lines); line += 1) {
        const stream = line % 2 === 1 ? process.stdout : process.stderr;
        stream.write(`Troublemaker says line ${line} of ${lines}\n`);
      }
    },
    retire(_: unknown, context: HandlerContext) {
      context.retireAfterReply();
      return process.pid;
    },
  },
});

/** Returns the value if it is 0 to `most`; otherwise throws the declared exception. */
function within(name: string, value: number, most: number): number {
  if (value >= 0 && value <= most) return value;
  throw new ThriftException('Trouble', { why: `${name} is ${value}, it must be 0 to ${most}`, code: value });
}

function never(): Promise<never> {
  return new Promise(() => {});
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(new Error('The caller no longer waits for this call'));
    });
  });
}

/**
 * Collects all server connections of this process through node:net diagnostics. The SDK does not expose its sockets,
 * because no regular handler needs them.
 */
function watchConnections(): ReadonlySet<Socket> {
  const open = new Set<Socket>();
  const servers: { emit: (this: Server, event: string | symbol, ...args: unknown[]) => boolean } = Server.prototype;
  const emit = servers.emit;
  servers.emit = function (event, ...args): boolean {
    const [socket] = args;
    if (event === 'connection' && socket instanceof Socket) {
      open.add(socket);
      socket.once('close', () => open.delete(socket));
    }
    return Reflect.apply(emit, this, [event, ...args]);
  };
  return open;
}

const slowReplyPieces = 20;

/** Sends the next write on the socket in pieces with pauses. Later writes wait until it is complete. */
function drip(socket: Socket, pauseMs: number): void {
  if (Object.hasOwn(socket, 'write')) return;
  const write: (bytes: Uint8Array) => boolean = socket.write.bind(socket);
  const waiting: Uint8Array[] = [];
  socket.write = (chunk: Uint8Array | string): boolean => {
    waiting.push(Buffer.from(chunk as Uint8Array));
    if (waiting.length === 1) void sendAll();
    return true;
  };
  const sendAll = async (): Promise<void> => {
    const whole = waiting[0]!;
    const size = Math.ceil(whole.length / slowReplyPieces);
    for (let start = 0; start < whole.length; start += size) {
      write(whole.subarray(start, start + size));
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
    Reflect.deleteProperty(socket, 'write');
    for (const later of waiting.slice(1)) write(later);
  };
}

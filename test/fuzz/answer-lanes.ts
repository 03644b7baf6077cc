// Lanes in the other direction: the product connects to a hostile server of the fuzzer. One plays a chassis whose
// readiness is checked and which then gets calls, with a kit and as a plain server; one plays a process on the link of
// the mesh. They run in this process, because a manager starts a chassis too rarely. Every call must settle exactly
// once, and every error must be one in words.

import { createServer, type AddressInfo, type Socket } from 'node:net';
import { ServerHandshake } from '../../core/link/handshake.ts';
import { connectLink, Link, type ReplySink } from '../../core/link/mod.ts';
import { DEFAULT_LIMITS, KatamariError, systemClock } from '../../core/mod.ts';
import { createCall, type Call } from '../../core/rpc/mod.ts';
import { PROTOCOLS } from '../../core/thrift/encodings/mod.ts';
import { awaitReadiness } from '../../services/resource-manager/readiness.ts';
import type { ExpectedChassis } from '../../services/resource-manager/ready-chassis.ts';
import type { Random } from '../kit/tools/random.ts';
import { answerTo, HOSTILE_IDL, Questions } from './answer-inputs.ts';
import type { Lane } from './target.ts';

const WIDTH = 12;
/** Timeout for a server that does not answer, in ms. */
const PATIENCE_MS = 40;
/** Timeout for a handshake, in ms. A busy runtime needs long even to accept the connection. */
const HANDSHAKE_MS = 400;
const LIMITS = { ...DEFAULT_LIMITS, frameBytesMax: 4 << 20 };

/** A server whose answers come from the input that is being played. */
interface Hostile {
  readonly address: string;
  random: Random;
  /** Secret of the handshake that comes first; '' for none. */
  secret: string;
}

type Play = (server: Hostile, random: Random) => Promise<void>;

export function answerLanes(): Lane[] {
  return [answerLane('chassis answers', playChassis), answerLane('link answers', playPeer)];
}

function answerLane(name: string, play: Play): Lane {
  return {
    name,
    width: WIDTH,
    async work(turns) {
      let turn = turns.next();
      if (turn === undefined) return;
      const hostile: Hostile = { address: '', random: turn.random, secret: '' };
      const sockets = new Set<Socket>();
      const server = createServer((socket) => {
        sockets.add(socket);
        turns.opened();
        socket.on('close', () => sockets.delete(socket));
        socket.on('error', () => {});
        socket.setNoDelay(true);
        converse(socket, hostile, (bytes) => turns.heard(bytes));
      });
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const address = `tcp:127.0.0.1:${(server.address() as AddressInfo).port}`;
      try {
        for (; turn !== undefined; turn = turns.next()) {
          hostile.random = turn.random;
          turns.sends(turn, 'answers');
          await play(Object.assign(hostile, { address }), turn.random);
          for (const socket of sockets) socket.resetAndDestroy();
        }
      } finally {
        server.close();
      }
    },
  };
}

function converse(socket: Socket, hostile: Hostile, heard: (bytes: number) => void): void {
  const questions = new Questions();
  const { random } = hostile;
  const honesty = random.pick([0, 0.5, 0.9]);
  let handshake =
    hostile.secret === '' ? undefined : new ServerHandshake([hostile.secret], (bytes) => void socket.write(bytes));
  if (random.chance(0.1)) socket.write(random.bytes(random.between(1, 100)));
  socket.on('data', (chunk: Buffer) => {
    heard(chunk.length);
    let rest: Buffer | undefined = chunk;
    try {
      if (handshake !== undefined) rest = handshake.push(chunk);
    } catch {
      socket.destroy();
      return;
    }
    if (rest === undefined) return;
    handshake = undefined;
    for (const question of questions.push(rest)) {
      const bytes = answerTo(random, question, honesty);
      if (random.chance(0.1))
        for (let at = 0; at < bytes.length && at < 64; at++) socket.write(bytes.subarray(at, at + 1));
      else socket.write(bytes);
      if (random.chance(0.05)) socket.end();
      if (random.chance(0.05)) socket.resetAndDestroy();
    }
  });
}

async function playChassis(server: Hostile, random: Random): Promise<void> {
  server.secret = '';
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(new KatamariError('timeout', 'not ready')), PATIENCE_MS);
  const isPlain = random.chance(0.3);
  const expected: ExpectedChassis = {
    service: 'Hostile',
    version: '1.0.0',
    roles: [],
    tags: [],
    more: {},
    idl: isPlain ? { main: 'hostile.thrift', files: { 'hostile.thrift': HOSTILE_IDL } } : null,
    transport: random.pick(['framed', 'buffered', 'header', 'http']),
    protocol: random.pick(PROTOCOLS),
    healthCheck: isPlain && random.chance(0.5) ? 'say' : '',
    concurrency: null,
  } as unknown as ExpectedChassis;
  try {
    const ready = await awaitReadiness({
      name: 'Hostile@1.0.0/1',
      address: server.address,
      expected,
      limits: LIMITS,
      clock: systemClock,
      signal: patience.signal,
      onLinkClosed: () => undefined,
      onConnectionsChanged: () => undefined,
      onUnreachable: () => undefined,
    });
    await callAll(ready.link, random);
  } catch (error) {
    mustBeInWords(error);
  } finally {
    clearTimeout(timer);
    patience.abort(new KatamariError('cancelled', 'over'));
  }
}

async function playPeer(server: Hostile, random: Random): Promise<void> {
  server.secret = random.chance(0.8) ? SECRET : '';
  try {
    const socket = await connectLink(server.address, {
      security: { secrets: [SECRET], tls: undefined },
      timeoutMs: HANDSHAKE_MS,
    });
    const link = new Link(socket, { peer: server.address, limits: LIMITS });
    link.ping(PATIENCE_MS).catch(mustBeInWords);
    await callAll(link, random);
  } catch (error) {
    mustBeInWords(error);
  }
}

/** Makes calls, waits a little for their ends, and closes the link. */
async function callAll(
  link: { send(call: Call, sink: ReplySink, nowMs: number): number; cancel(id: number): boolean; close(): void },
  random: Random,
): Promise<void> {
  const ends: number[] = [];
  let open = 0;
  let settled: () => void = () => undefined;
  const over = new Promise<void>((resolve) => (settled = resolve));
  for (let n = 0; n < 4; n++) {
    const end = (): void => {
      ends[n] = (ends[n] ?? 0) + 1;
      if (--open === 0) settled();
    };
    try {
      const args = Buffer.from('0b000100000002686900', 'hex');
      const call = createCall({ service: 'Hostile', method: 'say', args, deadlineMs: performance.now() + 1_000 });
      open++;
      ends[n] = 0;
      const id = link.send(call, { reply: end, fail: (error) => (mustBeInWords(error), end()) }, performance.now());
      // The sink of a canceled call is not called any more.
      if (random.chance(0.1) && link.cancel(id)) end();
    } catch (error) {
      open--;
      ends[n] = 1;
      mustBeInWords(error);
    }
  }
  const timer = setTimeout(settled, PATIENCE_MS);
  if (open > 0) await over;
  clearTimeout(timer);
  link.close();
  if (ends.some((times) => times !== 1)) throw new Error(`Calls ended ${ends.join(', ')} times, expected once each`);
}

/** An error of the runtime says that the code did not expect the answer. */
function mustBeInWords(error: unknown): void {
  if (error instanceof TypeError || error instanceof RangeError || error instanceof SyntaxError)
    throw new Error(`An answer caused ${error.stack}`, { cause: error });
}

const SECRET = 'fuzz-0123456789abcdef0123456789abcdef';

// Clients that call a cluster without pause, each over one persistent connection: JSON-RPC over HTTP, Thrift framed
// and unframed. Every call has its own id, which the chassis `tally` writes to the ledger, and its outcome is
// recorded. When a faceplate closes a connection between calls, the client connects to the next one, which is no
// error. A connection that ends during a call makes that call `lost`.
import { encodeParams, parseIdl, readIdlFile } from '../../../core/idl/mod.ts';
import {
  type Interface,
  type Method,
  bareMessage,
  frameMessage,
  MESSAGE_TYPE,
  NOTHING,
} from '../../../core/thrift/mod.ts';
import { connect, type Socket } from 'node:net';
import { framedAnswer, lost, readAnswer, readJson, unframedAnswer, type CallEnd } from '../mesh/callers.ts';
import { Random } from '../tools/random.ts';

export interface Door {
  /** Name of the faceplate. */
  readonly name: string;
  readonly host: string;
  readonly thriftPort: number;
  readonly jsonRpcPort: number;
}

export interface ClusterCallersOptions {
  /**
   * Clients are spread evenly over these faceplates. A client whose own faceplate does not accept it uses the next
   * one, and returns to its own later.
   */
  readonly doors: readonly Door[];
  readonly clients: number;
  /** The deadline that the mesh sets for each call. */
  readonly timeoutMs: number;
  /** The longest duration that a call asks for. */
  readonly longestMs?: number;
  readonly seed: number;
}

export interface CallRecord {
  readonly id: string;
  readonly method: string;
  readonly protocol: string;
  readonly faceplate: string;
  readonly sentAtMs: number;
  readonly settledAtMs: number;
  /** Delay after the deadline; negative when the call settled in time. */
  readonly lateMs: number;
  readonly end: CallEnd;
  /**
   * The connection ended before a byte of the reply: the faceplate may have closed it before it read the call. Thrift
   * cannot announce the end of a connection, so this can happen to any client. The ledger tells whether the call ran.
   */
  readonly mayHaveCrossed: boolean;
}

export class ClusterCallers {
  /**
   * Outcomes of calls by code: `ok`, a code of the mesh, `lost` (the connection ended during the call), `silent` (no
   * reply long after the deadline) or `wrong_answer` (the reply to another call).
   */
  readonly ends: Record<string, number> = {};
  readonly byFaceplate: Record<string, number> = {};
  /** Calls without a reply or with a late one. The others are only counted. */
  readonly remarkable: CallRecord[] = [];
  /** Connections that a faceplate closed between calls. */
  closedBetween = 0;
  /** The same by faceplate. */
  readonly closedBy: Record<string, number> = {};
  /** Connections that a faceplate did not accept, so that another one was tried. */
  notTaken = 0;
  /** Number of times that no faceplate accepted a client. */
  nobodyTook = 0;
  sent = 0;
  readonly #options: ClusterCallersOptions;
  readonly #clients: Client[];
  readonly #running: Promise<void>[];
  /** Histogram of call durations in ms; the last bucket holds all longer ones. */
  readonly #tookMs = new Uint32Array(TOOK_MS_MAX + 1);
  #isOver = false;

  /** The clients start at once. */
  constructor(options: ClusterCallersOptions) {
    this.#options = options;
    const tally = tallyInterface();
    this.#clients = Array.from({ length: options.clients }, (_, index) => new Client(index, tally, options.doors));
    this.#running = this.#clients.map((client) => this.#run(client));
  }

  /** Calls without a reply that settled since `ms`. */
  failedSince(ms: number): CallRecord[] {
    return this.remarkable.filter(({ end, settledAtMs }) => !end.ok && settledAtMs >= ms);
  }

  /** Calls without a reply, except those that crossed the end of their connection and never ran. */
  failures(ledger: readonly string[], sinceMs: number = 0): CallRecord[] {
    const ran = new Set(ledger.map((line) => line.split(' ')[1] ?? ''));
    return this.failedSince(sinceMs).filter(({ id, mayHaveCrossed }) => !mayHaveCrossed || ran.has(id));
  }

  /** A percentile of the call durations, in ms. */
  tookMs(percent: number): number {
    let left = (this.#tookMs.reduce((sum, count) => sum + count, 0) * percent) / 100;
    return this.#tookMs.findIndex((count) => (left -= count) <= 0);
  }

  /** The outcome of a call; undefined while it is in flight or when it was never sent. */
  endOf(id: string): string | undefined {
    const [client = '', number = ''] = id.split('-');
    return this.#clients[Number(client)]?.ends[Number(number)];
  }

  /** Ids of all calls with this outcome. */
  idsOf(code: string): string[] {
    return this.#clients.flatMap(({ index, ends }) =>
      ends.flatMap((end, n) => (end === code ? [`${index}-${n}`] : [])),
    );
  }

  /** Waits until every client has finished its call, and closes the connections. */
  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#running);
    for (const client of this.#clients) client.line?.close();
  }

  async #run(client: Client): Promise<void> {
    // Each client has its own random generator, so that the clients do not influence one another.
    const random = new Random(this.#options.seed + 1 + client.index);
    while (!this.#isOver) {
      const line = await this.#lineOf(client);
      if (line === undefined) {
        this.nobodyTook++;
        await sleep(NOBODY_TAKES_MS);
        continue;
      }
      const method = random.chance(0.5) ? 'once' : 'often';
      await this.#call(client, line, method, random.below((this.#options.longestMs ?? 15) + 1));
      // If the connection ends right after a reply, notice that before the next call. The event loop reports the end
      // of a stream one turn after the bytes before it.
      for (let turns = 0; turns < 2; turns++) await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** The open connection, or a new one to the first faceplate that accepts it, starting with the client's own. */
  async #lineOf(client: Client): Promise<Line | undefined> {
    const { doors } = this.#options;
    const old = client.line;
    if (old !== undefined && !old.isOpen) {
      client.line = undefined;
      if (old.wasClosedIdle) {
        const { name } = doors[client.door] as Door;
        this.closedBetween++;
        this.closedBy[name] = (this.closedBy[name] ?? 0) + 1;
      }
    }
    const isDueHome = client.door !== client.home && performance.now() >= client.homeAtMs;
    if (client.line !== undefined && !isDueHome) return client.line;
    for (let n = 0; n < (client.line === undefined ? doors.length : 1); n++) {
      const door = doors[(client.home + n) % doors.length] as Door;
      const line = await Line.open(door.host, client.isHttp ? door.jsonRpcPort : door.thriftPort);
      if (line === undefined) {
        this.notTaken++;
        continue;
      }
      client.line?.close();
      client.line = line;
      client.door = (client.home + n) % doors.length;
      break;
    }
    client.homeAtMs = performance.now() + HOME_AFTER_MS;
    return client.line;
  }

  async #call(client: Client, line: Line, method: string, ms: number): Promise<void> {
    const { timeoutMs, doors } = this.#options;
    const door = doors[client.door] as Door;
    const id = client.nextId();
    this.sent++;
    this.byFaceplate[door.name] = (this.byFaceplate[door.name] ?? 0) + 1;
    const { bytes, read } = client.encode(method, { id, ms }, door);
    const sentAtMs = performance.now();
    const came = await line.exchange(bytes, read, timeoutMs + PATIENCE_MS);
    const settledAtMs = performance.now();
    const end = isOtherAnswer(came, id) ? wrongAnswer(came) : came;
    const code = end.ok ? 'ok' : end.code;
    client.ends.push(code);
    this.ends[code] = (this.ends[code] ?? 0) + 1;
    const tookMs = settledAtMs - sentAtMs;
    const place = Math.min(TOOK_MS_MAX, Math.ceil(tookMs));
    this.#tookMs[place] = (this.#tookMs[place] ?? 0) + 1;
    const lateMs = tookMs - timeoutMs;
    if (end.ok && lateMs <= 0) return;
    const { protocol } = client;
    const mayHaveCrossed = code === 'lost' && line.wasClosedEmpty;
    const facts = { id, method, protocol, faceplate: door.name, sentAtMs, settledAtMs, lateMs };
    this.remarkable.push({ ...facts, end, mayHaveCrossed });
  }
}

/** One client: its protocol, its own faceplate and at most one connection. */
class Client {
  readonly index: number;
  readonly protocol: 'JSON-RPC' | 'Thrift framed' | 'Thrift unframed';
  readonly home: number;
  /** Outcomes of its calls, in order. */
  readonly ends: string[] = [];
  line: Line | undefined;
  /** Index of the faceplate that the connection leads to. */
  door: number;
  /** When it tries its own faceplate again. */
  homeAtMs = 0;
  readonly #tally: Interface;
  #seqId = 0;

  constructor(index: number, tally: Interface, doors: readonly Door[]) {
    this.index = index;
    this.#tally = tally;
    // Every protocol is used at each faceplate.
    this.home = index % doors.length;
    this.door = this.home;
    const turn = Math.floor(index / doors.length) % 4;
    this.protocol = turn % 2 === 0 ? 'JSON-RPC' : turn === 1 ? 'Thrift framed' : 'Thrift unframed';
  }

  get isHttp(): boolean {
    return this.protocol === 'JSON-RPC';
  }

  nextId(): string {
    return `${this.index}-${this.ends.length}`;
  }

  encode(name: string, params: { id: string; ms: number }, { host, jsonRpcPort }: Door): Message {
    if (this.isHttp) {
      const body = JSON.stringify({ jsonrpc: '2.0', id: params.id, method: `Tally.${name}`, params });
      const head = `POST /rpc HTTP/1.1\r\nhost: ${host}:${jsonRpcPort}\r\ncontent-type: application/json\r\n`;
      return { bytes: Buffer.from(`${head}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`), read: readHttp };
    }
    const isFramed = this.protocol === 'Thrift framed';
    const method = this.#tally.methods.get(name) as Method;
    const seqId = (this.#seqId = (this.#seqId + 1) | 0);
    const [target, args] = [`Tally:${name}`, encodeParams(method, params)];
    const bytes = isFramed
      ? frameMessage(MESSAGE_TYPE.call, target, seqId, args, NOTHING)
      : bareMessage(MESSAGE_TYPE.call, target, seqId, args);
    const read = (inbox: Buffer): Read | undefined => {
      const answer = isFramed ? framedAnswer(inbox) : unframedAnswer(inbox);
      return answer === undefined ? undefined : { end: readAnswer(answer, method, seqId), isLast: false };
    };
    return { bytes, read };
  }
}

interface Message {
  readonly bytes: Uint8Array;
  /** Returns the reply once it is complete. */
  readonly read: (inbox: Buffer) => Read | undefined;
}

interface Read {
  readonly end: CallEnd;
  /** The server has announced that it closes the connection. */
  readonly isLast: boolean;
}

/** One connection, one call at a time. */
class Line {
  isOpen = true;
  /** The server closed the connection while no call was in flight. */
  wasClosedIdle = false;
  /** The server closed the connection, and no unread bytes had arrived. */
  wasClosedEmpty = false;
  readonly #socket: Socket;
  #inbox: Buffer = Buffer.alloc(0);
  #onChange: (() => void) | undefined;
  #why = 'closed';

  /** Resolves to undefined when the connection is not accepted in time. */
  static open(host: string, port: number): Promise<Line | undefined> {
    return new Promise((resolve) => {
      const socket = connect(port, host).setNoDelay(true);
      const giveUp = (): void => {
        clearTimeout(timer);
        socket.destroy();
        resolve(undefined);
      };
      const timer = setTimeout(giveUp, CONNECT_MS);
      socket.once('error', giveUp);
      socket.once('connect', () => {
        clearTimeout(timer);
        socket.off('error', giveUp);
        resolve(new Line(socket));
      });
    });
  }

  private constructor(socket: Socket) {
    this.#socket = socket;
    const ended = (why: string) => (): void => {
      if (!this.isOpen) return;
      this.wasClosedEmpty = this.#inbox.length === 0;
      this.isOpen = false;
      this.wasClosedIdle = this.#onChange === undefined;
      this.#why = why;
      this.#onChange?.();
    };
    socket.on('data', (part: Buffer) => {
      this.#inbox = this.#inbox.length === 0 ? part : Buffer.concat([this.#inbox, part]);
      this.#onChange?.();
    });
    socket.on('error', (error) => ended(`broken: ${error.message}`)());
    socket.on('end', ended('closed'));
    socket.on('close', ended('closed'));
  }

  /** Settles within `patienceMs` and never rejects. */
  exchange(bytes: Uint8Array, read: Message['read'], patienceMs: number): Promise<CallEnd> {
    const sentAt = performance.now();
    return new Promise((resolve) => {
      const settle = (end: CallEnd): void => {
        clearTimeout(timer);
        this.#onChange = undefined;
        resolve(end);
      };
      const timer = setTimeout(() => {
        this.close();
        settle({ ok: false, code: 'silent', message: `no answer within ${patienceMs} ms` });
      }, patienceMs);
      this.#onChange = () => {
        const found = this.#inbox.length === 0 ? undefined : read(this.#inbox);
        if (found !== undefined) {
          this.#inbox = Buffer.alloc(0);
          if (found.isLast) {
            this.wasClosedIdle = true;
            this.close();
          }
          settle(found.end);
        } else if (!this.isOpen) {
          const after = `${(performance.now() - sentAt).toFixed(1)} ms after the call was written`;
          settle(lost(`the connection was ${this.#why} ${after}, ${this.#inbox.length} bytes of an answer had come`));
        }
      };
      if (this.isOpen) this.#socket.write(bytes);
      else this.#onChange();
    });
  }

  close(): void {
    this.isOpen = false;
    this.#socket.destroy();
  }
}

/** The comparison of the ledger with the outcomes of the calls. */
export interface LedgerFindings {
  readonly executions: number;
  /** Ids of calls that ran more than once and must not, with the pids. */
  readonly ranTwice: readonly string[];
  /** Executions of idempotent calls beyond the first of each. */
  readonly ranAgain: number;
  /** Ids of calls that were answered but never ran. */
  readonly answeredUnrun: readonly string[];
  /** Ids of calls that the mesh refused as not run, but which ran. */
  readonly refusedRan: readonly string[];
  /** Ids of calls that ran and got no reply. */
  readonly ranUnanswered: readonly string[];
}

/** Compares the ledger (lines `method id pid`) with the outcomes that the callers saw. Stop the callers first. */
export function checkLedger(
  lines: readonly string[],
  callers: Pick<ClusterCallers, 'endOf' | 'idsOf' | 'ends'>,
): LedgerFindings {
  const ran = new Map<string, { readonly method: string; readonly pids: string[] }>();
  for (const line of lines) {
    const [method = '', id = '', pid = ''] = line.split(' ');
    const known = ran.get(id);
    if (known === undefined) ran.set(id, { method, pids: [pid] });
    else known.pids.push(pid);
  }
  const ranTwice: string[] = [];
  const refusedRan: string[] = [];
  const ranUnanswered: string[] = [];
  let [ranAgain, answered] = [0, 0];
  for (const [id, { method, pids }] of ran) {
    const end = callers.endOf(id);
    if (end === 'ok') answered++;
    else if (end !== undefined && NOT_RUN.has(end)) refusedRan.push(id);
    else ranUnanswered.push(id);
    if (pids.length === 1) continue;
    if (method === 'once') ranTwice.push(`${id} in ${pids.join(', ')}`);
    else ranAgain += pids.length - 1;
  }
  const answeredUnrun = answered === (callers.ends['ok'] ?? 0) ? [] : callers.idsOf('ok').filter((id) => !ran.has(id));
  return {
    executions: lines.length,
    ranTwice,
    ranAgain,
    answeredUnrun,
    refusedRan,
    ranUnanswered,
  };
}

function readHttp(inbox: Buffer): Read | undefined {
  const headEnd = inbox.indexOf('\r\n\r\n');
  if (headEnd === -1) return undefined;
  const head = inbox.toString('latin1', 0, headEnd);
  const length = /^content-length: *(\d+)/im.exec(head)?.[1];
  if (length === undefined) return { end: lost(`an answer without a length: ${head.slice(0, 200)}`), isLast: true };
  const end = headEnd + 4 + Number(length);
  if (inbox.length < end) return undefined;
  return { end: readJson(inbox.toString('utf8', headEnd + 4, end)), isLast: /^connection: *close/im.test(head) };
}

function isOtherAnswer(end: CallEnd, id: string): boolean {
  return end.ok && String(end.value).split(' ')[0] !== id;
}

function wrongAnswer(end: CallEnd): CallEnd {
  return { ok: false, code: 'wrong_answer', message: JSON.stringify(end) };
}

function tallyInterface(): Interface {
  const idl = parseIdl(readIdlFile(new URL('../../fixtures/chassis/tally.thrift', import.meta.url)));
  return idl.services.get('Tally') as Interface;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Outcomes that certify that the call did not run. */
const NOT_RUN: ReadonlySet<string> = new Set(['overloaded', 'no_pool', 'draining', 'denied', 'rate_limited']);
/** A call that has not settled this long after its deadline never will. */
const PATIENCE_MS = 5_000;
const CONNECT_MS = 2_000;
const NOBODY_TAKES_MS = 50;
const HOME_AFTER_MS = 2_000;
const TOOK_MS_MAX = 60_000;

// The fuzzer's target in this process: both faceplates and a link server in front of the Exchange service. It checks
// every call that reaches the mesh or a handler: it must be one whole struct without a client's own context, and its
// values must fit the IDL.

import { connect } from 'node:net';
import { exchange, type Handled, type Item } from '../kit/wire/exchange.ts';
import { isOneStruct } from '../kit/interfaces/random-struct.ts';
import { callBytes, rawThrift } from '../kit/wire/raw-thrift.ts';
import { encodeStruct } from '../../core/idl/mod.ts';
import { hasContext, Link, startLinkServer } from '../../core/link/mod.ts';
import { DEFAULT_LIMITS, systemClock } from '../../core/mod.ts';
import { createCall, sendOf, StatsTable, type Call, type MeshAccess } from '../../core/rpc/mod.ts';
import type { Method } from '../../core/thrift/mod.ts';
import { startJsonRpcFaceplate } from '../../faceplates/json-rpc/mod.ts';
import { startThriftFaceplate } from '../../faceplates/thrift/mod.ts';
import { collectedMemory } from '../kit/tools/collected-memory.ts';
import { until } from '../kit/tools/wait.ts';
import { encodingInput } from './encoding-inputs.ts';
import { jsonInput } from './json-inputs.ts';
import { connected, portLane } from './port-lane.ts';
import type { FuzzTarget, GoodCall, Memory } from './target.ts';
import { thriftInput } from './thrift-inputs.ts';

export interface OwnTarget extends FuzzTarget {
  /** Number of calls that reached the mesh, and of those that reached a handler. */
  readonly seen: { dispatched: number; handled: number };
  readonly callStats: StatsTable;
  /** Bytes in use after a garbage collection, when all calls have settled. */
  memory(): Promise<Memory>;
  close(): Promise<void>;
}

export async function startOwnTarget(): Promise<OwnTarget> {
  const seen = { dispatched: 0, handled: 0 };
  const wrongs: string[] = [];
  const wrong = (what: string): void => {
    if (wrongs.length < 20) wrongs.push(what);
  };
  const behind = exchange({
    remembers: false,
    onHandled: (handled) => {
      seen.handled++;
      if (!isPossible(handled)) wrong(`a handler got ${handled.method} ${show(handled.args)}`);
    },
  });
  behind.setTimeoutMs(300);
  const judged: MeshAccess = {
    ...behind.mesh,
    dispatch: (call) => {
      seen.dispatched++;
      judge(call, wrong);
      return behind.mesh.dispatch(call);
    },
    send: (call, sink) => {
      seen.dispatched++;
      judge(call, wrong);
      behind.mesh.send(call, sink);
    },
  };
  const callStats = new StatsTable();
  const limits = { ...DEFAULT_LIMITS, frameBytesMax: 4 << 20 };
  const common = { mesh: judged, callStats, limits, host: '127.0.0.1', port: 0 };
  const thrift = await startThriftFaceplate(common);
  const jsonRpc = await startJsonRpcFaceplate(common);
  const link = await startLinkServer('tcp:127.0.0.1:0', {
    send: sendOf(judged.dispatch),
    limits,
    timeoutMs: () => judged.timeoutMs(),
    caller: 'fuzz',
  });
  const open = {
    thrift: () => thrift.connections(),
    jsonRpc: () => jsonRpc.connections(),
    link: () => link.connections(),
  };

  const calls = goodCalls(behind.interface.methods);
  const at = (port: number) => () => connected({ host: '127.0.0.1', port });
  const linkPort = Number(link.address.split(':').at(-1));
  return {
    lanes: [
      portLane({ name: 'thrift', open: at(thrift.port), make: (random) => thriftInput(random, calls, false) }),
      portLane({ name: 'encodings', open: at(thrift.port), make: (random) => encodingInput(random, calls) }),
      portLane({ name: 'json-rpc', open: at(jsonRpc.port), make: (random) => jsonInput(random, calls) }),
      portLane({ name: 'link', open: at(linkPort), make: (random) => thriftInput(random, calls, true) }),
    ],
    seen,
    callStats,
    memory: async () => {
      await settled();
      return collectedMemory();
    },
    async check() {
      await settled();
      if (wrongs.length > 0) throw new Error(`Reached what it should not: ${wrongs.join('; ')}`);
      await goodCallsWork();
      await settled();
      const { accepted, replied, failed, refused, timed_out, cancelled, inFlight } = callStats.sums();
      if (inFlight !== 0 || accepted !== replied + failed + refused + timed_out + cancelled) {
        throw new Error(`The call statistics do not add up: ${JSON.stringify(callStats.sums())}`);
      }
      for (const { service, method, stats } of callStats.entries()) {
        if (stats.inFlight !== 0)
          throw new Error(`The statistics of ${service}.${method} have ${stats.inFlight} calls in flight`);
        if ((stats.errors.internal ?? 0) > 0)
          throw new Error(`${service}.${method} met ${stats.errors.internal} defects`);
      }
    },
    async close() {
      await Promise.all([thrift.close(), jsonRpc.close(), link.close()]);
    },
  };

  /** Checks that no connection is open and no call in flight. */
  async function settled(): Promise<void> {
    for (const [lane, connections] of Object.entries(open))
      await until(`all ${lane} connections to close`, () => connections() === 0);
    await until('all calls to settle', () => callStats.sums().inFlight === 0);
  }

  async function goodCallsWork(): Promise<void> {
    for (const framed of [true, false]) {
      const client = await rawThrift(thrift.port, framed);
      client.send(callBytes(behind.interface, 'add', { a: 20, b: 22 }, { framed, seqId: -9 }));
      const [answer] = await client.count(1);
      client.destroy();
      if (answer?.type !== 2 || answer.seqId !== -9)
        throw new Error(`A good Thrift call was answered with ${show(answer)}`);
    }
    const response = await fetch(`http://127.0.0.1:${jsonRpc.port}/rpc`, {
      method: 'POST',
      headers: { connection: 'close', 'content-type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'Exchange.add', params: { a: 20, b: 22 } }),
    });
    const { result } = (await response.json()) as { result?: unknown };
    if (result !== 42) throw new Error(`A good JSON-RPC call was answered with ${response.status} ${show(result)}`);
    const peer = new Link(connect(linkPort, '127.0.0.1'), {
      peer: 'The link server',
      limits: DEFAULT_LIMITS,
    });
    const add = behind.interface.methods.get('add') as Method;
    const args = encodeStruct(add.args, { a: 20, b: 22 });
    const reply = await peer.dispatch(systemClock)(
      createCall({ service: 'Exchange', method: 'add', args, deadlineMs: performance.now() + 5_000 }),
    );
    peer.close();
    if (reply.isException || Buffer.from(reply.body).readInt32BE(3) !== 42)
      throw new Error(`A good call over a link was answered with ${show(reply)}`);
  }
}

/** Calls that the fuzzer starts from. */
function goodCalls(methods: ReadonlyMap<string, Method>): GoodCall[] {
  const values: readonly (readonly [method: string, params: Record<string, unknown>])[] = [
    ['add', { a: 1, b: -2 }],
    ['echo', { text: 'Größe und 乳酪' }],
    ['turn', { item: { id: 1, text: 'a', numbers: [1, -2, 3], children: { b: { id: 2, text: 'c' } } } }],
    ['refuse', { why: 'closed' }],
    ['fail', { why: 'broken' }],
    ['hold', { key: 'never released' }],
    ['note', { text: 'x' }],
  ];
  return values.map(([method, params]) => ({
    service: 'Exchange',
    method,
    params,
    args: encodeStruct((methods.get(method) as Method).args, params),
  }));
}

function judge(call: Call, wrong: (what: string) => void): void {
  const args = Buffer.from(call.args.buffer, call.args.byteOffset, call.args.byteLength);
  if (!isOneStruct(args))
    wrong(`the mesh got ${call.method} from ${call.caller} with ${args.toString('hex').slice(0, 400)}`);
  if (call.caller.startsWith('thrift') && hasContext(args, 0))
    wrong(`a client's own context came through in ${call.method}`);
}

/** Whether a handler of Exchange can be called with this. Absent fields are omitted or null. */
function isPossible({ method, args }: Handled): boolean {
  const text = (value: unknown): boolean => value === undefined || value === null || typeof value === 'string';
  const int = (value: unknown): boolean =>
    value === undefined || value === null || (Number.isInteger(value) && Number(value) === (Number(value) | 0));
  switch (method) {
    case 'add':
      return int(args['a']) && int(args['b']);
    case 'turn':
      return args['item'] === undefined || args['item'] === null || isItem(args['item']);
    case 'echo':
    case 'note':
      return text(args['text']);
    case 'refuse':
    case 'fail':
      return text(args['why']);
    case 'hold':
      return text(args['key']);
    default:
      return false;
  }

  function isItem(value: unknown): boolean {
    const { id, text: words, numbers = [], children = new Map<string, Item>() } = value as Item;
    return (
      int(id) &&
      text(words) &&
      numbers.every((n) => typeof n === 'bigint') &&
      [...children].every(([key, child]) => text(key) && isItem(child))
    );
  }
}

function show(value: unknown): string {
  return (
    JSON.stringify(value, (_key, inner: unknown) => (typeof inner === 'bigint' ? `${inner}n` : inner))?.slice(0, 400) ??
    'undefined'
  );
}

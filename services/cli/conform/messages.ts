// Checks of valid traffic: sequence ids, pipelining, partial reads, contexts, and fields that a newer peer may add.
// They use calls of the control service and of harmless methods, so they work with any chassis.

import type { Call } from '../../../core/rpc/mod.ts';
import { WIRE_TYPE, MESSAGE_TYPE } from '../../../core/thrift/mod.ts';
import { CheckFailed } from './check-result.ts';
import { decodeResult, PING, type CheckGroup, type TestContext } from './test-context.ts';
import { describeTestReply, frameOf, PeerClosed, type TestReply, type SentCall } from './test-link.ts';

export const MESSAGES: CheckGroup = {
  title: 'Messages',
  checks: [
    {
      id: 'reconnect',
      what: 'accepts a new connection after the old one closes',
      advice: 'when a connection closes, release its state and accept the next one',
      async run(test) {
        for (let i = 0; i < RECONNECTS; i++) {
          await test.chassis.reconnect();
          await test.call(PING);
        }
      },
    },
    {
      id: 'sequence-ids',
      what: 'replies have the sequence id of the call',
      advice:
        'copy the sequence id from the head of the call to the head of its reply: all 32 bits, signed; do not count replies',
      async run(test) {
        for (const probe of test.probes()) {
          for (const seqId of SEQUENCE_IDS) {
            try {
              await test.chassis.call({ context: test.callContext(), ...probe, seqId });
            } catch (error) {
              if (!(error instanceof PeerClosed)) throw error;
              throw new CheckFailed(`a reply to ${probe.name} with sequence id ${seqId}`, error.message);
            }
            // A sequence id is reused only on a new connection; a late reply could otherwise match the wrong call.
          }
          await test.chassis.reconnect();
        }
      },
    },
    {
      id: 'pipelining',
      what: 'each of several pipelined calls gets one reply',
      advice:
        'keep reading while the buffer has bytes; reply to each call exactly once, in any order, with its own sequence id',
      async run(test) {
        const link = await test.chassis.reconnect();
        const context = test.callContext();
        const probes = test.probes();
        const calls = Array.from({ length: PIPELINED }, (_, i) => ({
          context,
          ...(probes[i % probes.length] ?? PING),
        }));
        for (const [i, replied] of link.callAll(calls).entries()) {
          await awaitReply(test, `a reply to call ${i + 1} of ${PIPELINED} in one packet`, replied);
        }
        // A surplus reply arrives before the reply to one more call.
        await test.call(PING);
        const [surplus] = link.unexpected;
        if (surplus !== undefined)
          throw new CheckFailed(
            'one reply to each call',
            `a second one: ${describeTestReply(surplus)} with sequence id ${surplus.seqId}`,
          );
      },
    },
    {
      id: 'pipelined-values',
      what: 'pipelined replies belong to their own call',
      advice: 'keep each sequence id with its call: concurrent calls finish in any order',
      async run(test) {
        test.requireConformance();
        const link = await test.chassis.reconnect();
        const context = test.callContext();
        const words = Array.from({ length: PIPELINED }, (_, i) => `word ${i}`);
        const replies = link.callAll(
          words.map((value) => ({ context, ...test.conformanceCall('echoText', { value }) })),
        );
        for (const [i, replied] of replies.entries()) {
          const got = test.returnValue('echoText', await awaitReply(test, 'a reply to echoText', replied));
          if (got !== words[i]) throw new CheckFailed(`"${words[i]}" for the call that sent it`, JSON.stringify(got));
        }
      },
    },
    {
      id: 'pieces',
      what: 'a call may arrive in several packets',
      advice: 'read until the frame is complete: one read of a socket may return fewer bytes',
      async run(test) {
        const link = await test.chassis.reconnect();
        const frame = frameOf(MESSAGE_TYPE.call, { ...PING, context: test.callContext(), seqId: 7 });
        const pieces = [frame.subarray(0, 2), frame.subarray(2, 9), frame.subarray(9, 30), frame.subarray(30)];
        await awaitReply(test, 'a reply to a ping that arrives in four pieces', link.callInPieces(7, pieces));
      },
    },
    {
      id: 'unknown-arguments',
      what: 'skips unknown arguments',
      advice:
        'skip fields with unknown ids, whatever their type, like generated Thrift code: callers may be newer than the chassis',
      async run(test) {
        for (const probe of test.probes()) {
          const args = probe.args ?? EMPTY;
          await checkSameReply(
            test,
            probe,
            { ...probe, args: Buffer.concat([UNKNOWN_FIELDS, args]) },
            'unknown arguments',
          );
        }
      },
    },
  ],
};

export const CONTEXT: CheckGroup = {
  title: 'Contexts',
  checks: [
    {
      id: 'context',
      what: 'accepts a call with a CallContext',
      advice:
        'read field 32767 when it is the first argument (CallContext in idl/katamari.thrift), and let the generated code skip it',
      async run(test) {
        for (const probe of test.probes()) {
          await checkSameReply(
            test,
            probe,
            { ...probe, context: test.callContext(FULL_CONTEXT) },
            'every field of a CallContext',
          );
        }
      },
    },
    {
      id: 'context-absent',
      what: 'accepts a call without a CallContext',
      advice:
        'treat a call without field 32767 as one without a deadline: started by hand, a chassis is an ordinary Thrift server',
      async run(test) {
        for (const probe of test.probes()) await checkSameReply(test, probe, { ...probe, context: NONE }, 'no context');
      },
    },
    {
      id: 'context-unknown',
      what: 'skips unknown fields of a CallContext',
      advice: 'skip unknown fields of the CallContext, whatever their type: the mesh may be newer than the kit',
      async run(test) {
        for (const probe of test.probes()) {
          const usual = test.callContext(FULL_CONTEXT);
          const context = Buffer.concat([
            usual.subarray(0, 3),
            UNKNOWN_FIELDS,
            usual.subarray(3, -1),
            UNKNOWN_FIELDS,
            EMPTY,
          ]);
          await checkSameReply(test, probe, { ...probe, context }, 'a CallContext with unknown fields');
        }
      },
    },
    {
      id: 'reply-context',
      what: 'a ReplyContext, if present, is valid and is the first field',
      advice:
        'write field 32767 (ReplyContext in idl/katamari.thrift) before any other field of the result struct; or omit it',
      async run(test) {
        let found = 0;
        for (const probe of test.probes()) {
          const reply = await test.call(probe);
          if (reply.contextError !== '')
            throw new CheckFailed(
              `no ReplyContext in the reply to ${probe.name}, or a valid one as first field`,
              reply.contextError,
            );
          if (reply.context !== undefined) found++;
        }
        return found === 0 ? 'these replies have none' : undefined;
      },
    },
    {
      id: 'context-values',
      what: 'handlers see the values of the CallContext',
      advice:
        'pass the values of the CallContext of this call to the handler; the remaining time counts down from the arrival of the call',
      async run(test) {
        test.requireConformance();
        const seen = (await test.callForValue(
          'report',
          {},
          { context: test.callContext(FULL_CONTEXT, TIME_LEFT_MS) },
        )) as ReportCheck;
        const wrong: [string, string][] = EXPECTED_REPORT.filter(([name, value]) => seen[name] !== value).map(
          ([name, value]) => [`${name} ${JSON.stringify(value)}`, `${name} ${JSON.stringify(seen[name])}`],
        );
        const header = seen.headers?.get('x-colour');
        if (header !== 'blue') wrong.push(['header x-colour "blue"', `header x-colour ${JSON.stringify(header)}`]);
        if (wrong.length > 0)
          throw new CheckFailed(
            wrong.map(([expected]) => expected).join(', '),
            wrong.map(([, came]) => came).join(', '),
          );
        const left = Number(seen.timeLeftMs);
        if (!(left > 0 && left <= TIME_LEFT_MS))
          throw new CheckFailed(`a remaining time of at most ${TIME_LEFT_MS} ms`, `timeLeftMs ${seen.timeLeftMs}`);
      },
    },
    {
      id: 'context-own',
      what: 'a call sees nothing of the previous CallContext',
      advice: 'create a new context for each call; clear it if the kit keeps it in a thread-local variable',
      async run(test) {
        test.requireConformance();
        await test.callForValue('report', {}, { context: test.callContext(FULL_CONTEXT, TIME_LEFT_MS) });
        const seen = (await test.callForValue('report', {}, { context: NONE })) as ReportCheck;
        const left = (['traceparent', 'tracestate', 'key', 'attempt'] as const).filter((name) => seen[name]);
        if (left.length > 0)
          throw new CheckFailed(
            'no traceparent, tracestate, key or attempt',
            left.map((name) => `${name} ${JSON.stringify(seen[name])}`).join(', '),
          );
      },
    },
  ],
};

interface ReportCheck {
  readonly timeLeftMs?: bigint;
  readonly caller?: string;
  readonly traceparent?: string;
  readonly tracestate?: string;
  readonly key?: string;
  readonly attempt?: number;
  readonly headers?: Map<string, string>;
}

/** Checks that a changed call gets the same kind of reply as the unchanged one. */
async function checkSameReply(test: TestContext, probe: SentCall, changed: SentCall, what: string): Promise<void> {
  const usual = kindOf(test, probe, await test.call(probe));
  const expected = `${usual} of ${probe.name} with ${what}, as in a usual call`;
  try {
    const reply = await test.chassis.call({ context: test.callContext(), ...changed });
    const kind = kindOf(test, probe, reply);
    if (kind !== usual) throw new CheckFailed(expected, describeTestReply(reply));
  } catch (error) {
    throw error instanceof PeerClosed ? new CheckFailed(expected, error.message) : error;
  }
}

/** Returns the kind of reply. Values are not compared: those of an unknown method may differ each time. */
function kindOf(test: TestContext, { name }: SentCall, reply: TestReply): string {
  if (reply.isException) return describeTestReply(reply).replace(/,.*$/s, '');
  const method = test.interface?.methods.get(name);
  if (method === undefined) return 'a result';
  const result = decodeResult(method, reply);
  const thrown = method.throws.find((field) => result[field.name] !== undefined);
  return thrown === undefined ? 'a result' : `exception ${thrown.name}`;
}

async function awaitReply(test: TestContext, expected: string, replied: Promise<TestReply>): Promise<TestReply> {
  try {
    return await test.chassis.withExitReason(replied);
  } catch (error) {
    throw error instanceof PeerClosed ? new CheckFailed(expected, error.message) : error;
  }
}

/** Fields with ids that no IDL uses: an i32, a map<string, list<i64>>, and a struct. No stop byte. */
const UNKNOWN_FIELDS: Buffer = Buffer.concat([
  field(WIRE_TYPE.i32, 31_001, Buffer.of(0, 0, 0, 42)),
  field(
    WIRE_TYPE.map,
    31_002,
    Buffer.from([WIRE_TYPE.string, WIRE_TYPE.list, ...int32(1), ...int32(2), 0x61, 0x62, WIRE_TYPE.i64, ...int32(1)]),
    Buffer.alloc(8, 1),
  ),
  field(
    WIRE_TYPE.struct,
    31_003,
    field(WIRE_TYPE.string, 1, Buffer.from(int32(3)), Buffer.from('new')),
    field(WIRE_TYPE.bool, 2, Buffer.of(1)),
    Buffer.of(WIRE_TYPE.stop),
  ),
]);

/** Encodes a field of a struct in strict binary. */
export function field(type: number, id: number, ...value: readonly Uint8Array[]): Buffer {
  return Buffer.concat([Buffer.of(type, (id >> 8) & 0xff, id & 0xff), ...value]);
}

/** Returns the four bytes of an i32. */
export function int32(value: number): number[] {
  return [(value >>> 24) & 0xff, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff];
}

const FULL_CONTEXT = {
  version: '1.0.0',
  roles: ['production'],
  tags: ['gpu'],
  details: { region: 'north' },
  key: 'user 17',
  tracestate: 'vendor=1',
  attempt: 2,
  doNotQueue: true,
  minCoverage: 0.9,
  group: 'copies 17',
  headers: { 'x-colour': 'blue' },
} satisfies Partial<Call>;
const EXPECTED_REPORT: readonly (readonly [keyof ReportCheck, string | number])[] = [
  ['caller', 'katamari conform'],
  ['traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'],
  ['tracestate', FULL_CONTEXT.tracestate],
  ['key', FULL_CONTEXT.key],
  ['attempt', FULL_CONTEXT.attempt],
];
const TIME_LEFT_MS = 60_000;
/** Ids at the limits of each byte and sign. */
const SEQUENCE_IDS = [1, 0, 255, 256, 65_536, 0x7f_ff_ff_ff, -1, -(2 ** 31)];
const PIPELINED = 64;
const RECONNECTS = 5;
/** A method that no service has. */
export const UNKNOWN_METHOD = 'katamari_conform_no_such_method';
const NONE: Uint8Array = new Uint8Array(0);
const EMPTY: Uint8Array = Uint8Array.of(0);

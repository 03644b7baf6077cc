// Checks of ordinary traffic: sequence ids, pipelining, pieces, contexts and what a newer peer may add to a message. Asked with calls of the control
// service and of methods that do no harm, so that any chassis can be asked.

import type { Call } from '../../../core/rpc/mod.ts';
import { WIRE_TYPE, MESSAGE_TYPE } from '../../../core/thrift/mod.ts';
import { CheckFailed } from './check-result.ts';
import { decoded, PING, type CheckGroup, type TestContext } from './test-context.ts';
import { describeAnswer, frameOf, PeerClosed, type TestAnswer, type SentCall } from './test-link.ts';

export const MESSAGES: CheckGroup = {
  title: 'Messages',
  checks: [
    {
      id: 'reconnect',
      what: 'a connection closed by the manager does not hang it',
      advice: 'when a connection ends, drop what belongs to it and accept the next one',
      async run(exam) {
        for (let i = 0; i < RECONNECTS; i++) {
          await exam.subject.reconnect();
          await exam.ask(PING);
        }
      },
    },
    {
      id: 'sequence-ids',
      what: 'sequence ids come back as they came',
      advice:
        "copy the sequence id from the head of the call to the head of its answer: all 32 bits, signed, and no count of one's own",
      async run(exam) {
        for (const probe of exam.probes()) {
          for (const seqId of SEQUENCE_IDS) {
            try {
              await exam.subject.ask({ context: exam.context(), ...probe, seqId });
            } catch (error) {
              if (!(error instanceof PeerClosed)) throw error;
              throw new CheckFailed(`an answer to ${probe.name} with sequence id ${seqId}`, error.message);
            }
            // A number may be used again only on another connection: there an answer to the first would pass for one to the second.
          }
          await exam.subject.reconnect();
        }
      },
    },
    {
      id: 'pipelining',
      what: 'calls that come together are each answered, once',
      advice:
        'read on while bytes are left in the buffer; answer each call exactly once, in order or in any order, with its own sequence id',
      async run(exam) {
        const peer = await exam.subject.reconnect();
        const context = exam.context();
        const probes = exam.probes();
        const calls = Array.from({ length: PIPELINED }, (_, i) => ({
          context,
          ...(probes[i % probes.length] ?? PING),
        }));
        for (const [i, answered] of peer.callAll(calls).entries()) {
          await answeredIn(exam, `an answer to call ${i + 1} of ${PIPELINED} that came in one piece`, answered);
        }
        // Whatever was still to come, has come before the answer to another call.
        await exam.ask(PING);
        const [stray] = peer.strays;
        if (stray !== undefined)
          throw new CheckFailed(
            'one answer to each call',
            `${describeAnswer(stray)} more, with sequence id ${stray.seqId}`,
          );
      },
    },
    {
      id: 'pipelined-values',
      what: 'answers carry the sequence id of their own call',
      advice:
        'keep the sequence id with the call that it came with: when calls are worked on at once, answers come in another order',
      async run(exam) {
        exam.needsConformance();
        const peer = await exam.subject.reconnect();
        const context = exam.context();
        const words = Array.from({ length: PIPELINED }, (_, i) => `word ${i}`);
        const answers = peer.callAll(words.map((value) => ({ context, ...exam.told('echoText', { value }) })));
        for (const [i, answered] of answers.entries()) {
          const got = exam.returned('echoText', await answeredIn(exam, 'an answer to echoText', answered));
          if (got !== words[i])
            throw new CheckFailed(`"${words[i]}" for the call that brought it`, JSON.stringify(got));
        }
      },
    },
    {
      id: 'pieces',
      what: 'a call may come in pieces',
      advice: 'read until the frame is whole: one read of a socket gives what is there, not what was asked for',
      async run(exam) {
        const peer = await exam.subject.reconnect();
        const frame = frameOf(MESSAGE_TYPE.call, { ...PING, context: exam.context(), seqId: 7 });
        const pieces = [frame.subarray(0, 2), frame.subarray(2, 9), frame.subarray(9, 30), frame.subarray(30)];
        await answeredIn(exam, 'an answer to a ping that came in four pieces', peer.callInPieces(7, pieces));
      },
    },
    {
      id: 'unknown-arguments',
      what: 'arguments that its IDL does not know are skipped',
      advice:
        'skip fields of unknown numbers whatever their type, as code made by the Thrift compiler does: callers may be newer than the chassis',
      async run(exam) {
        for (const probe of exam.probes()) {
          const args = probe.args ?? EMPTY;
          await sameAsUsual(
            exam,
            probe,
            { ...probe, args: Buffer.concat([STRANGE_FIELDS, args]) },
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
      what: 'a call with a CallContext is understood',
      advice:
        'read field 32767 when it stands first in the arguments (CallContext in idl/katamari.thrift), and let the generated code skip it',
      async run(exam) {
        for (const probe of exam.probes()) {
          await sameAsUsual(
            exam,
            probe,
            { ...probe, context: exam.context(FULL_CONTEXT) },
            'every field of a CallContext',
          );
        }
      },
    },
    {
      id: 'context-absent',
      what: 'a call without one is understood, too',
      advice:
        'take a call without field 32767 for one without deadline: run by hand, a chassis is an ordinary Thrift server',
      async run(exam) {
        for (const probe of exam.probes()) await sameAsUsual(exam, probe, { ...probe, context: NONE }, 'no context');
      },
    },
    {
      id: 'context-unknown',
      what: 'what is new in a CallContext is skipped',
      advice:
        'skip fields of the CallContext that the kit does not know, whatever their type: the mesh may be newer than the kit',
      async run(exam) {
        for (const probe of exam.probes()) {
          const usual = exam.context(FULL_CONTEXT);
          const context = Buffer.concat([
            usual.subarray(0, 3),
            STRANGE_FIELDS,
            usual.subarray(3, -1),
            STRANGE_FIELDS,
            EMPTY,
          ]);
          await sameAsUsual(exam, probe, { ...probe, context }, 'a CallContext with unknown fields');
        }
      },
    },
    {
      id: 'reply-context',
      what: 'a ReplyContext, if there is one, is well formed and first',
      advice:
        'write field 32767 before any other field of the result struct, as ReplyContext in idl/katamari.thrift; or write none',
      async run(exam) {
        let found = 0;
        for (const probe of exam.probes()) {
          const answer = await exam.ask(probe);
          if (answer.contextFault !== '')
            throw new CheckFailed(
              `no ReplyContext in the answer to ${probe.name}, or a whole one that stands first`,
              answer.contextFault,
            );
          if (answer.context !== undefined) found++;
        }
        return found === 0 ? 'none comes with these answers' : undefined;
      },
    },
    {
      id: 'context-values',
      what: 'handlers see what the context says',
      advice: 'hand on what the CallContext of this call says; the time left counts down from when the call came',
      async run(exam) {
        exam.needsConformance();
        const seen = (await exam.value(
          'report',
          {},
          { context: exam.context(FULL_CONTEXT, TIME_LEFT_MS) },
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
          throw new CheckFailed(`some of the ${TIME_LEFT_MS} ms that are left`, `timeLeftMs ${seen.timeLeftMs}`);
      },
    },
    {
      id: 'context-own',
      what: 'a call sees nothing of the context of the one before',
      advice: 'make the context anew for each call; in kits that keep it in a variable of the thread, clear it',
      async run(exam) {
        exam.needsConformance();
        await exam.value('report', {}, { context: exam.context(FULL_CONTEXT, TIME_LEFT_MS) });
        const seen = (await exam.value('report', {}, { context: NONE })) as ReportCheck;
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

/** Holds when a probe that was changed a little is answered as the unchanged one is. */
async function sameAsUsual(exam: TestContext, probe: SentCall, changed: SentCall, what: string): Promise<void> {
  const usual = kindOf(exam, probe, await exam.ask(probe));
  const expected = `${usual} of ${probe.name} with ${what}, as without`;
  try {
    const answer = await exam.subject.ask({ context: exam.context(), ...changed });
    const kind = kindOf(exam, probe, answer);
    if (kind !== usual) throw new CheckFailed(expected, describeAnswer(answer));
  } catch (error) {
    throw error instanceof PeerClosed ? new CheckFailed(expected, error.message) : error;
  }
}

/** What sort of answer it is; the values of methods that we know nothing of may differ each time. */
function kindOf(exam: TestContext, { name }: SentCall, answer: TestAnswer): string {
  if (answer.isException) return describeAnswer(answer).replace(/,.*$/s, '');
  const method = exam.interface?.methods.get(name);
  if (method === undefined) return 'a result';
  const result = decoded(method, answer);
  const thrown = method.throws.find((field) => result[field.name] !== undefined);
  return thrown === undefined ? 'a result' : `exception ${thrown.name}`;
}

async function answeredIn(exam: TestContext, expected: string, answered: Promise<TestAnswer>): Promise<TestAnswer> {
  try {
    return await exam.subject.told(answered);
  } catch (error) {
    throw error instanceof PeerClosed ? new CheckFailed(expected, error.message) : error;
  }
}

/** Fields of numbers that nobody has: i32, map<string, list<i64>>, struct, bool. No stop byte. */
const STRANGE_FIELDS: Buffer = Buffer.concat([
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

/** A field of a struct, in strict binary. */
export function field(type: number, id: number, ...value: readonly Uint8Array[]): Buffer {
  return Buffer.concat([Buffer.of(type, (id >> 8) & 0xff, id & 0xff), ...value]);
}

/** The four bytes of a number. */
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
/** Around every sign and byte. */
const SEQUENCE_IDS = [1, 0, 255, 256, 65_536, 0x7f_ff_ff_ff, -1, -(2 ** 31)];
const PIPELINED = 64;
const RECONNECTS = 5;
/** A method that no service has. */
export const UNKNOWN_METHOD = 'katamari_conform_no_such_method';
const NONE: Uint8Array = new Uint8Array(0);
const EMPTY: Uint8Array = Uint8Array.of(0);

// Checks of bad traffic: what is unknown is refused by its proper name, what is malformed is answered with an exception or a closed connection, no
// declared size is believed, and the process lives through all of it. No handler runs: the arguments cannot be read.

import { readApplicationException, MESSAGE_TYPE, WIRE_TYPE } from '../../../core/thrift/mod.ts';
import { describeSize } from '../../config/mod.ts';
import { CheckFailed } from './check-result.ts';
import { field, int32, UNKNOWN_METHOD } from './messages.ts';
import { PING, type Check, type CheckGroup, type TestContext } from './test-context.ts';
import { describeAnswer, frameOf, PeerClosed } from './test-link.ts';

/** Something malformed, with a name for people. */
interface Bad {
  readonly what: string;
  readonly bytes: Uint8Array;
  /** An empty result is an answer, too: that of a library which passes over it, and whose clients refuse a result without a value. */
  readonly mayBeEmpty?: boolean;
}

export const REFUSALS: CheckGroup = {
  title: 'What it refuses',
  checks: [
    {
      id: 'unknown-method',
      what: 'an unknown method is refused with TApplicationException 1',
      advice:
        'answer with message type 3 (exception) and TApplicationException type 1 (unknown method), and go on: one wrong call is no reason to end',
      async run(exam) {
        for (const name of [UNKNOWN_METHOD, `katamari.Chassis:${UNKNOWN_METHOD}`]) {
          const expected = `TApplicationException of type 1 for method ${name}`;
          try {
            const answer = await exam.subject.ask({ name, context: exam.context() });
            if (!answer.isException || readApplicationException(answer.body).type !== UNKNOWN_METHOD_TYPE)
              throw new CheckFailed(expected, describeAnswer(answer));
            if (answer.contextFault !== '')
              throw new CheckFailed(`${expected}, its ReplyContext first if it has one`, answer.contextFault);
          } catch (error) {
            throw error instanceof PeerClosed ? new CheckFailed(expected, error.message) : error;
          }
        }
        await exam.staysUp('an unknown method');
      },
    },
    refusesAll(
      'malformed-arguments',
      'malformed arguments end in an exception or a closed connection',
      'catch what the protocol throws while it reads the arguments; answer with TApplicationException type 7, or close the connection, and accept the next one',
      (exam) => [
        {
          what: 'arguments that end inside a text',
          bytes: badCall(exam, field(WIRE_TYPE.string, 1, Buffer.from(int32(100)), Buffer.from('short'))),
        },
        { what: 'arguments without a stop byte', bytes: badCall(exam, field(WIRE_TYPE.i32, 1, Buffer.from(int32(5)))) },
        { what: 'a field of type 99', bytes: badCall(exam, field(99, 1, Buffer.alloc(8)), STOP) },
        { what: 'a frame with no Thrift in it', bytes: framed(Buffer.from('this is no message of Thrift at all')) },
        { what: 'a frame of no bytes', bytes: framed(Buffer.alloc(0)) },
        {
          what: 'a name that is longer than its frame',
          bytes: framed(Buffer.from([0x80, 1, 0, 1, ...int32(5_000), 0x61])),
        },
      ],
    ),
    {
      ...refusesAll(
        'required-missing',
        'a value that lacks a required field is refused',
        'let the generated code check required fields after it has read a struct; answer with an exception',
        (exam) => [
          {
            what: 'a demand without its required text',
            mayBeEmpty: true,
            bytes: frameOf(MESSAGE_TYPE.call, {
              name: 'demand',
              args: Buffer.concat([field(WIRE_TYPE.struct, 1, STOP), STOP]),
              context: exam.context(),
              seqId: 1,
            }),
          },
        ],
        true,
      ),
    },
    refusesAll(
      'nesting',
      'nesting without end is refused',
      'limit how deep values may be nested (64 is plenty) when skipping them, too: recursion without limit ends the process',
      (exam) => [
        {
          what: `structs nested ${NESTED} deep`,
          bytes: badCall(exam, Buffer.from(NESTED_FIELDS), Buffer.alloc(NESTED), STOP),
          mayBeEmpty: true,
        },
      ],
    ),
    refusesAll(
      'sizes',
      'sizes declared inside a message are not believed',
      'compare a declared size with the bytes that are left in the frame before memory is taken for it',
      (exam) => [
        {
          what: 'a text of 2 GiB declared',
          bytes: badCall(exam, field(WIRE_TYPE.string, 1, Buffer.from(int32(HUGE))), STOP),
        },
        {
          what: 'a text of negative length',
          bytes: badCall(exam, field(WIRE_TYPE.string, 1, Buffer.from(int32(-1))), STOP),
        },
        {
          what: 'a list of 2^31 - 1 elements declared',
          bytes: badCall(exam, field(WIRE_TYPE.list, 1, Buffer.from([WIRE_TYPE.i32, ...int32(HUGE)])), STOP),
        },
        {
          what: 'a map of 2^31 - 1 entries declared',
          bytes: badCall(
            exam,
            field(WIRE_TYPE.map, 1, Buffer.from([WIRE_TYPE.i8, WIRE_TYPE.i8, ...int32(HUGE)])),
            STOP,
          ),
        },
      ],
    ),
    refusesAll(
      'frames',
      'a frame that is declared too large is refused, without memory for it',
      'close the connection when a frame declares more than a limit (16 MiB is what the mesh sends at most), before memory is taken and without waiting for the bytes',
      () => [
        { what: 'a frame of 2 GiB declared', bytes: Buffer.from([...int32(HUGE), 0x80, 1, 0, 1]) },
        { what: 'a frame of negative length', bytes: Buffer.from([...int32(-5), 0x80, 1, 0, 1]) },
        { what: 'a request of HTTP', bytes: Buffer.from('GET / HTTP/1.1\r\nhost: chassis\r\n\r\n') },
      ],
    ),
    {
      id: 'half-frame',
      what: 'a connection that ends inside a frame harms nobody',
      advice: 'treat the end of a connection as its end, wherever it comes; accept the next one',
      async run(exam) {
        for (const frame of [frameOf(MESSAGE_TYPE.call, { ...PING, seqId: 1 }), Buffer.from(int32(1_000))]) {
          const peer = await exam.subject.reconnect();
          peer.write(frame.subarray(0, Math.min(frame.length, 12)));
          // So that it has read them, or most of the time has.
          await exam.subject.ended(HALF_FRAME_MS);
          peer.close();
          await exam.staysUp('a connection that ended inside a frame');
        }
      },
    },
    {
      id: 'closed-busy',
      what: 'a connection that ends during a call harms nobody',
      advice: 'throw away an answer that nobody takes any more, and accept the next connection',
      async run(exam) {
        exam.needsConformance();
        const peer = await exam.subject.reconnect();
        peer.call({ context: exam.context(), ...exam.told('work', { ms: WORK_MS }) }).catch(() => undefined);
        await exam.subject.ended(HALF_FRAME_MS);
        peer.close();
        await exam.staysUp('a connection that ended during a call');
        // Its answer finds nobody there.
        await exam.subject.ended(WORK_MS);
        await exam.staysUp('an answer that nobody took');
      },
    },
  ],
};

/** A check that each of some malformed things is refused, that none takes memory, and that the process goes on. */
function refusesAll(
  id: string,
  what: string,
  advice: string,
  bads: (exam: TestContext) => readonly Bad[],
  needsConformance = false,
): Check {
  return {
    id,
    what,
    advice,
    async run(exam) {
      if (needsConformance) exam.needsConformance();
      for (const bad of bads(exam)) {
        await refused(exam, bad);
        await exam.staysUp(bad.what);
      }
      return exam.subject.memory() === undefined ? 'its memory cannot be seen here' : undefined;
    },
  };
}

async function refused(exam: TestContext, { what, bytes, mayBeEmpty }: Bad): Promise<void> {
  const peer = await exam.subject.reconnect();
  const before = exam.subject.memory();
  const answered = peer.callInPieces(1, [bytes]);
  const closed = answered.then(
    (answer) => answer,
    (lost: PeerClosed) => lost,
  );
  const expected = `an exception or a closed connection after ${what}`;
  for (;;) {
    const ended = await Promise.race([closed, exam.subject.ended(MEMORY_LOOK_MS)]);
    const now = exam.subject.memory();
    if (before !== undefined && now !== undefined) {
      const grown = Math.max(now.used - before.used, (now.asked - before.asked) / ASKED_PER_USED);
      if (grown > GROWTH_BYTES_MAX)
        throw new CheckFailed(
          `${expected}, and no memory taken for it`,
          `its memory grew by ${describeSize(Math.max(now.used - before.used, now.asked - before.asked))}`,
        );
    }
    if (ended === undefined) continue;
    if ('text' in ended) throw new CheckFailed(expected, `the process ${ended.text}${exam.subject.lastWords()}`);
    if (!(ended instanceof PeerClosed)) {
      // A ping may be answered without a look at its arguments.
      const isEmptyAllowed = mayBeEmpty === true || !exam.hasConformance;
      if (ended.isException || (isEmptyAllowed && ended.body.length === 1)) return;
      throw new CheckFailed(expected, describeAnswer(ended));
    }
    // Who cannot read the head cannot know the sequence id.
    if (ended.isClosed || peer.strays.some(({ isException }) => isException)) return;
    throw new CheckFailed(expected, `${ended.message}, and the connection stays open`);
  }
}

/** A framed call with these bytes for arguments: of a method whose arguments count, where there is one that does no harm. */
function badCall(exam: TestContext, ...args: readonly Uint8Array[]): Buffer {
  const name = exam.hasConformance ? 'echoText' : PING.name;
  return frameOf(MESSAGE_TYPE.call, { name, args: Buffer.concat(args), seqId: 1 });
}

function framed(body: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(int32(body.length)), body]);
}

const STOP: Uint8Array = Uint8Array.of(WIRE_TYPE.stop);
const UNKNOWN_METHOD_TYPE = 1;
const HUGE = 2 ** 31 - 1;
const NESTED = 100_000;
const NESTED_FIELDS: number[] = Array.from({ length: NESTED }, () => [WIRE_TYPE.struct, 0, 1]).flat();
const HALF_FRAME_MS = 50;
const WORK_MS = 200;
const MEMORY_LOOK_MS = 25;
/** Growth that is no accident. */
const GROWTH_BYTES_MAX = 128 * 1024 * 1024;
/** Memory that was asked for and not touched yet weighs less: garbage collectors ask for more than they need. */
const ASKED_PER_USED = 4;

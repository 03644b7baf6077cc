// Checks of invalid traffic. The chassis rejects unknown methods with the right exception type, answers malformed
// messages with an exception or closes the connection, does not trust declared sizes, and survives all of it. No
// handler runs, because the arguments cannot be decoded.

import { describeSize } from '../../../core/mod.ts';
import { readApplicationException, MESSAGE_TYPE, WIRE_TYPE } from '../../../core/thrift/mod.ts';
import { CheckFailed } from './check-result.ts';
import { field, int32, UNKNOWN_METHOD } from './messages.ts';
import { PING, type Check, type CheckGroup, type TestContext } from './test-context.ts';
import { describeTestReply, frameOf, PeerClosed } from './test-link.ts';

/** A malformed message and its name for the report. */
interface MalformedCase {
  readonly what: string;
  readonly bytes: Uint8Array;
  /**
   * Whether an empty result passes: some libraries skip the field, and their clients reject a result without a
   * value.
   */
  readonly mayBeEmpty?: boolean;
}

export const REFUSALS: CheckGroup = {
  title: 'Invalid messages',
  checks: [
    {
      id: 'unknown-method',
      what: 'an unknown method gets TApplicationException 1',
      advice:
        'reply with message type 3 (exception) and TApplicationException type 1 (unknown method), and keep serving',
      async run(test) {
        for (const name of [UNKNOWN_METHOD, `katamari.Chassis:${UNKNOWN_METHOD}`]) {
          const expected = `TApplicationException of type 1 for method ${name}`;
          try {
            const reply = await test.chassis.call({ name, context: test.callContext() });
            if (!reply.isException || readApplicationException(reply.body).type !== UNKNOWN_METHOD_TYPE)
              throw new CheckFailed(expected, describeTestReply(reply));
            if (reply.contextError !== '')
              throw new CheckFailed(`${expected}, with its ReplyContext, if any, as first field`, reply.contextError);
          } catch (error) {
            throw error instanceof PeerClosed ? new CheckFailed(expected, error.message) : error;
          }
        }
        await test.checkStillServes('an unknown method');
      },
    },
    checkAllRejected(
      'malformed-arguments',
      'malformed arguments get an exception or a closed connection',
      'catch exceptions of the protocol while you read the arguments; reply with TApplicationException type 7, or close the connection and accept the next one',
      (test) => [
        {
          what: 'arguments that end inside a string',
          bytes: malformedCall(test, field(WIRE_TYPE.string, 1, Buffer.from(int32(100)), Buffer.from('short'))),
        },
        {
          what: 'arguments without a stop byte',
          bytes: malformedCall(test, field(WIRE_TYPE.i32, 1, Buffer.from(int32(5)))),
        },
        { what: 'a field of type 99', bytes: malformedCall(test, field(99, 1, Buffer.alloc(8)), STOP) },
        { what: 'a frame that is not Thrift', bytes: framed(Buffer.from('this is no message of Thrift at all')) },
        { what: 'a frame of no bytes', bytes: framed(Buffer.alloc(0)) },
        {
          what: 'a method name longer than its frame',
          bytes: framed(Buffer.from([0x80, 1, 0, 1, ...int32(5_000), 0x61])),
        },
      ],
    ),
    {
      ...checkAllRejected(
        'required-missing',
        'a value without a required field is rejected',
        'check required fields after a struct is read, as generated code does; reply with an exception',
        (test) => [
          {
            what: 'a demand without its required text',
            mayBeEmpty: true,
            bytes: frameOf(MESSAGE_TYPE.call, {
              name: 'demand',
              args: Buffer.concat([field(WIRE_TYPE.struct, 1, STOP), STOP]),
              context: test.callContext(),
              seqId: 1,
            }),
          },
        ],
        true,
      ),
    },
    checkAllRejected(
      'nesting',
      'deep nesting is rejected',
      'limit the nesting depth (64 is enough), also when skipping values: unlimited recursion overflows the stack',
      (test) => [
        {
          what: `structs nested ${NESTED} deep`,
          bytes: malformedCall(test, Buffer.from(NESTED_FIELDS), Buffer.alloc(NESTED), STOP),
          mayBeEmpty: true,
        },
      ],
    ),
    checkAllRejected(
      'sizes',
      'declared sizes inside a message are not trusted',
      'compare a declared size with the remaining bytes of the frame before you allocate memory',
      (test) => [
        {
          what: 'a string with a declared size of 2 GiB',
          bytes: malformedCall(test, field(WIRE_TYPE.string, 1, Buffer.from(int32(HUGE))), STOP),
        },
        {
          what: 'a string of negative length',
          bytes: malformedCall(test, field(WIRE_TYPE.string, 1, Buffer.from(int32(-1))), STOP),
        },
        {
          what: 'a list with a declared size of 2^31 - 1',
          bytes: malformedCall(test, field(WIRE_TYPE.list, 1, Buffer.from([WIRE_TYPE.i32, ...int32(HUGE)])), STOP),
        },
        {
          what: 'a map with a declared size of 2^31 - 1',
          bytes: malformedCall(
            test,
            field(WIRE_TYPE.map, 1, Buffer.from([WIRE_TYPE.i8, WIRE_TYPE.i8, ...int32(HUGE)])),
            STOP,
          ),
        },
      ],
    ),
    checkAllRejected(
      'frames',
      'a frame with a too large declared size is rejected, without allocating memory',
      'close the connection when a declared frame size exceeds a limit (the mesh sends at most 16 MiB); do not allocate memory and do not wait for the bytes',
      () => [
        { what: 'a frame with a declared size of 2 GiB', bytes: Buffer.from([...int32(HUGE), 0x80, 1, 0, 1]) },
        { what: 'a frame of negative length', bytes: Buffer.from([...int32(-5), 0x80, 1, 0, 1]) },
        { what: 'an HTTP request', bytes: Buffer.from('GET / HTTP/1.1\r\nhost: chassis\r\n\r\n') },
      ],
    ),
    {
      id: 'half-frame',
      what: 'a connection that closes inside a frame does no harm',
      advice: 'handle a close at any byte; accept the next connection',
      async run(test) {
        for (const frame of [frameOf(MESSAGE_TYPE.call, { ...PING, seqId: 1 }), Buffer.from(int32(1_000))]) {
          const link = await test.chassis.reconnect();
          link.write(frame.subarray(0, Math.min(frame.length, 12)));
          // Give the chassis time to read the bytes.
          await test.chassis.waitForExit(HALF_FRAME_MS);
          link.close();
          await test.checkStillServes('a connection that closed inside a frame');
        }
      },
    },
    {
      id: 'closed-busy',
      what: 'a connection that closes during a call does no harm',
      advice: 'discard the reply when its connection is closed, and accept the next connection',
      async run(test) {
        test.requireConformance();
        const link = await test.chassis.reconnect();
        link
          .call({ context: test.callContext(), ...test.conformanceCall('work', { ms: WORK_MS }) })
          .catch(() => undefined);
        await test.chassis.waitForExit(HALF_FRAME_MS);
        link.close();
        await test.checkStillServes('a connection that closed during a call');
        // Wait until the handler returns and the chassis writes the reply to the closed connection.
        await test.chassis.waitForExit(WORK_MS);
        await test.checkStillServes('a reply to a closed connection');
      },
    },
  ],
};

/**
 * Returns a check that each malformed message is rejected without allocating memory, and that the process
 * continues.
 */
function checkAllRejected(
  id: string,
  what: string,
  advice: string,
  cases: (test: TestContext) => readonly MalformedCase[],
  needsConformance = false,
): Check {
  return {
    id,
    what,
    advice,
    async run(test) {
      if (needsConformance) test.requireConformance();
      for (const malformed of cases(test)) {
        await checkRejected(test, malformed);
        await test.checkStillServes(malformed.what);
      }
      return test.chassis.memory() === undefined ? 'its memory use is unknown on this system' : undefined;
    },
  };
}

async function checkRejected(test: TestContext, { what, bytes, mayBeEmpty }: MalformedCase): Promise<void> {
  const link = await test.chassis.reconnect();
  const before = test.chassis.memory();
  const replied = link.callInPieces(1, [bytes]);
  const closed = replied.then(
    (reply) => reply,
    (closed: PeerClosed) => closed,
  );
  const expected = `an exception or a closed connection after ${what}`;
  for (;;) {
    const ended = await Promise.race([closed, test.chassis.waitForExit(MEMORY_LOOK_MS)]);
    const now = test.chassis.memory();
    if (before !== undefined && now !== undefined) {
      const grown = Math.max(now.used - before.used, (now.asked - before.asked) / ASKED_PER_USED);
      if (grown > GROWTH_BYTES_MAX)
        throw new CheckFailed(
          `${expected}, and no memory allocated for it`,
          `its memory grew by ${describeSize(Math.max(now.used - before.used, now.asked - before.asked))}`,
        );
    }
    if (ended === undefined) continue;
    if ('text' in ended) throw new CheckFailed(expected, `the process ${ended.text}${test.chassis.lastOutput()}`);
    if (!(ended instanceof PeerClosed)) {
      // A ping may ignore its arguments.
      const isEmptyAllowed = mayBeEmpty === true || !test.hasConformance;
      if (ended.isException || (isEmptyAllowed && ended.body.length === 1)) return;
      throw new CheckFailed(expected, describeTestReply(ended));
    }
    // An exception for an unreadable head may have any sequence id.
    if (ended.isClosed || link.unexpected.some(({ isException }) => isException)) return;
    throw new CheckFailed(expected, `${ended.message}, and the connection stays open`);
  }
}

/** Returns a framed call with these bytes as arguments, of echoText if the chassis has it. */
function malformedCall(test: TestContext, ...args: readonly Uint8Array[]): Buffer {
  const name = test.hasConformance ? 'echoText' : PING.name;
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
/** Memory growth that cannot be noise. */
const GROWTH_BYTES_MAX = 128 * 1024 * 1024;
/** Requested memory that is not resident counts a quarter: garbage collectors reserve more than they use. */
const ASKED_PER_USED = 4;

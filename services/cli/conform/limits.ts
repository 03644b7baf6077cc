// Checks of limits. A chassis has the limits that the mesh sets in its environment, with room for the context of a
// call, and a message beyond them costs its own call alone: the connection lives on, because other calls are on it.

import { CONTEXT_BYTES_MAX, describeSize } from '../../../core/mod.ts';
import { readApplicationException, WIRE_TYPE } from '../../../core/thrift/mod.ts';
import { CheckFailed } from './check-result.ts';
import { field, int32 } from './messages.ts';
import { PING, type Check, type CheckGroup, type TestContext } from './test-context.ts';
import { describeTestReply, PeerClosed, type SentCall } from './test-link.ts';

/** A limit that a small message exceeds, in bytes. */
const SMALL_BYTES = 64 * 1024;

export const LIMITS: CheckGroup = {
  title: 'Limits',
  checks: [
    {
      id: 'limits',
      what: 'has the limits that KATAMARI_FRAME_BYTES_MAX and KATAMARI_NESTING_MAX set',
      advice:
        'read both variables at the start; accept frames of the first plus 1 MiB, for the context of a call, and structs and containers nested as deep as the second',
      run: withLimits({ frameBytesMax: 32 * 1024 * 1024, nestingMax: 200 }, async (test) => {
        // Unknown arguments, which every chassis skips.
        const large = 32 * 1024 * 1024 + CONTEXT_BYTES_MAX / 2;
        await checkAnswered(test, `a call of ${describeSize(large)} with a limit of 32 MiB`, unknownBytes(large));
        await checkAnswered(test, 'arguments nested 150 deep with a limit of 200', unknownNesting(150));
      }),
    },
    {
      id: 'limits-call',
      what: 'refuses a call beyond the limits, and its connection lives on',
      advice:
        'read the head of a frame above the limit, answer its call with an exception (ErrorCode TOO_LARGE in the ReplyContext), and discard the rest of the frame as it arrives; answer a call that is nested too deep with an exception, too',
      run: withLimits({ frameBytesMax: SMALL_BYTES, nestingMax: 16 }, async (test) => {
        await checkRefused(test, 'a call above the limit', unknownBytes(SMALL_BYTES + 2 * CONTEXT_BYTES_MAX));
        await checkRefused(test, 'a call that is nested too deep', unknownNesting(100), true);
      }),
    },
    {
      id: 'limits-answer',
      what: 'answers with too_large instead of a result above the limit',
      advice:
        'compare the bytes of an encoded reply with KATAMARI_FRAME_BYTES_MAX; above it, send an exception that names the method and the limit, with ErrorCode TOO_LARGE in its ReplyContext',
      run: withLimits({ frameBytesMax: SMALL_BYTES, nestingMax: 64 }, async (test) => {
        test.requireConformance();
        const value = Buffer.alloc(SMALL_BYTES + 1_000, 'x');
        const reply = await test.call(test.conformanceCall('echoBinary', { value }));
        const expected = 'an exception with error code 8 (TOO_LARGE) in its ReplyContext';
        if (!reply.isException || reply.context?.error?.code !== TOO_LARGE)
          throw new CheckFailed(expected, describeTestReply(reply));
        const { message } = readApplicationException(reply.body);
        if (!message.includes('echoBinary'))
          throw new CheckFailed('a message that names the method', JSON.stringify(message));
        await checkLivesOn(test, 'a result above the limit');
      }),
    },
  ],
};

/** Runs a check in a process that was started with these limits. */
function withLimits(
  { frameBytesMax, nestingMax }: { readonly frameBytesMax: number; readonly nestingMax: number },
  run: (test: TestContext) => Promise<void>,
): Check['run'] {
  return async (test) => {
    await test.chassis.start({
      KATAMARI_FRAME_BYTES_MAX: String(frameBytesMax),
      KATAMARI_NESTING_MAX: String(nestingMax),
    });
    try {
      await run(test);
    } finally {
      await test.chassis.stop();
    }
  };
}

async function checkAnswered(test: TestContext, what: string, call: SentCall): Promise<void> {
  const reply = await test.call({ ...call, context: test.callContext() });
  if (reply.isException) throw new CheckFailed(`a reply to ${what}`, describeTestReply(reply));
}

/** @param mayBeAnswered whether a result passes: a ping may ignore its arguments */
async function checkRefused(test: TestContext, what: string, call: SentCall, mayBeAnswered = false): Promise<void> {
  const expected = `an exception for ${what}, and an open connection`;
  try {
    const reply = await test.chassis.call({ ...call, context: test.callContext() });
    if (!reply.isException && !mayBeAnswered) throw new CheckFailed(expected, describeTestReply(reply));
  } catch (error) {
    throw error instanceof PeerClosed ? new CheckFailed(expected, error.message) : error;
  }
  await checkLivesOn(test, what);
}

/** Checks that a ping is answered on the same connection. */
async function checkLivesOn(test: TestContext, after: string): Promise<void> {
  try {
    await test.chassis.call(PING);
  } catch (error) {
    const expected = `a reply to a ping on the same connection after ${after}`;
    throw error instanceof PeerClosed ? new CheckFailed(expected, error.message) : error;
  }
}

/** A ping with an unknown argument of that many bytes. */
function unknownBytes(bytes: number): SentCall {
  return {
    ...PING,
    args: Buffer.concat([field(WIRE_TYPE.string, UNKNOWN, Buffer.from(int32(bytes)), Buffer.alloc(bytes)), STOP]),
  };
}

/** A ping with an unknown argument of nested structs. */
function unknownNesting(depth: number): SentCall {
  const heads = Array.from({ length: depth - 1 }, () => [WIRE_TYPE.struct, UNKNOWN >> 8, UNKNOWN & 0xff]).flat();
  return { ...PING, args: Buffer.concat([Buffer.from(heads), Buffer.alloc(depth)]) };
}

const UNKNOWN = 9_999;
const STOP: Uint8Array = Uint8Array.of(WIRE_TYPE.stop);
const TOO_LARGE = 8;

// Checks of how a kit treats its handlers: values, exceptions, oneway calls, nested calls, concurrency. They need
// handlers of known behavior, so they run only for a chassis that implements idl/conformance.thrift.

import { decodeStruct, encodeStruct } from '../../../core/idl/mod.ts';
import { readApplicationException, type StructType, WIRE_TYPE } from '../../../core/thrift/mod.ts';
import { CheckFailed } from './check-result.ts';
import { field } from './messages.ts';
import { relayedText } from './stub-mesh.ts';
import { decodeResult, PING, TRACE_ID, type Check, type CheckGroup, type TestContext } from './test-context.ts';
import { describeTestReply, fieldIds, PeerClosed, type TestReply } from './test-link.ts';
import { cut, isSame, shown, structValue, type Style } from './values.ts';

export const HANDLERS: CheckGroup = {
  title: 'Handlers',
  checks: [
    {
      id: 'echo',
      what: 'echo returns values of every type unchanged',
      advice:
        'check the type of that field: signed numbers, UTF-8 text, bytes that are not UTF-8, empty containers, unions',
      async run(test) {
        for (const style of ['plain', 'bare', 'most', 'least'] as const) await checkEcho(test, style);
      },
    },
    {
      id: 'defaults',
      what: 'fields that are not sent have their default value',
      advice: 'set the defaults of the IDL before you read a struct',
      async run(test) {
        const { struct } = echoType(test);
        const partial = { ...struct, fields: struct.fields.filter(({ name }) => name !== 'given') };
        const value = encodeStruct(partial, structValue(partial, 'plain'));
        const args = Buffer.concat([field(WIRE_TYPE.struct, 1, value), Buffer.of(WIRE_TYPE.stop)]);
        const got = test.returnValue('echo', await test.call({ name: 'echo', args })) as { given?: string };
        if (got.given !== 'unless told')
          throw new CheckFailed('given "unless told"', `given ${JSON.stringify(got.given)}`);
      },
    },
    {
      id: 'large-values',
      what: 'accepts and returns values of 1 MB',
      advice: 'raise the frame limit of the Thrift library to 16 MiB, the maximum of the mesh; handle partial writes',
      async run(test) {
        const bytes = Buffer.alloc(LARGE_BYTES, 'all work and no play ');
        const got = (await test.callForValue('echoBinary', { value: bytes })) as Buffer;
        if (!bytes.equals(got))
          throw new CheckFailed(`the same ${LARGE_BYTES} bytes`, `${got.length} bytes that differ`);
        const text = 'größer '.repeat(LARGE_BYTES / 8);
        const again = (await test.callForValue('echoText', { value: text })) as string;
        if (again !== text)
          throw new CheckFailed(`the same ${text.length} characters`, `${again.length} characters that differ`);
      },
    },
    {
      id: 'void',
      what: 'a void method returns an empty result',
      advice: 'write a result struct that has only its stop byte',
      run: async (test) => emptyResult(await test.call(test.conformanceCall('nothing')), 'nothing'),
    },
    {
      id: 'declared-exception',
      what: 'a declared exception is in its own field',
      advice:
        'reply with message type 2 (reply) and the exception in its field of the result struct, like generated Thrift code',
      async run(test) {
        const reply = await test.call(test.conformanceCall('refuse', { why: 'no tea left', number: 40 }));
        const expected = 'a result with exception Declared (why "no tea left", number 40) in field 1';
        if (reply.isException) throw new CheckFailed(expected, describeTestReply(reply));
        const result = decodeResult(test.method('refuse'), reply);
        if (!isSame(result['declared'], { why: 'no tea left', number: 40 }))
          throw new CheckFailed(expected, shown(result));
        if (result['success'] !== undefined) throw new CheckFailed(`${expected}, and no value`, shown(result));
      },
    },
    {
      id: 'undeclared-exception',
      what: 'any other exception becomes TApplicationException 6 with its message',
      advice:
        'catch everything that a handler throws; reply with TApplicationException type 6 and "Service.method failed: MESSAGE"',
      async run(test) {
        const { message, type } = await callCollapse(test);
        const expected = 'TApplicationException of type 6, "Conformance.collapse failed: the roof fell in"';
        if (type !== INTERNAL_ERROR || !message.startsWith('Conformance.collapse failed: the roof fell in'))
          throw new CheckFailed(expected, `TApplicationException of type ${type}, ${JSON.stringify(cut(message))}`);
      },
    },
    {
      id: 'no-stack',
      what: 'the message contains no stack trace',
      advice: 'send the message only and log the stack trace: paths and names are internal',
      async run(test) {
        const { message } = await callCollapse(test);
        if (STACK.test(message) || message.trim().includes('\n'))
          throw new CheckFailed('one line, the message', JSON.stringify(cut(message)));
      },
    },
    {
      id: 'after-exception',
      what: 'the process continues after an exception',
      advice: 'catch exceptions of handlers around each call, not around the server loop',
      async run(test) {
        await callCollapse(test);
        await test.callForValue('echoText', { value: 'still here' });
      },
    },
    {
      id: 'oneway',
      what: 'a oneway method in a normal call gets a reply',
      advice:
        'when a oneway method arrives as message type 1 (call), reply with an empty result after its handler returns: the mesh then knows that the chassis is free',
      async run(test) {
        emptyResult(await test.call(test.conformanceCall('note', { line: 'answered' })), 'note');
        await waitUntilNoted(test, 'answered');
      },
    },
    {
      id: 'oneway-message',
      what: 'a message of type oneway runs and gets no reply',
      advice:
        'run the handler and write nothing for message type 4 (oneway): the sender reads no reply, and would take it for the reply to its next call',
      async run(test) {
        const link = await test.chassis.reconnect();
        link.sendOneway({ context: test.callContext(), ...test.conformanceCall('note', { line: 'unanswered' }) });
        await waitUntilNoted(test, 'unanswered');
        if (link.unexpected.length > 0)
          throw new CheckFailed('no reply', describeTestReply(link.unexpected[0] as TestReply));
      },
    },
    {
      id: 'concurrency-kept',
      what: 'handles as many calls at once as it declares',
      advice: 'run as many calls at once as describe declares, each in its own thread or task; or declare 1',
      run: checkConcurrency,
    },
    {
      id: 'line-kept',
      what: 'queues the calls that it accepts ahead, in order',
      advice:
        'start a call after the reply to the previous one is written, and skip calls that katamari.Link:cancel canceled meanwhile; or leave `ahead` out of describe',
      run: checkQueue,
    },
    {
      id: 'nested-call',
      what: 'a nested call carries the deadline and the trace',
      advice:
        'connect to KATAMARI_MESH; write a CallContext first, with the remaining time, the traceparent of the current call and the target service',
      run: checkNestedCall,
    },
    {
      id: 'nested-failure',
      what: 'a nested call that the mesh rejects throws in the handler',
      advice: 'throw an error with the message of the TApplicationException in the handler that made the call',
      async run(test) {
        const reply = await test.call(test.conformanceCall('relay', { value: 'refuse this' }));
        if (!reply.isException) throw new CheckFailed('an exception', describeTestReply(reply));
        const { message } = readApplicationException(reply.body);
        if (!message.includes(REFUSED))
          throw new CheckFailed(`an exception with the text "${REFUSED}"`, describeTestReply(reply));
      },
    },
  ],
};

async function checkEcho(test: TestContext, style: Style): Promise<void> {
  const call = test.conformanceCall('echo', { value: structValue(echoType(test).struct, style) });
  // Decode what was sent, so that defaults and the order of sets make no difference.
  const { value } = decodeStruct(test.method('echo').args, call.args as Buffer) as { value: Record<string, unknown> };
  const got = test.returnValue('echo', await test.call(call)) as Record<string, unknown>;
  const wrong = Object.keys(value).find((name) => !isSame(value[name], got[name]));
  if (wrong !== undefined) throw new CheckFailed(`${wrong} ${shown(value[wrong])}`, `${wrong} ${shown(got[wrong])}`);
  const extra = Object.keys(got).find((name) => value[name] === undefined && got[name] !== undefined);
  if (extra !== undefined) throw new CheckFailed(`no ${extra}, which was not sent`, `${extra} ${shown(got[extra])}`);
}

/** Returns the struct that `echo` takes and returns. */
function echoType(test: TestContext): { readonly struct: StructType } {
  const { returns } = test.method('echo');
  if (returns.kind !== 'struct') throw new Error('echo of idl/conformance.thrift returns no struct');
  return returns;
}

function emptyResult(reply: TestReply, name: string): void {
  if (reply.isException || fieldIds(reply.body).length > 0)
    throw new CheckFailed(`an empty result of ${name}`, describeTestReply(reply));
}

async function callCollapse(test: TestContext): Promise<{ message: string; type: number }> {
  const reply = await test.call(test.conformanceCall('collapse', { why: 'the roof fell in' }));
  if (!reply.isException) throw new CheckFailed('a TApplicationException', describeTestReply(reply));
  return readApplicationException(reply.body);
}

/** Waits until a line that was sent to the oneway method appears in `noted`. */
async function waitUntilNoted(test: TestContext, line: string): Promise<void> {
  const endMs = performance.now() + test.timeoutMs;
  for (;;) {
    const lines = (await test.callForValue('noted')) as string[];
    if (lines.includes(line)) return;
    if (performance.now() > endMs) throw new CheckFailed(`"${line}" in the result of noted`, shown(lines));
    await test.chassis.waitForExit(POLL_MS);
  }
}

/** Sends N calls, of which the last is the shortest. If all N run at once, it ends first even on a loaded machine. */
async function checkConcurrency(test: TestContext): Promise<string | void> {
  test.requireConformance();
  const { concurrency } = test.requireDetails();
  if (concurrency === 1) return 'it declares 1: the mesh never sends it two calls at once';
  const count = Math.min(concurrency, CONCURRENCY_MAX);
  const link = await test.chassis.reconnect();
  const first = link.replyOrder.length;
  const context = test.callContext();
  const works = Array.from({ length: count }, (_, i) => (i === count - 1 ? SHORT_MS : LONG_MS));
  const replies = link.callAll(works.map((ms) => ({ context, ...test.conformanceCall('work', { ms }) })));
  const last = replies.at(-1) as Promise<TestReply>;
  try {
    const short = await test.chassis.withExitReason(last);
    if (count > 1 && link.replyOrder[first] !== short.seqId)
      throw new CheckFailed(
        `the reply to the shortest of ${count} calls first, because concurrency is ${concurrency}`,
        'it handles calls one after the other',
      );
    await test.chassis.withExitReason(link.call({ ...PING, context }));
    if (link.replyOrder.length - first > 2)
      throw new CheckFailed('a reply to a ping while calls run', 'the ping waited for them');
    for (const replied of replies) await test.chassis.withExitReason(replied);
  } catch (error) {
    throw error instanceof PeerClosed ? new CheckFailed(`replies to ${count} calls at once`, error.message) : error;
  }
}

/**
 * Sends a long call, one that is canceled while it waits, and a short one. The first and the third reply in this
 * order; the second never runs.
 */
async function checkQueue(test: TestContext): Promise<string | void> {
  test.requireConformance();
  const { ahead = 0, concurrency } = test.requireDetails();
  if (ahead === 0) return 'it accepts no calls ahead';
  if (concurrency !== 1) throw new CheckFailed('a concurrency of 1 together with `ahead`', String(concurrency));
  const link = await test.chassis.reconnect();
  const first = link.replyOrder.length;
  const context = test.callContext();
  const [long] = link.callAll([{ context, ...test.conformanceCall('work', { ms: LONG_MS }) }]) as [Promise<TestReply>];
  link.callAndCancel({ context, ...test.conformanceCall('note', { line: CANCELED }) });
  const [short] = link.callAll([{ context, ...test.conformanceCall('work', { ms: SHORT_MS }) }]) as [
    Promise<TestReply>,
  ];
  const { seqId } = await test.chassis.withExitReason(long);
  await test.chassis.withExitReason(short);
  if (link.replyOrder[first] !== seqId)
    throw new CheckFailed('the reply to the first of two calls first', 'the second call overtook it');
  const lines = (await test.callForValue('noted')) as string[];
  if (lines.includes(CANCELED)) throw new CheckFailed('that a call canceled while it waits does not run', 'it ran');
}

async function checkNestedCall(test: TestContext): Promise<void> {
  const { calls } = test.stubMesh;
  const before = calls.length;
  const reply = await test.call({
    ...test.conformanceCall('relay', { value: 'hello' }),
    context: test.callContext({}, NESTED_MS),
  });
  const call = calls[before];
  if (call === undefined)
    throw new CheckFailed(
      'a call of Conformance.echoText at KATAMARI_MESH',
      `no call arrived; ${describeTestReply(reply)}`,
    );
  const got = test.returnValue('relay', reply);
  if (got !== relayedText('hello')) throw new CheckFailed(JSON.stringify(relayedText('hello')), JSON.stringify(got));
  if (call.service !== 'Conformance')
    throw new CheckFailed(
      'service Conformance, in the CallContext or in the multiplexed name',
      `service "${call.service}"`,
    );
  if (call.timeLeftMs > NESTED_MS || call.timeLeftMs <= 0)
    throw new CheckFailed(
      `a CallContext with the rest of ${NESTED_MS} ms`,
      `${Math.round(call.timeLeftMs)} ms (60 s means no CallContext)`,
    );
  if (!call.traceparent.includes(TRACE_ID))
    throw new CheckFailed(`a traceparent of trace ${TRACE_ID}`, `traceparent "${call.traceparent}"`);
}

/** The same checks, skipped unless the chassis implements Conformance. */
export const HANDLER_CHECKS: CheckGroup = {
  title: HANDLERS.title,
  checks: HANDLERS.checks.map((check): Check => ({
    ...check,
    async run(test) {
      test.requireConformance();
      return check.run(test);
    },
  })),
};

/** Matches lines of stack traces of several languages. */
const STACK = /^\s+at .+[:(]\d+|Traceback \(most recent|File ".+", line \d+|\.(rb|py|ts|js|php|pl|cpp|java|go):\d+/m;
const INTERNAL_ERROR = 6;
const REFUSED = 'No pool offers';
const LARGE_BYTES = 1_000_000;
const LONG_MS = 500;
const SHORT_MS = 10;
const CANCELED = 'canceled while it waited';
const CONCURRENCY_MAX = 8;
const NESTED_MS = 20_000;
const POLL_MS = 20;

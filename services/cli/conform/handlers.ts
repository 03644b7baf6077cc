// Checks of what a kit makes of its handlers: values, exceptions, oneway calls, nested calls, several at once. They need handlers that do as they are
import { decodeStruct, encodeStruct } from '../../../core/idl/mod.ts';
import { readApplicationException, type StructType, WIRE_TYPE } from '../../../core/thrift/mod.ts';
import { CheckFailed } from './check-result.ts';
import { field } from './messages.ts';
import { throughMesh } from './stub-mesh.ts';
import { decoded, PING, TRACE_ID, type Check, type CheckGroup, type TestContext } from './test-context.ts';
import { describeAnswer, fieldIds, PeerClosed, type TestAnswer } from './test-link.ts';
import { cut, isSame, shown, structValue, type Style } from './values.ts';

// told, those of idl/conformance.thrift, so only a chassis that implements it can be asked.

export const HANDLERS: CheckGroup = {
  title: 'Handlers',
  checks: [
    {
      id: 'echo',
      what: 'values of every type come back as they came',
      advice:
        'look at the type that is named: a signed number, text that is UTF-8, bytes that are none, an empty container, a union',
      async run(exam) {
        for (const style of ['plain', 'bare', 'most', 'least'] as const) await echoes(exam, style);
      },
    },
    {
      id: 'defaults',
      what: 'fields that are not sent have their default',
      advice: 'start a struct from the defaults of its IDL before it is read',
      async run(exam) {
        const { struct } = echoed(exam);
        const lacking = { ...struct, fields: struct.fields.filter(({ name }) => name !== 'given') };
        const value = encodeStruct(lacking, structValue(lacking, 'plain'));
        const args = Buffer.concat([field(WIRE_TYPE.struct, 1, value), Buffer.of(WIRE_TYPE.stop)]);
        const got = exam.returned('echo', await exam.ask({ name: 'echo', args })) as { given?: string };
        if (got.given !== 'unless told')
          throw new CheckFailed('given "unless told"', `given ${JSON.stringify(got.given)}`);
      },
    },
    {
      id: 'large-values',
      what: 'values of 1 MB pass',
      advice:
        'raise the frame limit of the Thrift library to 16 MiB, which is what the mesh sends at most; write until all is written',
      async run(exam) {
        const bytes = Buffer.alloc(LARGE_BYTES, 'all work and no play ');
        const got = (await exam.value('echoBinary', { value: bytes })) as Buffer;
        if (!bytes.equals(got)) throw new CheckFailed(`the same ${LARGE_BYTES} bytes`, `${got.length} others`);
        const text = 'größer '.repeat(LARGE_BYTES / 8);
        const again = (await exam.value('echoText', { value: text })) as string;
        if (again !== text) throw new CheckFailed(`the same ${text.length} letters`, `${again.length} others`);
      },
    },
    {
      id: 'void',
      what: 'a method that returns nothing answers with an empty result',
      advice: 'write the result struct with nothing but its stop byte',
      run: async (exam) => emptyResult(await exam.ask(exam.told('nothing')), 'nothing'),
    },
    {
      id: 'declared-exception',
      what: 'a declared exception comes in its own field',
      advice:
        'answer with message type 2 (reply) and the exception in its field of the result struct, as code made by the Thrift compiler does',
      async run(exam) {
        const answer = await exam.ask(exam.told('refuse', { why: 'no tea left', number: 40 }));
        const expected = 'a result with exception Declared (why "no tea left", number 40) in field 1';
        if (answer.isException) throw new CheckFailed(expected, describeAnswer(answer));
        const result = decoded(exam.method('refuse'), answer);
        if (!isSame(result['declared'], { why: 'no tea left', number: 40 }))
          throw new CheckFailed(expected, shown(result));
        if (result['success'] !== undefined) throw new CheckFailed(`${expected}, and no value`, shown(result));
      },
    },
    {
      id: 'undeclared-exception',
      what: 'anything else that is thrown is TApplicationException 6 with its message',
      advice:
        'catch all that a handler throws; answer with TApplicationException type 6 and "Service.method failed: MESSAGE"',
      async run(exam) {
        const { message, type } = await collapsed(exam);
        const expected = 'TApplicationException of type 6, "Conformance.collapse failed: the roof fell in"';
        if (type !== INTERNAL_ERROR || !message.startsWith('Conformance.collapse failed: the roof fell in'))
          throw new CheckFailed(expected, `TApplicationException of type ${type}, ${JSON.stringify(cut(message))}`);
      },
    },
    {
      id: 'no-stack',
      what: 'its message holds no stack',
      advice:
        'answer with the message alone and write the stack to the log: callers are strangers, and paths and names are none of their business',
      async run(exam) {
        const { message } = await collapsed(exam);
        if (STACK.test(message) || message.trim().includes('\n'))
          throw new CheckFailed('one line, the message', JSON.stringify(cut(message)));
      },
    },
    {
      id: 'after-exception',
      what: 'it goes on after an exception',
      advice: 'catch what handlers throw around each call, not around the loop that serves them',
      async run(exam) {
        await collapsed(exam);
        await exam.value('echoText', { value: 'still here' });
      },
    },
    {
      id: 'oneway',
      what: 'a oneway method that is called as any other is answered',
      advice:
        'answer a message of type 1 (call) for a oneway method with an empty result once its handler has ended: so the mesh knows when the chassis is free',
      async run(exam) {
        emptyResult(await exam.ask(exam.told('note', { line: 'answered' })), 'note');
        await noted(exam, 'answered');
      },
    },
    {
      id: 'oneway-message',
      what: 'a message of type oneway runs and is not answered',
      advice:
        'run the handler and write nothing when the message is of type 4 (oneway): its sender reads no answer, and would take it for one to its next call',
      async run(exam) {
        const peer = await exam.subject.reconnect();
        peer.tell({ context: exam.context(), ...exam.told('note', { line: 'unanswered' }) });
        await noted(exam, 'unanswered');
        if (peer.strays.length > 0) throw new CheckFailed('no answer', describeAnswer(peer.strays[0] as TestAnswer));
      },
    },
    {
      id: 'concurrency-kept',
      what: 'works on as many calls at once as it says',
      advice: 'work on as many calls as describe says, each in a thread or as a task of its own; or say 1',
      run: atOnce,
    },
    {
      id: 'line-kept',
      what: 'keeps in line what it says it takes ahead',
      advice:
        'begin a call after the answer to the one before it was written, and never one that katamari.Link:cancel took back meanwhile; or leave `ahead` out of describe',
      run: inLine,
    },
    {
      id: 'nested-call',
      what: 'a handler calls through the mesh, with time and trace',
      advice:
        'connect to KATAMARI_MESH; put a CallContext first with the time that is left, the traceparent of the call being worked on, and the service meant',
      run: nested,
    },
    {
      id: 'nested-failure',
      what: 'a nested call that the mesh refuses becomes an error in the handler',
      advice: 'throw what a TApplicationException of the mesh says in the handler that made the call, with its message',
      async run(exam) {
        const answer = await exam.ask(exam.told('relay', { value: 'refuse this' }));
        if (!answer.isException) throw new CheckFailed('an exception', describeAnswer(answer));
        const { message } = readApplicationException(answer.body);
        if (!message.includes(REFUSED))
          throw new CheckFailed(`an exception that says "${REFUSED}"`, describeAnswer(answer));
      },
    },
  ],
};

async function echoes(exam: TestContext, style: Style): Promise<void> {
  const call = exam.told('echo', { value: structValue(echoed(exam).struct, style) });
  // What our own codec makes of it, so that defaults and the order of sets are no difference.
  const { value } = decodeStruct(exam.method('echo').args, call.args as Buffer) as { value: Record<string, unknown> };
  const got = exam.returned('echo', await exam.ask(call)) as Record<string, unknown>;
  const wrong = Object.keys(value).find((name) => !isSame(value[name], got[name]));
  if (wrong !== undefined) throw new CheckFailed(`${wrong} ${shown(value[wrong])}`, `${wrong} ${shown(got[wrong])}`);
  const more = Object.keys(got).find((name) => value[name] === undefined && got[name] !== undefined);
  if (more !== undefined) throw new CheckFailed(`no ${more}, which was not sent`, `${more} ${shown(got[more])}`);
}

/** The type of what `echo` takes and returns. */
function echoed(exam: TestContext): { readonly struct: StructType } {
  const { returns } = exam.method('echo');
  if (returns.kind !== 'struct') throw new Error('echo of idl/conformance.thrift returns no struct');
  return returns;
}

function emptyResult(answer: TestAnswer, name: string): void {
  if (answer.isException || fieldIds(answer.body).length > 0)
    throw new CheckFailed(`an empty result of ${name}`, describeAnswer(answer));
}

async function collapsed(exam: TestContext): Promise<{ message: string; type: number }> {
  const answer = await exam.ask(exam.told('collapse', { why: 'the roof fell in' }));
  if (!answer.isException) throw new CheckFailed('a TApplicationException', describeAnswer(answer));
  return readApplicationException(answer.body);
}

/** A line that was given to a oneway method is there, soon. */
async function noted(exam: TestContext, line: string): Promise<void> {
  const endMs = performance.now() + exam.timeoutMs;
  for (;;) {
    const lines = (await exam.value('noted')) as string[];
    if (lines.includes(line)) return;
    if (performance.now() > endMs) throw new CheckFailed(`"${line}" among what was noted`, shown(lines));
    await exam.subject.ended(NOTED_EVERY_MS);
  }
}

/** The last of N calls is the shortest: it ends first if all N are worked on, and whatever the machine's load. */
async function atOnce(exam: TestContext): Promise<string | void> {
  exam.needsConformance();
  const { concurrency } = exam.details();
  if (concurrency === 1) return 'it says 1: the mesh never sends it two at once';
  const count = Math.min(concurrency, AT_ONCE_MAX);
  const peer = await exam.subject.reconnect();
  const first = peer.arrivals.length;
  const context = exam.context();
  const works = Array.from({ length: count }, (_, i) => (i === count - 1 ? SHORT_MS : LONG_MS));
  const answers = peer.callAll(works.map((ms) => ({ context, ...exam.told('work', { ms }) })));
  const last = answers.at(-1) as Promise<TestAnswer>;
  try {
    const short = await exam.subject.told(last);
    if (count > 1 && peer.arrivals[first] !== short.seqId)
      throw new CheckFailed(
        `the shortest of ${count} calls is answered first, as concurrency ${concurrency} has it`,
        'calls are worked on one after the other',
      );
    await exam.subject.told(peer.call({ ...PING, context }));
    if (peer.arrivals.length - first > 2)
      throw new CheckFailed('a ping is answered while calls are worked on', 'it waited for them');
    for (const answered of answers) await exam.subject.told(answered);
  } catch (error) {
    throw error instanceof PeerClosed ? new CheckFailed(`answers to ${count} calls at once`, error.message) : error;
  }
}

/** A long call, one that is taken back while it is in line, and a short one: answered in this order, but for the second, which never runs. */
async function inLine(exam: TestContext): Promise<string | void> {
  exam.needsConformance();
  const { ahead = 0, concurrency } = exam.details();
  if (ahead === 0) return 'it takes none ahead';
  if (concurrency !== 1) throw new CheckFailed('a concurrency of 1, for calls to be in line', String(concurrency));
  const peer = await exam.subject.reconnect();
  const first = peer.arrivals.length;
  const context = exam.context();
  const [long] = peer.callAll([{ context, ...exam.told('work', { ms: LONG_MS }) }]) as [Promise<TestAnswer>];
  peer.takeBack({ context, ...exam.told('note', { line: TAKEN_BACK }) });
  const [short] = peer.callAll([{ context, ...exam.told('work', { ms: SHORT_MS }) }]) as [Promise<TestAnswer>];
  const { seqId } = await exam.subject.told(long);
  await exam.subject.told(short);
  if (peer.arrivals[first] !== seqId)
    throw new CheckFailed('the first of two calls is answered first', 'they overtook each other');
  const lines = (await exam.value('noted')) as string[];
  if (lines.includes(TAKEN_BACK)) throw new CheckFailed('a call that was taken back in line does not run', 'it ran');
}

async function nested(exam: TestContext): Promise<void> {
  const { calls } = exam.door;
  const before = calls.length;
  const answer = await exam.ask({ ...exam.told('relay', { value: 'hello' }), context: exam.context({}, NESTED_MS) });
  const call = calls[before];
  if (call === undefined)
    throw new CheckFailed(
      'a call of Conformance.echoText at KATAMARI_MESH',
      `none came there; ${describeAnswer(answer)}`,
    );
  const got = exam.returned('relay', answer);
  if (got !== throughMesh('hello')) throw new CheckFailed(JSON.stringify(throughMesh('hello')), JSON.stringify(got));
  if (call.service !== 'Conformance')
    throw new CheckFailed('service Conformance, in the context or before the method name', `service "${call.service}"`);
  if (call.timeLeftMs > NESTED_MS || call.timeLeftMs <= 0)
    throw new CheckFailed(
      `a CallContext with what is left of ${NESTED_MS} ms`,
      `${Math.round(call.timeLeftMs)} ms (60 s means none)`,
    );
  if (!call.traceparent.includes(TRACE_ID))
    throw new CheckFailed(`a traceparent of trace ${TRACE_ID}`, `traceparent "${call.traceparent}"`);
}

/** Every one of these needs the service. */
export const HANDLER_CHECKS: CheckGroup = {
  title: HANDLERS.title,
  checks: HANDLERS.checks.map((check): Check => ({
    ...check,
    async run(exam) {
      exam.needsConformance();
      return check.run(exam);
    },
  })),
};

/** Lines of stacks as they are written in several languages. */
const STACK = /^\s+at .+[:(]\d+|Traceback \(most recent|File ".+", line \d+|\.(rb|py|ts|js|php|pl|cpp|java|go):\d+/m;
const INTERNAL_ERROR = 6;
const REFUSED = 'No pool offers';
const LARGE_BYTES = 1_000_000;
const LONG_MS = 500;
const SHORT_MS = 10;
const TAKEN_BACK = 'taken back while it was in line';
const AT_ONCE_MAX = 8;
const NESTED_MS = 20_000;
const NOTED_EVERY_MS = 20;

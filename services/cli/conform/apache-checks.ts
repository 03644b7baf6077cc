// Checks with an independent implementation: Apache's `thrift` package calls the chassis without a CallContext, like
// any Thrift client. This finds mistakes that the kit of a chassis and our encoder or reader share. Our codec also
// reads every reply, and both must find the same values.

import { decodeStruct } from '../../../core/idl/mod.ts';
import { chassisInterface } from '../../../core/rpc/mod.ts';
import { readApplicationException, type Method } from '../../../core/thrift/mod.ts';
import { ApacheClient, type ApacheCall, type ApacheReply } from './apache-client.ts';
import { CheckFailed, CheckSkipped } from './check-result.ts';
import { UNKNOWN_METHOD } from './messages.ts';
import type { CheckGroup, TestContext } from './test-context.ts';
import { PeerClosed } from './test-link.ts';
import { isSame, shown, structValue } from './values.ts';

export const APACHE: CheckGroup = {
  title: "Apache's Thrift client",
  checks: [
    {
      id: 'apache-control',
      what: "Apache's client reads describe and ping",
      advice:
        'reply to a multiplexed call with the bare method name (describe, not katamari.Chassis:describe), like TMultiplexedProcessor: Apache clients choose the reader of a reply by this name',
      run: (test) =>
        withClient(test, async (call) => {
          const described = returned(DESCRIBE, await call({ service: CONTROL, method: DESCRIBE })) as
            | { serviceName?: string }
            | undefined;
          const { serviceName } = test.requireDetails();
          if (described?.serviceName !== serviceName)
            throw new CheckFailed(`serviceName ${shown(serviceName)}`, `serviceName ${shown(described?.serviceName)}`);
          returned(PING, await call({ service: CONTROL, method: PING }));
        }),
    },
    {
      id: 'apache-methods',
      what: "Apache's client reads results and exceptions of its methods",
      advice:
        'write results as generated Thrift code does: the value in field 0, a declared exception in its own field, any other error as TApplicationException in a message of type 3',
      run: (test) =>
        withClient(test, async (call) => {
          const calls = methodCalls(test);
          if (calls.length === 0) throw new CheckSkipped('no method may be called: see --call');
          for (const sent of calls) await call(sent);
        }),
    },
    {
      id: 'apache-values',
      what: "Apache's client gets back the values that it sends",
      advice: 'check the type of that field: element types and sizes of containers, signed numbers, UTF-8',
      run: (test) =>
        withClient(test, async (call) => {
          test.requireConformance();
          const method = test.method('echo');
          for (const style of ['plain', 'bare', 'most', 'least'] as const) {
            const args = structValue(method.args, style) as { value: Record<string, unknown> };
            const got = returned(method, await call({ method, args })) as Record<string, unknown>;
            for (const [name, value] of Object.entries(args.value)) {
              if (!isSame(value, got[name]))
                throw new CheckFailed(`${name} ${shown(value)}`, `${name} ${shown(got[name])}`);
            }
          }
        }),
    },
    {
      id: 'apache-exceptions',
      what: "Apache's client tells declared exceptions from others",
      advice:
        'reply to a declared exception with message type 2 (reply) and its field of the result struct; anything else with message type 3 and a TApplicationException (message in field 1, type in field 2)',
      run: (test) =>
        withClient(test, async (call) => {
          test.requireConformance();
          const method = test.method('refuse');
          const args = { why: 'no tea left', number: 40 };
          const refused = await call({ method, args });
          if (refused.kind !== 'result' || !isSame(refused.fields, { declared: args }))
            throw new CheckFailed(`exception Declared ${shown(args)}`, describeReply(refused));
          const collapsed = await call({ method: test.method('collapse'), args: { why: 'the roof fell in' } });
          if (collapsed.kind !== 'exception' || collapsed.type !== INTERNAL_ERROR)
            throw new CheckFailed(`TApplicationException of type ${INTERNAL_ERROR}`, describeReply(collapsed));
        }),
    },
    {
      id: 'apache-oneway',
      what: "a oneway call by Apache's client runs and gets no reply",
      advice:
        "run the handler and write nothing when the message is of type 4 (oneway): Apache's client expects no reply",
      run: (test) =>
        withClient(test, async (call, client) => {
          test.requireConformance();
          client.tell({ method: test.method('note'), args: { line: NOTED } });
          const endMs = performance.now() + test.timeoutMs;
          for (;;) {
            const lines = returned(test.method('noted'), await call({ method: test.method('noted') })) as string[];
            if (lines.includes(NOTED)) return;
            if (performance.now() > endMs) throw new CheckFailed(`"${NOTED}" in the result of noted`, shown(lines));
            await test.chassis.waitForExit(POLL_MS);
          }
        }),
    },
    {
      id: 'apache-unknown-method',
      what: "Apache's client reads TApplicationException 1 for an unknown method",
      advice:
        'reply with message type 3, the name of the method that was called, and TApplicationException type 1 (unknown method)',
      run: (test) =>
        withClient(test, async (call) => {
          for (const service of ['', CONTROL]) {
            const reply = await call({ service, method: UNKNOWN });
            if (reply.kind === 'exception' && reply.type === UNKNOWN_METHOD_TYPE) continue;
            throw new CheckFailed(
              `TApplicationException of type ${UNKNOWN_METHOD_TYPE} for method ${service === '' ? '' : `${service}:`}${UNKNOWN.name}`,
              describeReply(reply),
            );
          }
        }),
    },
    {
      id: 'apache-pipelining',
      what: "Apache's client gets each reply for its own call",
      advice: 'copy the sequence id of each call to its reply, also when calls arrive together',
      run: (test) =>
        withClient(test, async (call) => {
          const calls = test.hasConformance
            ? Array.from({ length: CALLS }, (_, i): ApacheCall => ({
                method: test.method('echoText'),
                args: { value: `word ${i}` },
              }))
            : [
                ...Array.from({ length: CALLS }, () => ({ service: CONTROL, method: PING })),
                ...methodCalls(test).slice(0, METHODS_MAX),
              ];
          const replies = await Promise.allSettled(calls.map((sent) => call(sent)));
          for (const [i, reply] of replies.entries()) {
            if (reply.status === 'rejected') throw reply.reason;
            const { method, args } = calls[i] as ApacheCall;
            if (!test.hasConformance) continue;
            const got = returned(method, reply.value);
            if (got !== args?.['value'])
              throw new CheckFailed(`${shown(args?.['value'])} for the call that sent it`, shown(got));
          }
        }),
    },
  ],
};

type CallApache = (call: ApacheCall) => Promise<ApacheReply>;

/** Runs a check with a connection of Apache's client instead of our own. */
async function withClient(
  test: TestContext,
  check: (call: CallApache, client: ApacheClient) => Promise<void>,
): Promise<void> {
  const own = [...test.requireInterface().methods.values()];
  const client = new ApacheClient(await test.chassis.release(), test.timeoutMs, {
    '': [...own, UNKNOWN],
    [CONTROL]: [DESCRIBE, PING, UNKNOWN],
  });
  const call = async (sent: ApacheCall): Promise<ApacheReply> => {
    const { service, method } = sent;
    try {
      const reply = await test.chassis.withExitReason(client.call(sent));
      checkReaders(method, reply);
      return reply;
    } catch (error) {
      if (!(error instanceof PeerClosed)) throw error;
      const name = service === undefined || service === '' ? method.name : `${service}:${method.name}`;
      throw new CheckFailed(`a reply to ${name} that Apache's client accepts`, error.message);
    }
  };
  try {
    await check(call, client);
  } finally {
    await client.close();
  }
}

/** Checks that our codec and Apache's reader find the same values in a reply. @throws CheckFailed */
function checkReaders(method: Method, reply: ApacheReply): void {
  let own: unknown;
  try {
    own = reply.kind === 'exception' ? readApplicationException(reply.body) : decodeStruct(method.result, reply.body);
  } catch (error) {
    throw new CheckFailed(`a reply to ${method.name} that Katamari can read`, (error as Error).message);
  }
  const apache = reply.kind === 'exception' ? { message: reply.message, type: reply.type } : reply.fields;
  if (!isSame(own, apache))
    throw new CheckFailed(
      `a reply to ${method.name} that both implementations read alike`,
      `Apache's client reads ${shown(apache)}, Katamari reads ${shown(own)}`,
    );
}

/** Returns the value of a reply. @throws CheckFailed if it is an exception or lacks the value of the method */
function returned(method: Method, reply: ApacheReply): unknown {
  const expected = `a result of ${method.name}`;
  if (reply.kind === 'exception') throw new CheckFailed(expected, describeReply(reply));
  const value = reply.fields['success'];
  if (value === undefined && method.returns.kind !== 'void')
    throw new CheckFailed(`${expected}, in field 0`, describeReply(reply));
  return value;
}

/** Returns the harmless calls of its own methods. Oneway methods are sent as ordinary calls, as the mesh does. */
function methodCalls(test: TestContext): ApacheCall[] {
  return test.callables.map(({ method, args }) => ({ method, args: decodeStruct(method.args, args) }));
}

function describeReply(reply: ApacheReply): string {
  return reply.kind === 'exception'
    ? `TApplicationException of type ${reply.type}, ${shown(reply.message)}`
    : `a result ${shown(reply.fields)}`;
}

function controlMethod(name: string): Method {
  const method = chassisInterface().methods.get(name);
  if (method === undefined) throw new Error(`idl/chassis.thrift has no method ${name}`);
  return method;
}

const CONTROL = 'katamari.Chassis';
const DESCRIBE: Method = controlMethod('describe');
const PING: Method = controlMethod('ping');
/** A method without arguments and result that the chassis does not have. */
const UNKNOWN: Method = { ...PING, name: UNKNOWN_METHOD };
const UNKNOWN_METHOD_TYPE = 1;
const INTERNAL_ERROR = 6;
const CALLS = 32;
/** Limit of own methods in one pipeline: a slow method would delay the replies to the others. */
const METHODS_MAX = 3;
const NOTED = "noted by Apache's client";
const POLL_MS = 20;

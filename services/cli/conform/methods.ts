// Checks that call the chassis' own methods: those that the IDL marks as read-only or idempotent, with arguments
// generated from the IDL, and those named with --call. Any reply that the interface allows passes.

import { encodeParams, encodeStruct, nameOfType } from '../../../core/idl/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import type { Interface, Method } from '../../../core/thrift/mod.ts';
import { ExitError, EXIT, didYouMean } from '../../config/mod.ts';
import { CheckFailed } from './check-result.ts';
import { decodeResult, type Callable, type Check, type TestContext } from './test-context.ts';
import { describeTestReply, type TestReply } from './test-link.ts';
import { structValue } from './values.ts';

/** The method options of the command line. */
export interface MethodSelection {
  /** Methods not to call: `Service.method` or `method`. */
  readonly skip: readonly string[];
  /** Methods to call, with their arguments as JSON, or '' for arguments generated from the IDL. */
  readonly call: readonly { readonly method: string; readonly json: string }[];
}

/** Parses the words after --call: a method, then optionally the JSON of its arguments. @throws ExitError usage */
export function readCalls(words: readonly string[]): MethodSelection['call'] {
  const calls: { method: string; json: string }[] = [];
  for (const word of words) {
    const last = calls.at(-1);
    if (!/^\s*[[{]/.test(word)) calls.push({ method: word, json: '' });
    else if (last !== undefined && last.json === '') last.json = word;
    else throw new ExitError(EXIT.usage, `--call: found ${word}, expected a method name before it, such as Shop.order`);
  }
  return calls;
}

/** Returns the methods that may be called. @throws ExitError usage if a name is not in this interface */
export function callablesOf(known: Interface, selection: MethodSelection): Callable[] {
  const skipped = new Set(selection.skip.map((name) => methodNamed(known, '--skip', name).name));
  const requested = selection.call.map(({ method: name, json }) => {
    const method = methodNamed(known, '--call', name);
    return { method, args: json === '' ? generatedArguments(method) : fromJson(name, method, json) };
  });
  const named = new Set(requested.map(({ method }) => method.name));
  const harmless = [...known.methods.values()]
    .filter((method) => method.isIdempotent && !named.has(method.name) && method.annotations['conform'] !== 'skip')
    .map((method) => ({ method, args: generatedArguments(method) }));
  return [...requested, ...harmless].filter(({ method }) => !skipped.has(method.name));
}

/** Returns one check for each method. */
export function methodChecks(callables: readonly Callable[]): Check[] {
  return callables.map(({ method, args }) => ({
    id: `call-${method.name}`,
    what: `${method.name} returns a reply that its interface allows`,
    advice:
      'reply with the result struct of the method: the value in field 0, or a declared exception in its own field',
    async run(test) {
      const reply = await test.call({ name: method.name, args });
      const note = noteFor(method, reply);
      if (note === undefined) return checkName(method, reply);
      return note;
    },
  }));
}

/** Returns a note on a reply that is allowed but is not a normal result. @throws CheckFailed */
function noteFor(method: Method, reply: TestReply): string | undefined {
  if (reply.isException) return `replied with ${describeTestReply(reply)}`;
  const result = decodeResult(method, reply);
  const thrown = method.throws.filter((field) => result[field.name] !== undefined);
  const hasValue = result['success'] !== undefined;
  if (thrown.length + (hasValue ? 1 : 0) > 1)
    throw new CheckFailed(
      'a value or one exception',
      `several fields in one result: ${Object.keys(result).join(', ')}`,
    );
  if (thrown[0] !== undefined) return `replied with its declared exception ${nameOfType(thrown[0].type)}`;
  if (!hasValue && !method.oneway && method.returns.kind !== 'void')
    throw new CheckFailed(`a ${method.returns.kind} in field 0 of the result`, 'an empty result');
  return undefined;
}

/** Clients in some languages compare the name in the reply with that of the call. @throws CheckFailed */
function checkName(method: Method, reply: TestReply): undefined {
  if (reply.name !== method.name)
    throw new CheckFailed(`the name ${method.name} in the head of the reply`, JSON.stringify(reply.name));
}

function methodNamed(known: Interface, option: string, name: string): Method {
  const [, service = known.service, method = ''] = /^(?:(.*)\.)?([^.]*)$/.exec(name) ?? [];
  const found = service === known.service ? known.methods.get(method) : undefined;
  if (found !== undefined) return found;
  const names = [...known.methods.keys()];
  throw new ExitError(
    EXIT.usage,
    `${option}: ${known.service} has no method ${JSON.stringify(name)}${didYouMean(method, names) || `; it has ${names.join(', ')}`}`,
  );
}

function generatedArguments(method: Method): Buffer {
  return encodeStruct(method.args, structValue(method.args, 'plain'));
}

function fromJson(name: string, method: Method, json: string): Buffer {
  try {
    return encodeParams(method, JSON.parse(json) as unknown);
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof KatamariError)
      throw new ExitError(EXIT.usage, `--call ${name}: ${error.message}`, error);
    throw error;
  }
}

/** Returns the names of the methods that are not called. */
export function leftAlone(test: TestContext): string[] {
  const called = new Set(test.callables.map(({ method }) => method.name));
  return [...test.requireInterface().methods.keys()].filter((name) => !called.has(name));
}

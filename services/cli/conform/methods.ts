// Checks that call methods of the chassis' own: those that are said to be read-only or idempotent, with arguments made from the IDL, and those that
// the author named with --call. Whatever comes is right, so long as it is an answer that the interface allows.

import { encodeParams, encodeStruct, nameOfType } from '../../../core/idl/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import type { Interface, Method } from '../../../core/thrift/mod.ts';
import { ExitError, EXIT, didYouMean } from '../../config/mod.ts';
import { CheckFailed } from './check-result.ts';
import { decoded, type Callable, type Check, type TestContext } from './test-context.ts';
import { describeAnswer, type TestAnswer } from './test-link.ts';
import { structValue } from './values.ts';

/** What the command line says of methods. */
export interface MethodSelection {
  /** Names of methods not to call: `Service.method` or `method`. */
  readonly skip: readonly string[];
  /** Methods to call, with their arguments as JSON, or '' for arguments made from the IDL. */
  readonly call: readonly { readonly method: string; readonly json: string }[];
}

/** The words behind --call: a method, and the JSON of its arguments if a word follows that begins one. @throws CliError usage */
export function readCalls(words: readonly string[]): MethodSelection['call'] {
  const calls: { method: string; json: string }[] = [];
  for (const word of words) {
    const last = calls.at(-1);
    if (!/^\s*[[{]/.test(word)) calls.push({ method: word, json: '' });
    else if (last !== undefined && last.json === '') last.json = word;
    else
      throw new ExitError(
        EXIT.usage,
        `--call: found ${word}, expected the name of a method before it, such as Shop.order`,
      );
  }
  return calls;
}

/** The methods that may be called. @throws CliError usage when a name is none of this interface's */
export function callablesOf(known: Interface, wishes: MethodSelection): Callable[] {
  const skipped = new Set(wishes.skip.map((name) => methodNamed(known, '--skip', name).name));
  const wished = wishes.call.map(({ method: name, json }) => {
    const method = methodNamed(known, '--call', name);
    return { method, args: json === '' ? invented(method) : fromJson(name, method, json) };
  });
  const named = new Set(wished.map(({ method }) => method.name));
  const harmless = [...known.methods.values()]
    .filter((method) => method.isIdempotent && !named.has(method.name) && method.annotations['conform'] !== 'skip')
    .map((method) => ({ method, args: invented(method) }));
  return [...wished, ...harmless].filter(({ method }) => !skipped.has(method.name));
}

/** One check for each. */
export function methodChecks(callables: readonly Callable[]): Check[] {
  return callables.map(({ method, args }) => ({
    id: `call-${method.name}`,
    what: `${method.name} answers as its interface says`,
    advice:
      'answer with the result struct of the method: its value in field 0, a declared exception in the field of that exception',
    async run(exam) {
      const answer = await exam.ask({ name: method.name, args });
      const note = noteOn(method, answer);
      if (note === undefined) return checkName(method, answer);
      return note;
    },
  }));
}

/** What an author should know of an answer that is allowed and still no result. @throws Fault */
function noteOn(method: Method, answer: TestAnswer): string | undefined {
  if (answer.isException) return `answered with ${describeAnswer(answer)}`;
  const result = decoded(method, answer);
  const thrown = method.throws.filter((field) => result[field.name] !== undefined);
  const hasValue = result['success'] !== undefined;
  if (thrown.length + (hasValue ? 1 : 0) > 1)
    throw new CheckFailed('a value or one exception', `several in one result: ${Object.keys(result).join(', ')}`);
  if (thrown[0] !== undefined) return `answered with its declared exception ${nameOfType(thrown[0].type)}`;
  if (!hasValue && !method.oneway && method.returns.kind !== 'void')
    throw new CheckFailed(`a ${method.returns.kind} in field 0 of the result`, 'an empty result');
  return undefined;
}

/** Clients of some languages compare the name in the answer with that of the call. @throws Fault */
function checkName(method: Method, answer: TestAnswer): undefined {
  if (answer.name !== method.name)
    throw new CheckFailed(`the name ${method.name} in the head of the answer`, JSON.stringify(answer.name));
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

function invented(method: Method): Buffer {
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

/** The head of the report says which methods were left alone. */
export function leftAlone(exam: TestContext): string[] {
  const called = new Set(exam.callables.map(({ method }) => method.name));
  return [...exam.known().methods.keys()].filter((name) => !called.has(name));
}

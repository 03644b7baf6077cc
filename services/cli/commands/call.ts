// `katamari call Service[@version].method ...`: one call through the JSON-RPC faceplate, its result as JSON on standard output.
// Arguments go out as the text the user wrote wherever that is JSON, so that a 64-bit number keeps its digits.

import { parseIdl } from '../../../core/idl/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import { ExitError, EXIT, type ExitCode, parseDuration } from '../../config/mod.ts';
import type { AdminClient, RpcAnswer, AdminRpcError } from '../kit/admin-client.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { describeMethod, exampleParams } from '../kit/method-help.ts';
import { printable } from '../kit/terminal.ts';

export interface CallCommandOptions extends ClientOptions {
  readonly timeout?: string | undefined;
  readonly tags?: string | undefined;
  readonly key?: string | undefined;
  readonly repeat?: string | undefined;
  readonly verbose?: boolean | undefined;
}

/** What a call is addressed to; '' for what was not said. */
export interface CallTarget {
  readonly service: string;
  readonly version: string;
  readonly method: string;
}

export async function runCall(
  surroundings: CliContext,
  targetText: string,
  args: readonly string[],
  options: CallCommandOptions,
): Promise<ExitCode> {
  const { terminal } = surroundings;
  const target = parseTarget(targetText);
  const timeoutMs = readTimeout(options.timeout);
  const repeat = readRepeat(options.repeat);
  const client = connect(surroundings, options);
  if (target.method === '') throw await namesNoMethod(client, target);
  const params = paramsText(args, args.includes('-') ? await surroundings.readInput() : '');
  const headers = {
    ...(timeoutMs === undefined ? {} : { 'katamari-timeout-ms': String(timeoutMs) }),
    ...(options.tags === undefined ? {} : { 'katamari-tags': options.tags }),
    ...(options.key === undefined ? {} : { 'katamari-key': options.key }),
  };
  const method = `${target.service}${target.version === '' ? '' : `@${target.version}`}.${target.method}`;
  let exitCode: ExitCode = EXIT.done;
  for (let round = 0; round < repeat; round++) {
    // The mesh settles the call by its own deadline; this only guards against a mesh that hangs.
    const answer = await client.call('/rpc', method, params, headers, (timeoutMs ?? MESH_TIMEOUT_MS_MAX) + SETTLE_MS);
    if (answer.error === undefined)
      terminal.write(`${JSON.stringify(answer.result ?? null, null, repeat > 1 ? 0 : 2)}\n`);
    else {
      terminal.writeError(`${await describeError(client, target, answer.error)}\n`);
      exitCode = EXIT.failed;
    }
    if (options.verbose === true) terminal.writeError(`${describeContext(answer)}\n`);
  }
  return exitCode;
}

/** `Service.method`, `Service@1.0.0.method`; without a method when there is no dot after the version. */
export function parseTarget(text: string): CallTarget {
  const [, service, version = '', method = ''] =
    /^([A-Za-z_][\w.]*?)(?:@([^/\s]*?))?(?:\.([A-Za-z_]\w*))?$/.exec(text) ?? [];
  if (service === undefined) {
    throw new ExitError(
      EXIT.usage,
      `found ${JSON.stringify(text)}, expected Service.method or Service@version.method, such as Calculator@1.0.0.add`,
    );
  }
  return { service, version, method };
}

/**
 * The arguments of the command line as JSON text for `params`; undefined for none. One argument that is a JSON object or array is taken
 * whole, `-` is standard input, `key=value` pairs make an object, anything else is taken by position.
 */
export function paramsText(args: readonly string[], input: string): string | undefined {
  if (args.length === 0) return undefined;
  const [only = ''] = args;
  if (args.length === 1 && only === '-') return wholeJson(input.trim(), 'standard input');
  if (args.includes('-'))
    throw new ExitError(
      EXIT.usage,
      'found "-" among other arguments, expected it alone: standard input is then all of the arguments',
    );
  if (args.length === 1 && /^\s*[[{]/.test(only)) return wholeJson(only.trim(), 'the argument');
  const pairs = args.map((arg) => PAIR.exec(arg));
  if (pairs.every((pair) => pair !== null)) {
    const names = pairs.map(([, name]) => name as string);
    const twice = names.find((name, index) => names.indexOf(name) !== index);
    if (twice !== undefined) throw new ExitError(EXIT.usage, `found "${twice}=" twice, expected it once`);
    return `{${pairs.map(([, name, value]) => `${JSON.stringify(name)}:${valueText(value as string)}`).join(',')}}`;
  }
  const stray = args.find((_, index) => pairs[index] === null);
  if (pairs.some((pair) => pair !== null)) {
    throw new ExitError(
      EXIT.usage,
      `found ${JSON.stringify(stray)} beside key=value pairs, expected all arguments by name or all by position (for text with "=" write a JSON array)`,
    );
  }
  return `[${args.map(valueText).join(',')}]`;
}

/** One argument as JSON text: as it stands when it is JSON, else as a string. Whole numbers too large for JSON's readers become text. */
function valueText(text: string): string {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'number' && /^-?\d+$/.test(text) && !Number.isSafeInteger(value)
      ? JSON.stringify(text)
      : text;
  } catch {
    return JSON.stringify(text);
  }
}

/** A JSON object or array, as it stands. @throws CliError usage */
export function wholeJson(text: string, source: string): string {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return text;
  } catch (error) {
    throw new ExitError(EXIT.usage, `${source} is not JSON: ${printable((error as Error).message)}`, error);
  }
  throw new ExitError(
    EXIT.usage,
    `found ${printable(text.slice(0, 60))} on ${source}, expected a JSON object (by name) or array (by position)`,
  );
}

async function describeError(client: AdminClient, target: CallTarget, error: AdminRpcError): Promise<string> {
  const { exception, ...fields } = error.data ?? {};
  if (error.code === DECLARED_EXCEPTION && typeof exception === 'string') {
    return `${target.service}.${target.method} threw ${printable(exception)} ${JSON.stringify(fields)}`;
  }
  const retry =
    typeof error.data?.['retryAfterMs'] === 'number' ? `\nTry again in ${error.data['retryAfterMs']} ms.` : '';
  const said = `${printable(error.message)} (${error.code})${retry}`;
  if (error.code === INVALID_PARAMS) return `${said}${await signatureHint(client, target)}`;
  if (error.code === METHOD_NOT_FOUND) {
    const known = await interfaceOf(client, target);
    return known === undefined ? said : `${said}\n${listMethods(known)}`;
  }
  return said;
}

async function signatureHint(client: AdminClient, target: CallTarget): Promise<string> {
  const method = (await interfaceOf(client, target))?.methods.get(target.method);
  if (method === undefined) return '';
  const shown = Object.entries(exampleParams(method)).map(
    ([name, value]) => `${name}=${shellWord(JSON.stringify(value))}`,
  );
  return `\n\n${describeMethod(method)}\n\nFor example: ${['katamari', 'call', `${target.service}.${target.method}`, ...shown].join(' ')}`;
}

async function namesNoMethod(client: AdminClient, target: CallTarget): Promise<ExitError> {
  const known = await interfaceOf(client, target);
  const methods = known === undefined ? '' : `\n${listMethods(known)}`;
  return new ExitError(EXIT.usage, `"${target.service}" names no method, expected ${target.service}.method${methods}`);
}

/** The signatures of a service's methods, for people who named none of them. */
export function listMethods(known: Interface): string {
  return `${known.service} has:\n${[...known.methods.values()].map((method) => `  ${describeMethod(method).split('\n')[0]}`).join('\n')}`;
}

/** Only for hints: whatever goes wrong here, the hint is left out. */
async function interfaceOf(client: AdminClient, { service, version }: CallTarget): Promise<Interface | undefined> {
  try {
    const text = await client.idl(service, version);
    return text === undefined
      ? undefined
      : parseIdl({ main: 'mesh.thrift', files: { 'mesh.thrift': text } }).services.get(service);
  } catch {
    return undefined;
  }
}

function describeContext({ version, timing }: RpcAnswer): string {
  const times = [...timing.matchAll(/([A-Za-z]+);dur=([\d.]+)/g)];
  return `version ${version === '' ? 'unknown' : printable(version)}${times.map(([, name, ms]) => `, ${name} ${Number(ms).toFixed(1)} ms`).join('')}`;
}

/** A word that a shell takes as it is, or quoted. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

function readTimeout(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const parsed = parseDuration(text);
  if (parsed.ok && parsed.value > 0) return parsed.value;
  throw new ExitError(
    EXIT.usage,
    `--timeout: found ${JSON.stringify(text)}, expected ${parsed.ok ? 'a duration above 0' : parsed.expected}`,
  );
}

function readRepeat(text: string | undefined): number {
  if (text === undefined) return 1;
  const times = Number(text);
  if (/^\d+$/.test(text) && times >= 1 && times <= 1_000_000) return times;
  throw new ExitError(EXIT.usage, `--repeat: found ${JSON.stringify(text)}, expected a whole number, 1 to 1000000`);
}

const PAIR = /^([A-Za-z_]\w*)=(.*)$/s;
const DECLARED_EXCEPTION = -32050;
const INVALID_PARAMS = -32602;
const METHOD_NOT_FOUND = -32601;
/** Upper bound of a call whose timeout only the mesh knows. */
const MESH_TIMEOUT_MS_MAX = 3_600_000;
const SETTLE_MS = 5_000;

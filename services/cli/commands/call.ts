// `katamari call Service[@version].method ...` makes one call through the JSON-RPC faceplate and prints the result
// as JSON. An argument that is valid JSON is sent as the user wrote it, so 64-bit numbers keep all digits.

import { parseDuration } from '../../../core/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import { ExitError, EXIT, type ExitCode } from '../../config/mod.ts';
import type { AdminClient, RpcAnswer, AdminRpcError } from '../kit/admin-client.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { describeMethod, exampleParams } from '../kit/method-help.ts';
import { printable } from '../kit/terminal.ts';

export interface CallCommandOptions extends ClientOptions {
  readonly timeout?: string | undefined;
  readonly tags?: string | undefined;
  readonly key?: string | undefined;
  readonly minCoverage?: string | undefined;
  readonly repeat?: string | undefined;
  readonly verbose?: boolean | undefined;
}

/** Service, version and method of a call; '' for a part that is not given. */
export interface CallTarget {
  readonly service: string;
  readonly version: string;
  readonly method: string;
}

export async function runCall(
  context: CliContext,
  targetText: string,
  args: readonly string[],
  options: CallCommandOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const target = parseTarget(targetText);
  const timeoutMs = readTimeout(options.timeout);
  const repeat = readRepeat(options.repeat);
  const client = connect(context, options);
  if (target.method === '') throw await missingMethodError(client, target);
  const params = paramsText(args, args.includes('-') ? await context.readInput() : '');
  const headers = {
    ...(timeoutMs === undefined ? {} : { 'katamari-timeout-ms': String(timeoutMs) }),
    ...(options.tags === undefined ? {} : { 'katamari-tags': options.tags }),
    ...(options.key === undefined ? {} : { 'katamari-key': options.key }),
    ...(options.minCoverage === undefined ? {} : { 'katamari-min-coverage': options.minCoverage }),
  };
  const method = `${target.service}${target.version === '' ? '' : `@${target.version}`}.${target.method}`;
  let exitCode: ExitCode = EXIT.done;
  for (let round = 0; round < repeat; round++) {
    // The mesh enforces the deadline of the call. This timeout is longer and covers a mesh that hangs.
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

/** Parses `Service.method` or `Service@1.0.0.method`. The method is '' if there is none. */
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
 * Converts command-line arguments to JSON text for `params`; undefined without arguments. A single JSON object or
 * array is used as it is, `-` reads standard input, `key=value` pairs become an object, and other arguments are
 * passed by position.
 */
export function paramsText(args: readonly string[], input: string): string | undefined {
  if (args.length === 0) return undefined;
  const [only = ''] = args;
  if (args.length === 1 && only === '-') return wholeJson(input.trim(), 'standard input');
  if (args.includes('-'))
    throw new ExitError(
      EXIT.usage,
      'found "-" among other arguments, expected it alone, because standard input holds all arguments',
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

/**
 * Converts one argument to JSON text: valid JSON stays as it is, other text becomes a string. Integers beyond the
 * safe range become strings, because JSON parsers would round them.
 */
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

/** Returns the text if it is a JSON object or array. @throws ExitError with exit code `usage` */
export function wholeJson(text: string, source: string): string {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return text;
  } catch (error) {
    throw new ExitError(EXIT.usage, `${source} is not JSON: ${printable((error as Error).message)}`, error);
  }
  throw new ExitError(
    EXIT.usage,
    `found ${printable(text.slice(0, 60))} in ${source}, expected a JSON object (by name) or array (by position)`,
  );
}

async function describeError(client: AdminClient, target: CallTarget, error: AdminRpcError): Promise<string> {
  const { exception, ...fields } = error.data ?? {};
  if (error.code === DECLARED_EXCEPTION && typeof exception === 'string') {
    return `${target.service}.${target.method} threw ${printable(exception)} ${JSON.stringify(fields)}`;
  }
  const retry =
    typeof error.data?.['retryAfterMs'] === 'number' ? `\nTry again in ${error.data['retryAfterMs']} ms.` : '';
  const message = `${printable(error.message)} (${error.code})${retry}`;
  if (error.code === INVALID_PARAMS) return `${message}${await signatureHint(client, target)}`;
  if (error.code === METHOD_NOT_FOUND) {
    const iface = await interfaceOf(client, target);
    return iface === undefined ? message : `${message}\n${listMethods(iface)}`;
  }
  return message;
}

async function signatureHint(client: AdminClient, target: CallTarget): Promise<string> {
  const method = (await interfaceOf(client, target))?.methods.get(target.method);
  if (method === undefined) return '';
  const shown = Object.entries(exampleParams(method)).map(
    ([name, value]) => `${name}=${shellWord(JSON.stringify(value))}`,
  );
  return `\n\n${describeMethod(method)}\n\nFor example: ${['katamari', 'call', `${target.service}.${target.method}`, ...shown].join(' ')}`;
}

async function missingMethodError(client: AdminClient, target: CallTarget): Promise<ExitError> {
  const iface = await interfaceOf(client, target);
  const methods = iface === undefined ? '' : `\n${listMethods(iface)}`;
  return new ExitError(
    EXIT.usage,
    `"${target.service}" has no method name, expected ${target.service}.method${methods}`,
  );
}

/** Lists the signatures of all methods of a service. */
export function listMethods(iface: Interface): string {
  return `${iface.service} has:\n${[...iface.methods.values()].map((method) => `  ${describeMethod(method).split('\n')[0]}`).join('\n')}`;
}

/** Returns the interface of the service, for hints in error messages; undefined if it cannot be loaded. */
async function interfaceOf(client: AdminClient, { service, version }: CallTarget): Promise<Interface | undefined> {
  try {
    return await client.interfaceOf(service, version);
  } catch {
    return undefined;
  }
}

function describeContext({ version, timing, coverage, missing }: RpcAnswer): string {
  const times = [...timing.matchAll(/([A-Za-z]+);dur=([\d.]+)/g)];
  return [
    `version ${version === '' ? 'unknown' : printable(version)}`,
    ...(coverage === '' ? [] : [`shards ${printable(coverage)}`]),
    ...(missing === '' ? [] : [`missing ${printable(missing)}`]),
    ...times.map(([, name, ms]) => `${name} ${Number(ms).toFixed(1)} ms`),
  ].join(', ');
}

/** Quotes a word for a POSIX shell if needed. */
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
/** Longest timeout that a mesh can set; used if the command does not set one. */
const MESH_TIMEOUT_MS_MAX = 3_600_000;
const SETTLE_MS = 5_000;

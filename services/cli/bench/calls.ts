// Encodes the calls of a bench as frames. Arguments from the command line or a file are encoded once, before the
// first call is due. Deadline, key and tags travel in a THeader; without them the frames are plain, which costs the
// mesh least.

import { encodeParams } from '../../../core/idl/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import { HeaderEncoding } from '../../../core/thrift/encodings/mod.ts';
import { type Method, frameMessage, MESSAGE_TYPE, NOTHING } from '../../../core/thrift/mod.ts';
import { ExitError, EXIT } from '../../config/mod.ts';
import { paramsText, wholeJson } from '../commands/call.ts';
import type { CliContext } from '../kit/context.ts';
import { describeMethod } from '../kit/method-help.ts';
import type { BenchPlan } from './plan.ts';
import { readFileSync } from 'node:fs';
import path from 'node:path';

/** The arguments of one call as JSON text; '' for none. */
interface Payload {
  readonly text: string;
  /** Its position in the input, for error messages. */
  readonly source: string;
}

/** @throws ExitError usage */
export async function readPayloads(
  context: CliContext,
  args: readonly string[],
  from: string | undefined,
): Promise<readonly Payload[]> {
  const { cwd } = context;
  if (from !== undefined) {
    if (args.length > 0)
      throw new ExitError(EXIT.usage, `found arguments beside --from ${from}, expected one of the two`);
    const lines = readText(cwd, from).split('\n');
    const payloads = lines.flatMap((line, index) => {
      const source = `${from}:${index + 1}`;
      return line.trim() === '' ? [] : [{ text: wholeJson(line.trim(), source), source }];
    });
    if (payloads.length > 0) return payloads;
    throw new ExitError(EXIT.usage, `--from: ${from} is empty, expected the arguments of one call per line, as JSON`);
  }
  const [only = ''] = args;
  if (args.length === 1 && only.startsWith('@')) {
    const file = only.slice(1);
    return [{ text: wholeJson(readText(cwd, file).trim(), file), source: file }];
  }
  const input = args.includes('-') ? await context.readInput() : '';
  return [{ text: paramsText(args, input) ?? '', source: 'the arguments' }];
}

/** @throws ExitError usage if the arguments do not match the method */
export function buildFrames(
  { service, key, tags, timeoutMs }: BenchPlan,
  version: string,
  method: Method,
  payloads: readonly Payload[],
): readonly Buffer[] {
  const name = `${service}${version === '' ? '' : `@${version}`}:${method.name}`;
  const headers = {
    ...(timeoutMs === undefined ? {} : { 'katamari-timeout-ms': String(timeoutMs) }),
    ...(key === '' ? {} : { 'katamari-key': key }),
    ...(tags === '' ? {} : { 'katamari-tags': tags }),
  };
  let bytes = 0;
  return payloads.map(({ text, source }, index) => {
    const args = encode(method, text, source);
    bytes += args.length;
    if (bytes > FRAMES_BYTES_MAX)
      throw new ExitError(
        EXIT.usage,
        `${source}: the encoded calls exceed 256 MiB in total; use fewer or smaller ones`,
      );
    if (Object.keys(headers).length === 0) return frameMessage(MESSAGE_TYPE.call, name, index + 1, args, NOTHING);
    const pieces: Uint8Array[] = [];
    const encoding = new HeaderEncoding({ frameBytesMax: FRAMES_BYTES_MAX, nestingMax: NESTING_MAX });
    encoding.write(MESSAGE_TYPE.call, name, index + 1, args, pieces, undefined, headers);
    return Buffer.concat(pieces);
  });
}

function encode(method: Method, text: string, source: string): Buffer {
  try {
    return encodeParams(method, text === '' ? undefined : JSON.parse(withWholeNumbers(text)));
  } catch (error) {
    if (!(error instanceof KatamariError)) throw error;
    const where = source === 'the arguments' ? '' : `${source}: `;
    throw new ExitError(EXIT.usage, `${where}${error.message}\n\n${describeMethod(method)}`, error);
  }
}

/** Turns integers that a double cannot hold exactly into strings. An i64 accepts both. */
function withWholeNumbers(text: string): string {
  return text.replace(STRING_OR_NUMBER, (token) =>
    /^-?\d{16,}$/.test(token) && !Number.isSafeInteger(Number(token)) ? `"${token}"` : token,
  );
}

function readText(cwd: string, file: string): string {
  try {
    return readFileSync(path.resolve(cwd, file), 'utf8');
  } catch (error) {
    throw new ExitError(EXIT.usage, `Cannot read ${file}: ${(error as Error).message}`, error);
  }
}

const STRING_OR_NUMBER = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;
const FRAMES_BYTES_MAX = 256 * 1024 * 1024;
const NESTING_MAX = 64;

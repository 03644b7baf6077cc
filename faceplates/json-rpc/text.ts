// Parses request bodies as JSON, with checks that `JSON.parse` does not make: UTF-8, nesting depth, number of values,
// names that occur twice in an object, and integers that a double cannot hold.
//
// One pass over the bytes (`inspectText`) measures the depth, counts values and members of objects, and looks for
// integers of 16 digits or more. A request without any, which is the usual case, goes to `JSON.parse` unchanged.
// Otherwise each long integer is quoted and prefixed with a mark that occurs nowhere else in the request. So an i64
// argument keeps every digit (`withNumbers`), and an id is returned unchanged (rpc.ts).
//
// `JSON.parse` keeps the last of two members with one name. Then its objects have fewer members than the text, and a
// second pass finds the name. The request is refused, because two parsers may read it differently.

import { isUtf8 } from 'node:buffer';
import { KatamariError } from '../../core/mod.ts';
import type { Field, Type } from '../../core/thrift/mod.ts';

export interface ParsedText {
  readonly value: unknown;
  /** Prefix of long integers that were kept as text; '' if there are none. */
  readonly mark: string;
}

/** Stands for a request, alone or in a batch, in which an object has a name twice. */
export class AmbiguousRequest {
  /** The id of the request; null if it is unknown. */
  readonly id: string | number | null;
  readonly error: KatamariError;

  constructor(request: unknown, path: string) {
    const id = typeof request === 'object' && request !== null ? (request as { id?: unknown }).id : undefined;
    const isId = typeof id === 'string' || (typeof id === 'number' && Number.isFinite(id));
    this.id = isId && path !== 'id' ? id : null;
    const facts = IN_PARAMS.test(path) && this.id !== null ? { jsonRpcCode: INVALID_PARAMS } : {};
    this.error = new KatamariError('bad_request', `${path}: expected each name once, got it twice`, facts);
  }
}

/**
 * Parses a request body after `inspectText`.
 * @throws KatamariError bad_request: -32700 for invalid JSON
 */
export function parseText(bytes: Buffer, { hasLongNumbers, isAscii, members }: Inspection): ParsedText {
  const text = isAscii ? bytes.toString('latin1') : utf8Text(bytes);
  if (!hasLongNumbers) return { value: unambiguous(parse(text), text, members), mark: '' };
  parse(text); // Quoting below requires valid JSON.
  const mark = unusedMark(text);
  return { value: unambiguous(parse(quoteLongNumbers(text, mark)), text, members), mark };
}

/** Returns the parsed value, with an AmbiguousRequest in place of each request in which a name occurs twice. */
function unambiguous(value: unknown, text: string, members: number): unknown {
  if (countMembers(value, members) === members) return value;
  const repeated = repeatedNames(text);
  if (!Array.isArray(value)) return new AmbiguousRequest(value, repeated.get(0) ?? '');
  return value.map((request: unknown, index) => {
    const path = repeated.get(index);
    return path === undefined ? request : new AmbiguousRequest(request, path);
  });
}

/** Counts the members of all objects in a value, up to `max`. */
function countMembers(value: unknown, max: number): number {
  if (typeof value !== 'object' || value === null) return 0;
  let count = 0;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length && count < max; i++) count += countMembers(value[i], max - count);
    return count;
  }
  const object = value as Record<string, unknown>;
  // oxlint-disable-next-line guard-for-in
  for (const name in object) {
    if (++count >= max) break;
    count += countMembers(object[name], max - count);
  }
  return count;
}

/** Returns the path of the first repeated name in each request of the text, by the index of the request. */
function repeatedNames(text: string): ReadonlyMap<number, string> {
  const found = new Map<number, string>();
  const open: OpenContainer[] = [];
  let name = '';
  for (const [token] of text.matchAll(STRING_OR_STRUCTURE)) {
    const top = open.at(-1);
    if (token === '{') open.push({ names: new Set(), step: '' });
    else if (token === '[') open.push({ names: undefined, step: 0 });
    else if (token === '}' || token === ']') open.pop();
    else if (token === ',' && typeof top?.step === 'number') top.step++;
    else if (token === ':' && top?.names !== undefined) {
      top.step = JSON.parse(name) as string;
      const isRepeated = top.names.size === top.names.add(top.step).size;
      const isBatch = open[0]?.names === undefined;
      const request = isBatch ? Number(open[0]?.step) : 0;
      if (isRepeated && !found.has(request)) found.set(request, pathOf(isBatch ? open.slice(1) : open));
    } else name = token;
  }
  return found;
}

/** An object or an array around a place in a text. */
interface OpenContainer {
  /** The names in the object so far; undefined for an array. */
  readonly names: Set<string> | undefined;
  /** The current name or index. */
  step: string | number;
}

function pathOf(open: readonly OpenContainer[]): string {
  const steps = open.map(({ step }) => {
    if (typeof step === 'number') return `[${step}]`;
    return /^\w{1,60}$/.test(step) ? `.${step}` : `[${JSON.stringify(step.slice(0, 60))}]`;
  });
  return steps.join('').replace(/^\./, '');
}

/**
 * Restores the long integers of an argument: as text where the IDL type is i64, otherwise as the number that
 * `JSON.parse` returns.
 */
export function withNumbers(value: unknown, type: Type | undefined, mark: string): unknown {
  if (typeof value === 'string') {
    if (!value.startsWith(mark)) return value;
    const digits = value.slice(mark.length);
    return type?.kind === 'i64' ? digits : Number(digits);
  }
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((item: unknown) => itemWithNumbers(item, type, mark));
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [name, withNumbers(item, memberType(type, name), mark)]),
  );
}

/** Like `withNumbers`, for the params of a call, by name or by position. */
export function paramsWithNumbers(params: unknown, fields: readonly Field[], mark: string): unknown {
  if (Array.isArray(params)) return params.map((item: unknown, index) => withNumbers(item, fields[index]?.type, mark));
  if (typeof params !== 'object' || params === null) return params;
  return Object.fromEntries(
    Object.entries(params).map(([name, item]) => [name, withNumbers(item, fieldType(fields, name), mark)]),
  );
}

/** What is known of a body before it is parsed. */
export interface Inspection {
  /** Whether there is a run of digits outside strings that a double may not hold. */
  readonly hasLongNumbers: boolean;
  readonly isAscii: boolean;
  /** Members of objects: colons outside strings. */
  readonly members: number;
}

/**
 * Scans a request body, as a pass before `parseText`.
 * @throws KatamariError bad_request (-32600) for too deep nesting, too_large for too many values
 */
export function inspectText(bytes: Buffer, nestingMax: number): Inspection {
  const depthMax = nestingMax + ENVELOPE_DEPTH;
  let values = 0;
  let depth = 0;
  let seen = 0;
  let digits = 0;
  let hasLongNumbers = false;
  let members = 0;
  const { length } = bytes;
  for (let at = 0; at < length; at++) {
    const byte = bytes[at] as number;
    if (byte >= DIGIT_0 && byte <= DIGIT_9) {
      if (++digits === LONG_DIGITS) hasLongNumbers = true;
      continue;
    }
    digits = 0;
    seen |= byte;
    if (byte === QUOTE) {
      for (at++; at < length && bytes[at] !== QUOTE; at++) {
        // An escaped character does not end the string, but may be outside ASCII.
        if (bytes[at] === BACKSLASH) at++;
        seen |= bytes[at] ?? 0;
      }
    } else if (byte === COLON) {
      members++;
    } else if (byte === COMMA) {
      values++;
    } else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
      values += CONTAINER_VALUES;
      if (++depth > depthMax) {
        throw new KatamariError(
          'bad_request',
          `Params are nested too deep: limit is ${depthMax - ENVELOPE_DEPTH} levels`,
        );
      }
    } else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) {
      depth--;
    }
  }
  if (values + members > VALUES_MAX) {
    throw new KatamariError(
      'too_large',
      `The request has ${values + members} JSON values, limit is ${VALUES_MAX} (objects and arrays count as ` +
        `${CONTAINER_VALUES}): send it in smaller pieces, or over Thrift`,
    );
  }
  return { hasLongNumbers, isAscii: seen < FIRST_BEYOND_ASCII, members };
}

function utf8Text(bytes: Buffer): string {
  if (!isUtf8(bytes)) throw notJson('it is not valid UTF-8', undefined);
  const text = bytes.toString();
  return text.startsWith(BYTE_ORDER_MARK) ? text.slice(1) : text;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw notJson(cause instanceof Error ? cause.message : String(cause), cause);
  }
}

function notJson(why: string, cause: unknown): KatamariError {
  return new KatamariError('bad_request', `Request body is not JSON: ${why}`, { jsonRpcCode: PARSE_ERROR }, cause);
}

/**
 * Quotes and marks long integers. Numbers with a fraction or an exponent are doubles, as `JSON.parse` returns them.
 */
function quoteLongNumbers(text: string, mark: string): string {
  return text.replace(STRING_OR_NUMBER, (token) => (LONG_WHOLE.test(token) ? `"${mark}${token}"` : token));
}

function unusedMark(text: string): string {
  for (let i = 0; ; i++) {
    const mark = `whole${i}:`;
    if (!text.includes(mark)) return mark;
  }
}

function itemWithNumbers(item: unknown, type: Type | undefined, mark: string): unknown {
  if (type?.kind === 'list' || type?.kind === 'set') return withNumbers(item, type.element, mark);
  // A map can be written as an array of [key, value] pairs.
  if (type?.kind === 'map' && Array.isArray(item)) {
    return item.map((part: unknown, index) => withNumbers(part, index === 0 ? type.key : type.value, mark));
  }
  return withNumbers(item, undefined, mark);
}

function memberType(type: Type | undefined, name: string): Type | undefined {
  if (type?.kind === 'struct') return fieldType(type.struct.fields, name);
  return type?.kind === 'map' ? type.value : undefined;
}

function fieldType(fields: readonly Field[], name: string): Type | undefined {
  return fields.find((field) => field.name === name)?.type;
}

const BYTE_ORDER_MARK = '\uFEFF';
const PARSE_ERROR = -32_700;
const INVALID_PARAMS = -32_602;
const IN_PARAMS = /^params(?:[.[]|$)/;
/** The batch and the request object around the params. */
const ENVELOPE_DEPTH = 2;
/**
 * Most values of one request: `JSON.parse` cannot stop in the middle, and takes up to 50 ms for so many. It takes
 * several times as long for an object or an array as for a number.
 */
const VALUES_MAX = 1_000_000;
const CONTAINER_VALUES = 4;
/** 2^53 has 16 digits. */
const LONG_DIGITS = 16;
const STRING_OR_NUMBER = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d[\d.eE+-]*/g;
const STRING_OR_STRUCTURE = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]/g;
const LONG_WHOLE = /^-?\d{16,}$/;
const FIRST_BEYOND_ASCII = 0x80;
const [QUOTE, BACKSLASH, COMMA, COLON, DIGIT_0, DIGIT_9] = [0x22, 0x5c, 0x2c, 0x3a, 0x30, 0x39];
const [OPEN_OBJECT, CLOSE_OBJECT, OPEN_ARRAY, CLOSE_ARRAY] = [0x7b, 0x7d, 0x5b, 0x5d];

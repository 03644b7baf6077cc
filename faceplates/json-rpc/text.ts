// Parses request bodies as JSON, with checks that `JSON.parse` does not make: UTF-8, nesting depth, and integers that
// a double cannot hold.
//
// One pass over the bytes measures the depth and looks for integers of 16 digits or more. A request without any,
// which is the usual case, goes to `JSON.parse` unchanged. Otherwise each long integer is quoted and prefixed with a
// mark that occurs nowhere else in the request. So an i64 argument keeps every digit (`withNumbers`), and an id is
// returned unchanged (`unmarked`).

import { KatamariError } from '../../core/mod.ts';
import type { Field, Type } from '../../core/thrift/mod.ts';

export interface ParsedText {
  readonly value: unknown;
  /** Prefix of long integers that were kept as text; '' if there are none. */
  readonly mark: string;
}

/** Parses a request body. @throws KatamariError bad_request: -32700 for invalid JSON, -32600 for too deep nesting */
export function parseText(bytes: Buffer, nestingMax: number): ParsedText {
  const { hasLongNumbers, isAscii } = inspect(bytes, nestingMax + ENVELOPE_DEPTH);
  let text: string;
  try {
    // TextDecoder costs as much as everything else in this function.
    text = isAscii ? bytes.toString('latin1') : utf8.decode(bytes);
  } catch (cause) {
    throw notJson('it is not valid UTF-8', cause);
  }
  if (!hasLongNumbers) return { value: parse(text), mark: '' };
  parse(text); // Quoting below requires valid JSON.
  const mark = unusedMark(text);
  return { value: parse(quoteLongNumbers(text, mark)), mark };
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

/** Restores the ids in the text of a response. */
export function unmarked(answer: string, mark: string): string {
  return mark === '' ? answer : answer.replace(new RegExp(`"${mark}(-?\\d+)"`, 'g'), '$1');
}

interface Inspection {
  /** Whether there is a run of digits outside strings that a double may not hold. */
  readonly hasLongNumbers: boolean;
  readonly isAscii: boolean;
}

/**
 * Scans the bytes for long integers and non-ASCII characters.
 * @throws KatamariError bad_request for too deep nesting
 */
function inspect(bytes: Buffer, depthMax: number): Inspection {
  let depth = 0;
  let seen = 0;
  let digits = 0;
  let hasLongNumbers = false;
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
    } else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
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
  return { hasLongNumbers, isAscii: seen < FIRST_BEYOND_ASCII };
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

const utf8 = new TextDecoder('utf-8', { fatal: true });
const PARSE_ERROR = -32_700;
/** The batch and the request object around the params. */
const ENVELOPE_DEPTH = 2;
/** 2^53 has 16 digits. */
const LONG_DIGITS = 16;
const STRING_OR_NUMBER = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;
const LONG_WHOLE = /^-?\d{16,}$/;
const FIRST_BEYOND_ASCII = 0x80;
const [QUOTE, BACKSLASH, DIGIT_0, DIGIT_9] = [0x22, 0x5c, 0x30, 0x39];
const [OPEN_OBJECT, CLOSE_OBJECT, OPEN_ARRAY, CLOSE_ARRAY] = [0x7b, 0x7d, 0x5b, 0x5d];

// The bytes of a request body as a JSON value, with what `JSON.parse` does not watch: UTF-8, depth, and digits that a
// double would lose.
//
// Two speeds. One pass over the bytes measures the depth and looks for whole numbers of 16 digits or more; nearly no
// request has one, and then `JSON.parse` does the rest. A request that has some gets them quoted behind a mark that
// occurs nowhere else in it, so that what is an i64 in the IDL keeps every digit (`withNumbers`) and an id is
// answered as it came (`unmarked`).

import { KatamariError } from '../../core/mod.ts';
import type { Field, Type } from '../../core/thrift/mod.ts';

export interface ParsedText {
  readonly value: unknown;
  /** What marks a long whole number that was kept as text; '' when there is none. */
  readonly mark: string;
}

/** @throws KatamariError bad_request: -32700 for what is no JSON, -32600 for what is nested too deep */
export function parseText(bytes: Buffer, nestingMax: number): ParsedText {
  const { hasLongNumbers, isAscii } = inspect(bytes, nestingMax + ENVELOPE_DEPTH);
  let text: string;
  try {
    // A decoder costs as much as all else that is done here.
    text = isAscii ? bytes.toString('latin1') : utf8.decode(bytes);
  } catch (cause) {
    throw notJson('it is not valid UTF-8', cause);
  }
  if (!hasLongNumbers) return { value: parse(text), mark: '' };
  parse(text); // The quoting below takes well-formed text for granted.
  const mark = unusedMark(text);
  return { value: parse(quoteLongNumbers(text, mark)), mark };
}

/**
 * Puts the long numbers of an argument back: exact text where the IDL says i64, else the number that `JSON.parse`
 * would have made.
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

/** As `withNumbers`, for the params of a call: by name or by position. */
export function paramsWithNumbers(params: unknown, fields: readonly Field[], mark: string): unknown {
  if (Array.isArray(params)) return params.map((item: unknown, index) => withNumbers(item, fields[index]?.type, mark));
  if (typeof params !== 'object' || params === null) return params;
  return Object.fromEntries(
    Object.entries(params).map(([name, item]) => [name, withNumbers(item, fieldType(fields, name), mark)]),
  );
}

/** The text of an answer with its ids as they came. */
export function unmarked(answer: string, mark: string): string {
  return mark === '' ? answer : answer.replace(new RegExp(`"${mark}(-?\\d+)"`, 'g'), '$1');
}

interface Inspection {
  /** There is a run of digits outside of strings that a double may not hold. */
  readonly hasLongNumbers: boolean;
  readonly isAscii: boolean;
}

/** Depth within limits, or it throws. */
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
        // What is escaped is looked at, and is no end.
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

/** Whole numbers only: a fraction or an exponent makes a double of it, and a double is what `JSON.parse` gives. */
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
  // A map written as an array is one of [key, value] pairs.
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

// Random strict-binary structs, generated from the protocol specification and not by the code under test.

import type { Random } from '../tools/random.ts';

const SCALAR_BYTES: Readonly<Record<number, number>> = { 2: 1, 3: 1, 4: 8, 6: 2, 8: 4, 10: 8, 16: 16 };
const TYPES = [2, 3, 4, 6, 8, 10, 11, 12, 13, 14, 15, 16] as const;

/**
 * One struct, including its stop byte, with at most `depth` levels of structs and containers in it.
 * @param isText whether strings are UTF-8
 */
export function randomStruct(random: Random, depth = 4, isText = false): Buffer {
  const parts: Buffer[] = [];
  for (let count = random.below(5); count > 0; count--) {
    const type = typeFor(random, depth);
    const head = Buffer.alloc(3);
    head.writeUInt8(type, 0);
    head.writeInt16BE(random.between(1, 200), 1);
    parts.push(head, randomValue(random, type, depth - 1, isText));
  }
  return Buffer.concat([...parts, Buffer.of(0)]);
}

function randomValue(random: Random, type: number, depth: number, isText: boolean): Buffer {
  const size = SCALAR_BYTES[type];
  if (size !== undefined) return random.bytes(size);
  if (type === 12) return randomStruct(random, depth, isText);
  if (type === 11) {
    const bytes = random.bytes(random.below(20));
    const text = isText ? Buffer.from(bytes.toString('latin1')) : bytes;
    return Buffer.concat([int32(text.length), text]);
  }
  const count = random.below(4);
  const element = typeFor(random, depth);
  const values: Buffer[] = [];
  if (type !== 13) {
    for (let i = 0; i < count; i++) values.push(randomValue(random, element, depth - 1, isText));
    return Buffer.concat([Buffer.of(element), int32(count), ...values]);
  }
  const key = typeFor(random, depth);
  for (let i = 0; i < count; i++)
    values.push(randomValue(random, key, depth - 1, isText), randomValue(random, element, depth - 1, isText));
  return Buffer.concat([Buffer.of(key, element), int32(count), ...values]);
}

/** Chooses structs and containers only while levels are left. */
function typeFor(random: Random, depth: number): number {
  return depth > 0 ? random.pick(TYPES) : random.pick([2, 3, 4, 6, 8, 10, 11, 16]);
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

/**
 * Whether the bytes are exactly one strict-binary struct. A simple recursive reader that the scanner is compared
 * with.
 */
export function isOneStruct(bytes: Buffer, depthMax = 64): boolean {
  return endOf(12, bytes, 0, depthMax) === bytes.length;
}

/** The offset after a value, or Infinity when the value is malformed, truncated or too deep. */
function endOf(type: number, bytes: Buffer, at: number, depth: number): number {
  const size = SCALAR_BYTES[type];
  if (size !== undefined) return at + size <= bytes.length ? at + size : Infinity;
  if (type === 11) {
    const length = at + 4 <= bytes.length ? bytes.readInt32BE(at) : -1;
    return length >= 0 && at + 4 + length <= bytes.length ? at + 4 + length : Infinity;
  }
  if (type === 12) return depth > 0 ? endOfFields(bytes, at, depth) : Infinity;
  if (type < 13 || type > 15) return Infinity;
  const types = type === 13 ? 2 : 1;
  if (at + types + 4 > bytes.length) return Infinity;
  const count = bytes.readInt32BE(at + types);
  if (count < 0) return Infinity;
  if (count === 0) return at + types + 4;
  if (depth === 0) return Infinity;
  let end = at + types + 4;
  for (let i = 0; i < count && end <= bytes.length; i++) {
    for (let t = 0; t < types; t++) end = endOf(bytes[at + t] as number, bytes, end, depth - 1);
  }
  return end <= bytes.length ? end : Infinity;
}

function endOfFields(bytes: Buffer, start: number, depth: number): number {
  for (let at = start; at < bytes.length;) {
    const type = bytes[at] as number;
    if (type === 0) return at + 1;
    at = endOf(type, bytes, at + 3, depth - 1);
  }
  return Infinity;
}

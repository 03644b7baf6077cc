// Makes one result of the results of several shards, as `katamari.gather` of the method says.

import { KatamariError } from '../../core/mod.ts';
import type { Method, Type } from '../../core/thrift/mod.ts';

/**
 * `concat` and `union` keep the order of the first shard of each reply, because a manager answers for several shards
 * at once. Elements that name their shard are ordered by it.
 * @param results values of the method's type, in order of their first shards; at least one
 */
export function mergeResults({ gather, returns, name }: Method, results: readonly unknown[]): unknown {
  if (results.length === 1) return results[0];
  if (gather === 'sum')
    return returns.kind === 'map'
      ? sumMaps(results as MapOf<number | bigint>[], returns.value, name)
      : sum(results, returns, name);
  if (gather === 'union') return union(results);
  if (gather === 'concat') return concat(returns, results);
  return results[0];
}

/** Whether a result of `first` is empty: a text, list, set, map or bytes without content. */
export function isEmptyResult(value: unknown): boolean {
  if (typeof value === 'string' || Array.isArray(value) || Buffer.isBuffer(value)) return value.length === 0;
  if (value instanceof Map || value instanceof Set) return value.size === 0;
  return value === undefined || value === null;
}

type MapOf<Value> = ReadonlyMap<unknown, Value>;

function sum(results: readonly unknown[], type: Type, method: string): number | bigint {
  const total = results.reduce<number | bigint>(
    (all, one) => add(all, one as number | bigint),
    typeof results[0] === 'bigint' ? 0n : 0,
  );
  return checkedSum(total, type, method);
}

/** @throws KatamariError internal when a sum does not fit the type of the result */
function checkedSum(total: number | bigint, { kind }: Type, method: string): number | bigint {
  const bits = BITS[kind];
  if (bits === undefined) return total;
  const max = 2n ** BigInt(bits - 1);
  if (BigInt(total) < max && BigInt(total) >= -max) return total;
  throw new KatamariError('internal', `The sum of the results of ${method} does not fit into ${bits} bits: ${total}`);
}

const BITS: Readonly<Partial<Record<Type['kind'], number>>> = { i8: 8, i16: 16, i32: 32, i64: 64 };

function add(a: number | bigint, b: number | bigint): number | bigint {
  return typeof a === 'bigint' && typeof b === 'bigint' ? a + b : Number(a) + Number(b);
}

function sumMaps(results: readonly MapOf<number | bigint>[], type: Type, method: string): MapOf<number | bigint> {
  const sums = new Map(results[0]);
  for (const result of results.slice(1)) {
    for (const [key, value] of result) {
      const before = sums.get(key);
      sums.set(key, before === undefined ? value : checkedSum(add(before, value), type, method));
    }
  }
  return sums;
}

/** If two maps have the same key, the value of the first shard wins. */
function union(results: readonly unknown[]): unknown {
  if (results[0] instanceof Set) return new Set(results.flatMap((result) => [...(result as Set<unknown>)]));
  const all = new Map<unknown, unknown>();
  for (const result of results)
    for (const [key, value] of result as MapOf<unknown>) if (!all.has(key)) all.set(key, value);
  return all;
}

function concat(returns: Type, results: readonly unknown[]): unknown {
  if (returns.kind !== 'struct')
    return inOrder(
      returns,
      results.flatMap((result) => result as unknown[]),
    );
  const field = returns.struct.fields.find(({ type }) => type.kind === 'list');
  if (field === undefined) return results[0];
  const structs = results as Readonly<Record<string, unknown>>[];
  const joined = structs.flatMap((result) => (result[field.name] as unknown[] | undefined) ?? []);
  return { ...structs[0], [field.name]: inOrder(field.type, joined) };
}

/** Elements that name their shard are ordered by it, since one reply may be of several shards. */
function inOrder(type: Type, elements: unknown[]): unknown[] {
  if (type.kind !== 'list' || type.element.kind !== 'struct') return elements;
  const named = type.element.struct.fields.some(({ name, type: { kind } }) => name === 'shard' && kind === 'string');
  if (!named) return elements;
  const shardOf = (element: unknown): string => (element as { shard?: string }).shard ?? '';
  return elements.sort((a, b) => (shardOf(a) < shardOf(b) ? -1 : shardOf(a) > shardOf(b) ? 1 : 0));
}

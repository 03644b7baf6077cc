// Values as idl/search.thrift has them: union Value, and the cursor, which is a hit without its fields.

import { decodeStruct, encodeStruct, type Idl, parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import type { StructType } from '../../core/thrift/mod.ts';
import { needsScores, type RankedHit, type TextSortKey } from './order.ts';
import { badQuery } from './query.ts';
import type { StoredValue } from './shard.ts';
import type { SqlValue } from './sqlite.ts';

/** `Value` of idl/search.thrift; exactly one is set. */
export interface WireValue {
  readonly text?: string;
  readonly whole?: number | bigint;
  readonly real?: number;
  readonly bytes?: Uint8Array;
  readonly missing?: boolean;
}

/** `Hit` of idl/search.thrift. */
export interface WireHit {
  readonly shard: string;
  readonly document: number;
  readonly score: number;
  readonly sortValues: readonly WireValue[];
  readonly fields?: ReadonlyMap<string, readonly WireValue[]>;
}

export function wireValue(value: SqlValue, isReal: boolean): WireValue {
  if (value === null) return { missing: true };
  if (typeof value === 'string') return { text: value };
  if (typeof value === 'object') return { bytes: value };
  return isReal ? { real: Number(value) } : { whole: value };
}

export function wireFields(stored: ReadonlyMap<string, StoredValue>): ReadonlyMap<string, readonly WireValue[]> {
  return new Map([...stored].map(([field, { value, isReal }]) => [field, [wireValue(value, isReal)]]));
}

/** The cursor behind a hit. */
export function cursorBehind({ shard, document, score, sortValues }: WireHit): string {
  return encodeStruct(hitType(), { shard, document, score, sortValues }).toString('base64url');
}

/**
 * Reads a cursor.
 * @returns undefined for ''
 * @throws ThriftException BadQuery for text that is no cursor, or one of another order
 */
export function readCursor(after: string, sort: readonly TextSortKey[]): RankedHit | undefined {
  if (after === '') return undefined;
  let hit: { shard?: string; document?: bigint; score?: number; sortValues?: WireValue[] };
  try {
    hit = decodeStruct(hitType(), Buffer.from(after, 'base64url')) as typeof hit;
  } catch {
    throw badQuery('"after" is not the cursor of an earlier answer');
  }
  const { shard = '', document = 0n, score = Number.NaN, sortValues = [] } = hit;
  const isOfSort = sortValues.length === sort.length && Number.isNaN(score) !== needsScores(sort);
  if (!isOfSort) throw badQuery('"after" is the cursor of a call with other sort keys; sort all pages alike');
  return { shard, document: Number(document), score, values: sortValues.map(valueOf) };
}

function valueOf({ text, whole, real, bytes }: WireValue): SqlValue {
  return text ?? whole ?? real ?? bytes ?? null;
}

let compiled: Idl | undefined;

function hitType(): StructType {
  compiled ??= parseIdl(readIdlFile(new URL('../../idl/search.thrift', import.meta.url)));
  return compiled.structs.get('Hit') as StructType;
}

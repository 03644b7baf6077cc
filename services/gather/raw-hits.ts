// Hits of a search as bytes. The order by score needs three fields of a hit, so the others are neither decoded nor
// encoded again: a merged answer is made of the bytes of the answers. Found and Hit are as in idl/search.thrift.

import { decodeStruct, encodeStruct } from '../../core/idl/mod.ts';
import { KatamariError } from '../../core/mod.ts';
import {
  BinaryReader,
  BinaryWriter,
  readCachedString,
  WIRE_OF_KIND,
  WireError,
  type Method,
  type StructType,
} from '../../core/thrift/mod.ts';
import type { Coverage } from './coverage.ts';
import { compareHits, type Hit, type SortKey, type SortValue } from './hit-order.ts';

/** A hit in an answer. Only its score is decoded: few hits have equal scores, and few are among the best. */
export class RawHit implements Hit {
  readonly score: number;
  readonly sortValues: readonly SortValue[] | undefined;
  readonly #answer: Buffer;
  readonly #start: number;
  readonly #end: number;
  readonly #shardAt: number;
  readonly #documentAt: number;

  /** @param at offsets in the answer: of the struct, and of the values of two of its fields, 0 for none */
  constructor(
    answer: Buffer,
    at: { readonly start: number; readonly end: number; readonly shard: number; readonly document: number },
    score: number,
    sortValues: readonly SortValue[] | undefined,
  ) {
    this.#answer = answer;
    this.#start = at.start;
    this.#end = at.end;
    this.#shardAt = at.shard;
    this.#documentAt = at.document;
    this.score = score;
    this.sortValues = sortValues;
  }

  get shard(): string {
    const at = this.#shardAt;
    return at === 0 ? '' : readCachedString(this.#answer, at + 4, at + 4 + this.#answer.readInt32BE(at));
  }

  get document(): bigint {
    return this.#documentAt === 0 ? 0n : this.#answer.readBigInt64BE(this.#documentAt);
  }

  /** Struct Hit. */
  get bytes(): Buffer {
    return this.#answer.subarray(this.#start, this.#end);
  }
}

/** The parts of a Found that are merged. */
export interface RawFound {
  readonly total: bigint;
  readonly hits: readonly RawHit[];
  /** Undefined when no shard is missing. */
  readonly coverage: Coverage | undefined;
  readonly hasCursor: boolean;
}

/**
 * Reads the result struct of a search, which has a value.
 * @param sort empty for hits without their sort values
 * @throws KatamariError bad_request when it is malformed
 */
export function readFound(method: Method, body: Uint8Array, sort: readonly SortKey[]): RawFound {
  try {
    return new FoundReader(shapeOf(method), body, sort.length > 0).read();
  } catch (error) {
    if (!(error instanceof WireError || error instanceof KatamariError)) throw error;
    const what = error instanceof WireError ? error.what : error.message;
    throw new KatamariError('bad_request', what, {}, error);
  }
}

/** The first `count` hits of all answers, in order. */
export function bestHits(answers: readonly RawFound[], sort: readonly SortKey[], count: number): readonly RawHit[] {
  if (count === 0) return [];
  const compare = (a: RawHit, b: RawHit): number => compareHits(a, b, sort);
  const best: RawHit[] = [];
  let last: RawHit | undefined;
  for (const { hits } of answers) {
    for (const hit of hits) {
      // Most hits are behind the best ones, which costs one comparison.
      if (last !== undefined && compare(hit, last) >= 0) continue;
      if (best.push(hit) < count * 2) continue;
      best.sort(compare).length = count;
      last = best[count - 1];
    }
  }
  return best.sort(compare).slice(0, count);
}

/** Encodes the result struct of a search. */
export function writeFound(
  method: Method,
  found: {
    readonly total: bigint;
    readonly hits: readonly RawHit[];
    readonly coverage: Coverage;
    readonly cursor: string;
  },
): Buffer {
  const { fields, coverage } = shapeOf(method);
  const { total, cursor } = found;
  const hits = found.hits.map(({ bytes }) => bytes);
  const covered = encodeStruct(coverage, { ...found.coverage });
  const out = new BinaryWriter(hits.reduce((sum, { length }) => sum + length, 64 + covered.length + cursor.length));
  out.fieldHead(WIRE_OF_KIND.struct, 0);
  out.fieldHead(WIRE_OF_KIND.i64, fields.total);
  out.i64(total);
  out.fieldHead(WIRE_OF_KIND.list, fields.hits);
  out.byte(WIRE_OF_KIND.struct);
  out.i32(hits.length);
  for (const bytes of hits) out.raw(bytes);
  out.fieldHead(WIRE_OF_KIND.struct, fields.coverage);
  out.raw(covered);
  out.fieldHead(WIRE_OF_KIND.string, fields.cursor);
  out.string(cursor);
  out.byte(WIRE_OF_KIND.void);
  out.byte(WIRE_OF_KIND.void);
  return out.finish();
}

/** The cursor behind a hit: the hit without its fields, as idl/search.thrift says. */
export function cursorOf(method: Method, { bytes }: RawHit): string {
  const { hitFields } = shapeOf(method);
  const reader = new BinaryReader(bytes);
  const parts: Buffer[] = [];
  for (let start = 0, wire = reader.byte(); wire !== WIRE_OF_KIND.void; wire = reader.byte()) {
    const id = reader.i16();
    reader.skip(wire);
    if (id !== hitFields.fields) parts.push(bytes.subarray(start, reader.position));
    start = reader.position;
  }
  return Buffer.concat([...parts, STOP]).toString('base64url');
}

class FoundReader {
  readonly #shape: FoundShape;
  readonly #reader: BinaryReader;
  readonly #bytes: Buffer;
  readonly #isSorted: boolean;

  constructor(shape: FoundShape, body: Uint8Array, isSorted: boolean) {
    this.#shape = shape;
    this.#reader = new BinaryReader(body);
    this.#bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
    this.#isSorted = isSorted;
  }

  read(): RawFound {
    const reader = this.#reader;
    const { fields } = this.#shape;
    let total = 0n;
    let hits: readonly RawHit[] = [];
    let coverage: Coverage | undefined;
    let hasCursor = false;
    // The field with the value is the first one, as Scatter has seen.
    expectWire(reader.byte(), WIRE_OF_KIND.struct, 'a struct as result');
    reader.i16();
    for (let wire = reader.byte(); wire !== WIRE_OF_KIND.void; wire = reader.byte()) {
      const id = reader.i16();
      if (id === fields.total && wire === WIRE_OF_KIND.i64) total = reader.i64();
      else if (id === fields.hits && wire === WIRE_OF_KIND.list) hits = this.#hits();
      else if (id === fields.coverage && wire === WIRE_OF_KIND.struct) {
        coverage = this.#coverage();
      } else if (id === fields.cursor && wire === WIRE_OF_KIND.string) {
        hasCursor = reader.nextSize() > 0;
        reader.skip(wire);
      } else reader.skip(wire);
    }
    return { total, hits, coverage, hasCursor };
  }

  /** Undefined when no shard is missing, as usual. */
  #coverage(): Coverage | undefined {
    const reader = this.#reader;
    const { coverage, coverageFields } = this.#shape;
    const start = reader.position;
    let open = 0;
    let named = 0;
    for (let wire = reader.byte(); wire !== WIRE_OF_KIND.void; wire = reader.byte()) {
      const id = reader.i16();
      if (id === coverageFields.shards && wire === WIRE_OF_KIND.i32) open += reader.i32();
      else if (id === coverageFields.complete && wire === WIRE_OF_KIND.i32) open -= reader.i32();
      else {
        const at = reader.position;
        reader.skip(wire);
        if (id === coverageFields.missing && wire === WIRE_OF_KIND.list) named = this.#bytes.readInt32BE(at + 1);
      }
    }
    if (open <= 0 && named === 0) return undefined;
    return decodeStruct(coverage, this.#bytes.subarray(start, reader.position)) as unknown as Coverage;
  }

  #hits(): readonly RawHit[] {
    const reader = this.#reader;
    const wire = reader.byte();
    const count = reader.size(1);
    if (count === 0) return [];
    expectWire(wire, WIRE_OF_KIND.struct, 'structs as hits');
    reader.spend(count * VALUES_PER_HIT);
    const hits: RawHit[] = [];
    for (let left = count; left > 0; left--) hits.push(this.#hit());
    return hits;
  }

  #hit(): RawHit {
    const reader = this.#reader;
    const { hitFields, hit } = this.#shape;
    const start = reader.position;
    let [shard, document, score] = [0, 0, 0];
    for (let wire = reader.byte(); wire !== WIRE_OF_KIND.void; wire = reader.byte()) {
      const id = reader.i16();
      const at = reader.position;
      if (id === hitFields.score && wire === WIRE_OF_KIND.double) {
        score = reader.double();
        continue;
      }
      if (id === hitFields.document && wire === WIRE_OF_KIND.i64) document = at;
      else if (id === hitFields.shard && wire === WIRE_OF_KIND.string) shard = at;
      reader.skip(wire);
    }
    const end = reader.position;
    const sorted = this.#isSorted
      ? (decodeStruct(hit, this.#bytes.subarray(start, end)) as unknown as Hit).sortValues
      : undefined;
    return new RawHit(this.#bytes, { start, end, shard, document }, score, sorted);
  }
}

interface FoundShape {
  readonly fields: Readonly<Record<'total' | 'hits' | 'coverage' | 'cursor', number>>;
  readonly hitFields: Readonly<Record<'shard' | 'document' | 'score' | 'fields', number>>;
  readonly coverageFields: Readonly<Record<'shards' | 'complete' | 'missing', number>>;
  readonly hit: StructType;
  readonly coverage: StructType;
}

const shapes = new WeakMap<Method, FoundShape>();

/** @throws KatamariError internal for a method that does not return Found */
function shapeOf(method: Method): FoundShape {
  const known = shapes.get(method);
  if (known !== undefined) return known;
  const { returns, name } = method;
  const found = returns.kind === 'struct' ? returns.struct : undefined;
  const typeOf = (field: string): Method['returns'] | undefined =>
    found?.fields.find((one) => one.name === field)?.type;
  const [hits, coverage] = [typeOf('hits'), typeOf('coverage')];
  if (hits?.kind !== 'list' || hits.element.kind !== 'struct' || coverage?.kind !== 'struct')
    throw new KatamariError('internal', `The result of ${name} has no list of hits, or no coverage`);
  const hit = hits.element.struct;
  const shape: FoundShape = {
    fields: idsOf(found, 'total', 'hits', 'coverage', 'cursor'),
    hitFields: idsOf(hit, 'shard', 'document', 'score', 'fields'),
    coverageFields: idsOf(coverage.struct, 'shards', 'complete', 'missing'),
    hit,
    coverage: coverage.struct,
  };
  shapes.set(method, shape);
  return shape;
}

/** Ids of fields by name; 0 for a field that the struct does not have. */
function idsOf<Name extends string>(struct: StructType | undefined, ...names: Name[]): Record<Name, number> {
  const ids = names.map((name) => [name, struct?.fields.find((one) => one.name === name)?.id ?? 0]);
  return Object.fromEntries(ids) as Record<Name, number>;
}

function expectWire(found: number, expected: number, what: string): void {
  if (found !== expected) throw new WireError(`expected ${what}, got wire type ${found}`);
}

const STOP = Buffer.of(WIRE_OF_KIND.void);
/** A hit without a byte of content takes memory for as many values. */
const VALUES_PER_HIT = 4;

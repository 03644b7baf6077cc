// The arguments of a gathered call. Only the shards and the coverage that the caller asks for are read; everything else
// passes as it is. The shards of a request are appended before the stop byte: of a repeated field the last one counts.

import { decodeStruct } from '../../core/idl/mod.ts';
import { KatamariError } from '../../core/mod.ts';
import type { Call } from '../../core/rpc/mod.ts';
import { BinaryReader, BinaryWriter, WIRE_OF_KIND, WireError, type Method, type Type } from '../../core/thrift/mod.ts';
import { DOCUMENTS_MAX } from './limits.ts';

/** What the mesh reads of the arguments. */
export interface GatherArguments {
  /** Shards that the caller names; empty for all. */
  readonly shards: readonly string[];
  /** Share of the shards that must be in the answer, from 0 to 1. */
  readonly minCoverage: number;
}

/** @throws KatamariError bad_request for malformed arguments */
export function readArguments(method: Method, { args, minCoverage: asked }: Call): GatherArguments {
  const { shardsId, coverageId, defaultCoverage } = fieldsOf(method);
  let shards: readonly string[] = [];
  let minCoverage = defaultCoverage;
  try {
    const reader = new BinaryReader(args);
    for (let wire = reader.byte(); wire !== WIRE_OF_KIND.void; wire = reader.byte()) {
      const id = reader.i16();
      if (id === shardsId && wire === WIRE_OF_KIND.list) shards = readNames(reader);
      else if (id === coverageId && wire === WIRE_OF_KIND.double) minCoverage = reader.double();
      else reader.skip(wire);
    }
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    throw new KatamariError('bad_request', `The arguments of ${method.name} are malformed: ${error.what}`);
  }
  return { shards, minCoverage: checkCoverage(asked ?? minCoverage) };
}

/** Returns the share of the shards that must be in the answer. @throws KatamariError bad_request */
export function checkCoverage(minCoverage: number): number {
  if (minCoverage >= 0 && minCoverage <= 1) return minCoverage;
  const why = `minCoverage is ${minCoverage}, expected a share from 0 to 1`;
  throw new KatamariError('bad_request', why, { notRun: true });
}

/** A text among the arguments, without decoding the others; '' when it is absent or the arguments are malformed. */
export function textArgument(method: Method, args: Uint8Array, name: string): string {
  const id = method.args.fields.find((field) => field.name === name)?.id;
  let text = '';
  try {
    const reader = new BinaryReader(args);
    for (let wire = reader.byte(); wire !== WIRE_OF_KIND.void; wire = reader.byte()) {
      if (reader.i16() === id && wire === WIRE_OF_KIND.string) text = reader.string();
      else reader.skip(wire);
    }
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    return '';
  }
  return text;
}

/**
 * The shards of the documents that a call names by DocumentId (idl/search.thrift); none for other methods.
 * @throws KatamariError bad_request for too many documents
 */
export function shardsOfDocuments(method: Method, args: Uint8Array): readonly string[] {
  const { idsName } = fieldsOf(method);
  if (idsName === '') return [];
  const value = decodeStruct(method.args, args)[idsName];
  const ids = (Array.isArray(value) ? value : [value]) as readonly ({ readonly shard?: string } | undefined)[];
  if (ids.length > DOCUMENTS_MAX) {
    const why = `The call names ${ids.length} documents, limit is ${DOCUMENTS_MAX}; ask for them in several calls`;
    throw new KatamariError('bad_request', why, { notRun: true });
  }
  return [...new Set(ids.flatMap((id) => id?.shard ?? []))];
}

/** Returns the arguments with the shards to look at. */
export function withShards(method: Method, args: Uint8Array, names: readonly string[]): Buffer {
  const out = emptyWriter();
  out.raw(args.subarray(0, -1));
  out.fieldHead(WIRE_OF_KIND.list, fieldsOf(method).shardsId);
  out.byte(WIRE_OF_KIND.string);
  out.i32(names.length);
  for (const name of names) out.string(name);
  out.byte(WIRE_OF_KIND.void);
  return out.finish();
}

/** Returns the arguments with the statistics of the query. @param value the encoded map */
export function withStatistics(method: Method, args: Uint8Array, value: Uint8Array): Buffer {
  const out = emptyWriter();
  out.raw(args.subarray(0, -1));
  out.fieldHead(WIRE_OF_KIND.map, fieldsOf(method).statisticsId);
  out.raw(value);
  out.byte(WIRE_OF_KIND.void);
  return out.finish();
}

/** The writer of all requests, since a new one would cost as much as writing. */
const writer = new BinaryWriter();

function emptyWriter(): BinaryWriter {
  writer.reset();
  return writer;
}

interface GatherFields {
  readonly shardsId: number;
  /** 0 when the method has no such parameter. */
  readonly statisticsId: number;
  /** 0 when the method has no such parameter. */
  readonly coverageId: number;
  readonly defaultCoverage: number;
  /** Name of the parameter with document ids; '' for none. */
  readonly idsName: string;
}

const known = new WeakMap<Method, GatherFields>();

function fieldsOf(method: Method): GatherFields {
  const found = known.get(method);
  if (found !== undefined) return found;
  const { fields } = method.args;
  const coverage = fields.find(({ name, type }) => name === 'minCoverage' && type.kind === 'double');
  const read: GatherFields = {
    shardsId: fields.find(({ name }) => name === 'shards')?.id ?? 0,
    statisticsId: fields.find(({ name }) => name === 'statistics')?.id ?? 0,
    coverageId: coverage?.id ?? 0,
    idsName: fields.find(({ type }) => isDocumentId(type.kind === 'list' ? type.element : type))?.name ?? '',
    defaultCoverage: typeof coverage?.defaultValue === 'number' ? coverage.defaultValue : 1,
  };
  known.set(method, read);
  return read;
}

function isDocumentId(type: Type): boolean {
  return type.kind === 'struct' && /(^|\.)DocumentId$/.test(type.struct.name);
}

function readNames(reader: BinaryReader): readonly string[] {
  const wire = reader.byte();
  const count = reader.size(4);
  if (count > 0 && wire !== WIRE_OF_KIND.string) throw new WireError('expected a list of strings as shards');
  return Array.from({ length: count }, () => reader.string());
}

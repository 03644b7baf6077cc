// What happens when a caller has one version of an interface and a chassis another. Values of every kind are written
// with one version and read with the other, as the kits do, and the value read is compared with the value meant.
// Compatibility verdicts are checked against this.
import { decodeStruct, encodeStruct } from '../../../core/idl/mod.ts';
import type { Interface, Method, StructType, Type } from '../../../core/thrift/mod.ts';
import * as fc from 'fast-check';
import { anyValue } from '../interfaces/any-interface.ts';

export interface Drift {
  /** Calls whose arguments and reply meant the same to both sides. */
  readonly understood: number;
  /** Calls that failed, or in which something was lost or changed. */
  readonly lost: number;
}

/** Makes calls of every method of the caller, with many arguments and every kind of reply. */
export function drift(caller: Interface, chassis: Interface): Drift {
  const calls = [...caller.methods.values()].flatMap((method) => callsOf(method, chassis.methods.get(method.name)));
  const understood = calls.filter(Boolean).length;
  return { understood, lost: calls.length - understood };
}

const SAMPLES = { numRuns: 40, seed: 1 };

/** Whether each call was understood. */
function callsOf(asked: Method, offered: Method | undefined): boolean[] {
  if (offered === undefined || asked.oneway !== offered.oneway) return [false];
  const args = samples(asked.args).map((value) => isUnderstood(asked.args, offered.args, value));
  const thrown = offered.throws.flatMap((field) =>
    samplesOf(field.type).map((value) => isAnswerUnderstood(asked, offered, { [field.name]: value })),
  );
  if (offered.returns.kind === 'void') return [...args, ...thrown, isAnswerUnderstood(asked, offered, {})];
  const returned = samplesOf(offered.returns).map((success) => isAnswerUnderstood(asked, offered, { success }));
  return [...args, ...thrown, ...returned];
}

function isAnswerUnderstood(asked: Method, offered: Method, answer: Record<string, unknown>): boolean {
  if ('success' in answer && asked.returns.kind === 'void') return true;
  const meant = offered.result.fields.filter(({ name }) => name in answer);
  // An empty reply is that of a void method, or an exception that the caller does not know.
  if (!meant.every(({ id }) => asked.result.fields.some((field) => field.id === id))) return false;
  if (meant.length === 0) return asked.returns.kind === 'void';
  return isUnderstood(offered.result, asked.result, answer);
}

function isUnderstood(writer: StructType, reader: StructType, value: Record<string, unknown>): boolean {
  try {
    return [writer, laconic(writer)].every((writing) =>
      isSameStruct(writer, reader, value, decodeStruct(reader, encodeStruct(writing, value))),
    );
  } catch {
    return false;
  }
}

/**
 * Some writers send the default of an optional field, as our own does. Others leave it to the reader; this struct
 * imitates those.
 */
function laconic(struct: StructType): StructType {
  const bare = { defaultValue: undefined };
  return {
    ...struct,
    fields: struct.fields.map((one) => (one.requiredness === 'optional' ? { ...one, ...bare } : one)),
  };
}

function isSameStruct(
  writer: StructType,
  reader: StructType,
  meant: Record<string, unknown>,
  read: Record<string, unknown>,
): boolean {
  if (reader.kind === 'union' && Object.values(read).filter((value) => value !== undefined).length !== 1) return false;
  return writer.fields.every((field) => {
    const now = reader.fields.find(({ id }) => id === field.id);
    const value = meant[field.name] ?? (writer.kind === 'union' ? undefined : field.defaultValue);
    // The reader ignores fields that it does not know.
    return now === undefined || value === undefined || isSame(field.type, now.type, value, read[now.name]);
  });
}

function isSame(writer: Type, reader: Type, meant: unknown, read: unknown): boolean {
  if (read === undefined) return false;
  if (writer.kind === 'struct' && reader.kind === 'struct') {
    return isSameStruct(
      writer.struct,
      reader.struct,
      meant as Record<string, unknown>,
      read as Record<string, unknown>,
    );
  }
  if (writer.kind === 'map' && reader.kind === 'map') {
    const [from, to] = [[...(meant as Map<unknown, unknown>)], [...(read as Map<unknown, unknown>)]];
    return (
      from.length === to.length &&
      from.every(
        ([key, value], at) =>
          isSame(writer.key, reader.key, key, to[at]?.[0]) && isSame(writer.value, reader.value, value, to[at]?.[1]),
      )
    );
  }
  if ('element' in writer && 'element' in reader) {
    const [from, to] = [[...(meant as Iterable<unknown>)], [...(read as Iterable<unknown>)]];
    return (
      from.length === to.length && from.every((value, at) => isSame(writer.element, reader.element, value, to[at]))
    );
  }
  if (reader.kind === 'enum') {
    if (!reader.enum.byValue.has(read as number)) return false;
    const name = writer.kind === 'enum' ? writer.enum.byValue.get(meant as number) : undefined;
    const same = reader.enum.byName.get(name ?? '');
    return read === meant && (same === undefined || same === read);
  }
  const bytes = (value: unknown): string => Buffer.from(value as string | Uint8Array).toString('hex');
  if (writer.kind === 'string' || writer.kind === 'binary') return bytes(meant) === bytes(read);
  return Object.is(meant, read);
}

function samplesOf(type: Type): unknown[] {
  return type.kind === 'struct' ? samples(type.struct) : fc.sample(anyValue(type, 3), SAMPLES);
}

/** Values with all optional parts, and the same values with as few as possible. */
function samples(struct: StructType): Record<string, unknown>[] {
  const full = fc.sample(anyValue({ kind: 'struct', struct }, 3), SAMPLES) as Record<string, unknown>[];
  return [...full, ...full.map((value) => pruned({ kind: 'struct', struct }, value) as Record<string, unknown>)];
}

function pruned(type: Type, value: unknown): unknown {
  if (type.kind === 'list') return (value as unknown[]).map((part) => pruned(type.element, part));
  if (type.kind !== 'struct') return value;
  const { kind, fields } = type.struct;
  const given = value as Record<string, unknown>;
  // The arguments themselves stay, so that their contents are checked.
  const isKept = (field: StructType['fields'][number]): boolean =>
    given[field.name] !== undefined &&
    (kind === 'union' || field.requiredness === 'required' || field.type.kind === 'struct');
  return Object.fromEntries(fields.filter(isKept).map((field) => [field.name, pruned(field.type, given[field.name])]));
}

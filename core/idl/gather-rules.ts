// Checks `katamari.gather`: how the replies of several shards become one reply.

import type { Gather, Method, Type } from '../thrift/mod.ts';
import { type IdlFile, idlFault, quote, suggest } from './fault.ts';

export const GATHERS: readonly Gather[] = ['sum', 'concat', 'union', 'first', 'search'];

/** Returns the value of the annotation. @throws KatamariError bad_request for an unknown one */
export function gatherOf(file: IdlFile, at: number, value: string): Gather {
  const found = GATHERS.find((gather) => gather === value);
  if (found !== undefined) return found;
  throw idlFault(file, at, `katamari.gather is ${quote(value)}${suggest(value, GATHERS)}`);
}

/** @throws KatamariError bad_request when replies of the method cannot be gathered as its annotation says */
export function checkGather(file: IdlFile, at: number, method: Method): void {
  const { gather, name, args, returns, isReadonly } = method;
  if (gather === undefined) return;
  if (!isReadonly) throw idlFault(file, at, `${quote(name)} has katamari.gather, so it needs katamari.readonly too`);
  const shards = args.fields.find((field) => field.name === 'shards');
  const { type } = shards ?? {};
  if (type?.kind !== 'list' || type.element.kind !== 'string' || shards?.requiredness === 'required')
    throw idlFault(
      file,
      at,
      `${quote(name)} has katamari.gather, so it needs a parameter "optional list<string> shards"`,
    );
  if (!isGatherable(gather, returns))
    throw idlFault(
      file,
      at,
      `katamari.gather of ${quote(name)} is ${quote(gather)}, which needs a result of ${NEEDED[gather]}`,
    );
}

function isGatherable(gather: Gather, returns: Type): boolean {
  if (gather === 'sum') return isNumber(returns) || (returns.kind === 'map' && isNumber(returns.value));
  if (gather === 'union') return returns.kind === 'map' || returns.kind === 'set';
  if (gather === 'concat') return returns.kind === 'list' || listFieldsOf(returns) === 1;
  if (gather === 'search') return returns.kind === 'struct';
  return returns.kind !== 'void';
}

function isNumber({ kind }: Type): boolean {
  return kind === 'i8' || kind === 'i16' || kind === 'i32' || kind === 'i64' || kind === 'double';
}

function listFieldsOf(type: Type): number {
  return type.kind === 'struct' ? type.struct.fields.filter((field) => field.type.kind === 'list').length : 0;
}

const NEEDED: Readonly<Record<Gather, string>> = {
  sum: 'numbers or maps of numbers',
  union: 'maps or sets',
  concat: 'lists, or structs with one list',
  search: 'Found of search.thrift',
  first: 'any type but void',
};

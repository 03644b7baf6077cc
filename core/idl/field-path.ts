// Compiles a path of names, `args.user.id`, to a finder of that argument of a method.

import { FieldFinder, type FoundKind, type Method, type Type } from '../thrift/mod.ts';
import { suggest } from './fault.ts';
import { nameOfType } from './typename.ts';

/** Why a method does not have the argument of a path. */
export interface PathProblem {
  /** For people: `price has no argument "usr", did you mean "user"?` */
  readonly text: string;
  /** Names of the path that exist. */
  readonly namesFound: number;
}

/** @param path matches ARGUMENT_PATH */
export function argumentFinder({ name: method, args }: Method, path: string): FieldFinder | PathProblem {
  const [, ...names] = path.split('.');
  const ids: number[] = [];
  let { fields } = args;
  let owner = method;
  for (const [at, name] of names.entries()) {
    const field = fields.find((one) => one.name === name);
    if (field === undefined) {
      const known = suggest(
        name,
        fields.map((one) => one.name),
      );
      return { text: `${owner} has no ${at === 0 ? 'argument' : 'field'} "${name}"${known}`, namesFound: at };
    }
    const { type } = field;
    owner = `args.${names.slice(0, at + 1).join('.')} of ${method}`;
    ids.push(field.id);
    const isLast = at === names.length - 1;
    if (isLast && isFound(type.kind)) return new FieldFinder(ids, type.kind);
    if (isLast) return { text: `${owner} is ${nameOfType(type)}, expected ${EXPECTED}`, namesFound: at + 1 };
    if (type.kind !== 'struct')
      return { text: `${owner} is ${nameOfType(type)}, expected a struct`, namesFound: at + 1 };
    ({ fields } = type.struct);
  }
  return { text: `${method} has no argument ""`, namesFound: 0 };
}

function isFound(kind: Type['kind']): kind is FoundKind {
  return FOUND.has(kind);
}

/** A path below the arguments of a method. */
export const ARGUMENT_PATH: RegExp = /^args(?:\.[A-Za-z_]\w{0,99}){1,10}$/;
const FOUND: ReadonlySet<Type['kind']> = new Set<FoundKind>([
  'bool',
  'i8',
  'i16',
  'i32',
  'i64',
  'enum',
  'string',
  'binary',
  'uuid',
]);
const EXPECTED = 'string, binary, bool, a whole number, an enum or uuid';

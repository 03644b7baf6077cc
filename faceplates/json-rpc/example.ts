// Example values by type, for the example request on `GET /`.

import type { Type } from '../../core/thrift/mod.ts';

/** Returns the smallest value of the type that the mesh accepts. */
export function exampleOf(type: Type): unknown {
  switch (type.kind) {
    case 'void':
      return null;
    case 'bool':
      return true;
    case 'i8':
    case 'i16':
    case 'i32':
    case 'i64':
    case 'double':
      return 1;
    case 'string':
      return 'text';
    case 'binary':
      return 'Ynl0ZXM=';
    case 'uuid':
      return '00112233-4455-6677-8899-aabbccddeeff';
    case 'enum':
      return [...type.enum.byName.keys()][0] ?? 0;
    case 'list':
    case 'set':
      return [];
    case 'map':
      return isObjectKey(type.key) ? {} : [];
    case 'struct': {
      const { kind, fields } = type.struct;
      // This recursion ends: a struct that requires itself would have no values. The same holds for the first field
      // of a sensible union.
      const shown = kind === 'union' ? fields.slice(0, 1) : fields.filter((field) => field.requiredness === 'required');
      return Object.fromEntries(shown.map((field) => [field.name, exampleOf(field.type)]));
    }
  }
}

function isObjectKey({ kind }: Type): boolean {
  return OBJECT_KEYS.has(kind);
}

const OBJECT_KEYS: ReadonlySet<Type['kind']> = new Set(['string', 'enum', 'i8', 'i16', 'i32', 'i64', 'bool']);

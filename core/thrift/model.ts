// What an IDL file means once it is understood: every name resolved, every typedef followed, every service with the
// methods it inherits. Everything downstream (codecs, JSON mapping, discovery, pool identity) reads this and never
// the syntax tree.

/** A resolved Thrift type. Typedefs are gone; `struct` covers struct, union and exception. */
export type Type =
  | { readonly kind: 'void' | 'bool' | 'i8' | 'i16' | 'i32' | 'i64' | 'double' | 'string' | 'binary' | 'uuid' }
  | { readonly kind: 'enum'; readonly enum: EnumType }
  | { readonly kind: 'struct'; readonly struct: StructType }
  | { readonly kind: 'list' | 'set'; readonly element: Type }
  | { readonly kind: 'map'; readonly key: Type; readonly value: Type };

export interface EnumType {
  readonly name: string;
  readonly doc: string;
  /** In the order of the file. */
  readonly byName: ReadonlyMap<string, number>;
  readonly byValue: ReadonlyMap<number, string>;
}

/** Recursive types are real cycles: `fields` is filled after the object exists. */
export interface StructType {
  readonly kind: 'struct' | 'union' | 'exception';
  /** Qualified (`shared.SharedStruct`) when it comes from an included file, else plain. */
  readonly name: string;
  readonly doc: string;
  readonly annotations: Annotations;
  /** In the order of the file. */
  readonly fields: readonly Field[];
}

export interface Field {
  readonly id: number;
  readonly name: string;
  readonly doc: string;
  readonly type: Type;
  readonly requiredness: 'required' | 'optional' | 'default';
  /** Default value as the plain JavaScript value a handler would see (i64 as bigint), or undefined for none. */
  readonly defaultValue: unknown;
  readonly annotations: Annotations;
}

export interface Method {
  readonly name: string;
  readonly doc: string;
  /** The service that declares it: a parent's name for inherited methods. */
  readonly declaredBy: string;
  readonly args: StructType;
  /** Field 0 `success` unless void, then the declared exceptions under their own ids. */
  readonly result: StructType;
  readonly returns: Type;
  readonly throws: readonly Field[];
  readonly oneway: boolean;
  readonly annotations: Annotations;
  /** `katamari.idempotent`, or implied by `katamari.readonly`. */
  readonly isIdempotent: boolean;
  readonly isReadonly: boolean;
  /** `katamari.timeout` in ms, 0 for none. */
  readonly timeoutMs: number;
  /** `katamari.cache` in ms, 0 for none. */
  readonly cacheMs: number;
}

/** One service as the mesh sees it: what pools compare, faceplates encode by, and clients download. */
export interface Interface {
  readonly service: string;
  readonly doc: string;
  /** Own and inherited methods by name. */
  readonly methods: ReadonlyMap<string, Method>;
  /** sha256 (hex) of `canonical`: equal for equal interfaces, whatever the order, comments or file layout. */
  readonly id: string;
  /** The service and all it needs as one self-contained IDL text in canonical order. */
  readonly canonical: string;
  /** The files it was compiled from, by the name they are included under. */
  readonly source: IdlSource;
}

export type Annotations = Readonly<Record<string, string>>;

/** IDL text as it travels between processes: the main file and everything it includes, directly or not. */
export interface IdlSource {
  readonly main: string;
  readonly files: Readonly<Record<string, string>>;
}

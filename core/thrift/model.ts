// The resolved model of an IDL file: all names and typedefs are resolved, and services include inherited methods.
// Codecs, JSON mapping, discovery and pool identity read this model, not the syntax tree.

/** A resolved Thrift type without typedefs. `struct` stands for structs, unions and exceptions. */
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

/** A struct, union or exception. Recursive types are cyclic: `fields` is filled after the object is created. */
export interface StructType {
  readonly kind: 'struct' | 'union' | 'exception';
  /** Qualified (`shared.SharedStruct`) if it comes from an included file. */
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
  /** Default value as a plain JavaScript value (i64 as bigint), or undefined for none. */
  readonly defaultValue: unknown;
  readonly annotations: Annotations;
}

export interface Method {
  readonly name: string;
  readonly doc: string;
  /** Name of the service that declares the method; a parent's for inherited methods. */
  readonly declaredBy: string;
  readonly args: StructType;
  /** The result struct: field 0 `success` unless void, then the declared exceptions with their own ids. */
  readonly result: StructType;
  readonly returns: Type;
  readonly throws: readonly Field[];
  readonly oneway: boolean;
  readonly annotations: Annotations;
  /** `katamari.idempotent`, or implied by `katamari.readonly`. */
  readonly isIdempotent: boolean;
  readonly isReadonly: boolean;
  /** `katamari.timeout` in ms; 0 for none. */
  readonly timeoutMs: number;
  /** `katamari.cache` in ms; 0 for none. */
  readonly cacheMs: number;
  /** `katamari.gather`: how the replies of several shards become one reply. Undefined for a method without shards. */
  readonly gather: Gather | undefined;
  /**
   * `katamari.hedge`: the percentile of the method's times after which a second copy of a call is sent, 50 to 99.9; 0
   * for never.
   */
  readonly hedge: number;
  /** `katamari.majority`: several copies of the service get each call. Undefined for a method without it. */
  readonly majority: Majority | undefined;
}

/** The answer that enough copies give alike is the answer to the call. */
export interface Majority {
  /** Answers that must be alike: more than half of `copies`. */
  readonly alike: number;
  /** Copies that get the call, 2 to 9. */
  readonly copies: number;
  /** The copies are of different versions. */
  readonly ofVersions: boolean;
  /** If fewer copies are up, those get the call. Otherwise it fails. */
  readonly orFewer: boolean;
}

/**
 * `sum` adds numbers, or the values of maps; `concat` joins lists in order of the shards, also the only list of a
 * struct; `union` joins maps or sets; `first` takes the first result that is not empty; `search` merges hits.
 */
export type Gather = 'sum' | 'concat' | 'union' | 'first' | 'search';

/** The interface of a service. Pools compare it, faceplates encode by it, and clients download it. */
export interface Interface {
  readonly service: string;
  readonly doc: string;
  /** Own and inherited methods by name. */
  readonly methods: ReadonlyMap<string, Method>;
  /** SHA-256 (hex) of `canonical`. Independent of order, comments and file layout. */
  readonly id: string;
  /** The service and all types it needs as one self-contained IDL text in canonical order. */
  readonly canonical: string;
  /** The IDL files from which it was compiled. */
  readonly source: IdlSource;
}

export type Annotations = Readonly<Record<string, string>>;

/** IDL text as it is sent between processes: the main file and all direct and indirect includes. */
export interface IdlSource {
  readonly main: string;
  readonly files: Readonly<Record<string, string>>;
}

// The door to the IDL room: text to meaning, values to bytes, and what is written from an interface.

export { decodeStruct, type DecodeOptions, encodeStruct } from './codec.ts';
export { changesBetween, type Change, type Verdict } from './compatibility.ts';
export { describeDifference } from './diff.ts';
export { decodeParams, decodeResult, encodeParams, encodeResult, type JsonResult } from './json.ts';
export type { Annotations, EnumType, Field, IdlSource, Interface, Method, StructType, Type } from '../thrift/model.ts';
export { type Idl, parseIdl, readIdlFile } from './parse.ts';
export { type JsonSchema, type ParamDescription, paramsOf, schemaOf } from './schema.ts';
export { type TypesOptions, writeTypes } from './types.ts';
export { nameOfType } from './typename.ts';

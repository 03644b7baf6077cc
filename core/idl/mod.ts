// The Thrift interface language: parses IDL, encodes and decodes values by it, and compares interfaces. Other modules
// import only from here.

export { decodeStruct, encodeStruct, valueOfResult } from './codec.ts';
export { type Change, changesBetween, type Compatibility } from './compatibility.ts';
export {
  compareReplies,
  type CompareOptions,
  type ReplyComparison,
  type MethodReply,
  type ReplyDifference,
} from './compare-replies.ts';
export {
  HEDGE,
  HEDGE_EXPECTED,
  MAJORITY,
  MAJORITY_EXPECTED,
  majorityText,
  readHedge,
  readMajority,
  whyNotCopied,
} from './copy-rules.ts';
export { describeDifference } from './diff.ts';
export { suggest } from './fault.ts';
export { decodeResult, encodeParams } from './json.ts';
export { ARGUMENT_PATH, argumentFinder, type PathProblem } from './field-path.ts';
export { type JsonText, resultText } from './json-text.ts';
export { type Idl, parseIdl } from './parse.ts';
export { areParamsMoved, paramsOf, schemaOf } from './schema.ts';
export { shortArguments } from './short-text.ts';
export { readIdlFile } from './source.ts';
export { nameOfType } from './typename.ts';
export { writeTypes } from './types.ts';

// The Thrift wire format: values, message heads, exceptions and limits. Other modules import only from here.

export {
  APPLICATION_EXCEPTION,
  applicationExceptionOf,
  readApplicationException,
  writeApplicationException,
} from './application-exception.ts';
export { at, BinaryReader, BinaryWriter, minimumBytes, WIRE_OF_KIND, wireName, WireError } from './binary.ts';
export { FieldFinder, type FoundKind } from './field-finder.ts';
export { type HeadersIn, isOwnHeader } from './headers.ts';
export {
  bareMessage,
  checkNameBytes,
  checkType,
  frameMessage,
  MESSAGE_TYPE,
  type MessageHead,
  messageHead,
  type MessageType,
  NAME_BYTES_MAX,
  NOTHING,
  oldHead,
  parseTarget,
  putFrameHead,
  readHead,
  readOldHead,
} from './message.ts';
export type {
  Annotations,
  EnumType,
  Field,
  Gather,
  IdlSource,
  Interface,
  Majority,
  Method,
  StructType,
  Type,
} from './model.ts';
export { readCachedString, writeCachedString } from './string-cache.ts';
export { declaredSize, tooDeep, tooLarge } from './struct-limits.ts';
export { StructScanner, WIRE_TYPE } from './struct-scanner.ts';
export { bytesOfText, compareUtf8, hasEscapes, strictText, textOfBytes, textOfLatin1, trimSpaces } from './text.ts';
export { declaredException, ThriftException } from './thrift-exception.ts';

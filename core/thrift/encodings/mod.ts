// Encodings of Thrift messages: every supported combination of transport and protocol. Other modules import only from
// here.

export { COPY_BYTES_MAX, type Encoding, type EncodingLimits, type MessageFacts, type SchemaOf } from './encoding.ts';
export { FramedBinary } from './framed-binary.ts';
export { HEADER_MAGIC, headerBlock, HeaderEncoding } from './header.ts';
export { type CheckHead, HttpEncoding } from './http.ts';
export {
  encodingOf,
  HEADER_PROTOCOLS,
  isWireFormat,
  type WireFormat,
  wireFormatOf,
  type Protocol,
  protocolOf,
  PROTOCOLS,
  type Transport,
  TRANSPORTS,
} from './protocols.ts';

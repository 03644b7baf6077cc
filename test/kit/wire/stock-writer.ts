// Writes values of any interface with Apache's `thrift` package, in any of its protocols. Property tests compare our
// encodings with it.
import type { StructType } from '../../../core/thrift/mod.ts';
import { loadApache, writeStruct, type ApacheProtocol } from '../../../services/cli/conform/apache-values.ts';

export type StockProtocol = 'TBinaryProtocol' | 'TCompactProtocol' | 'TJSONProtocol';

/** The struct alone, field by field in the order of the file. */
export function stockStruct(protocol: StockProtocol, struct: StructType, value: Record<string, unknown>): Buffer {
  return written(protocol, (output) => writeStruct(output, struct, value));
}

/** A call of method `name` with these arguments. */
export function stockCall(
  protocol: StockProtocol,
  name: string,
  seqId: number,
  struct: StructType,
  value: Record<string, unknown>,
): Buffer {
  return written(protocol, (output) => {
    output.writeMessageBegin(name, 1, seqId);
    writeStruct(output, struct, value);
    output.writeMessageEnd();
  });
}

function written(protocol: StockProtocol, write: (output: ApacheProtocol) => void): Buffer {
  const parts: Buffer[] = [];
  const output = new (loadApache()[protocol])({
    write: (bytes) => void parts.push(Buffer.from(bytes)),
    flush() {},
    setCurrSeqId() {},
    borrow: () => expectNoReads(),
    read: () => expectNoReads(),
  });
  write(output);
  output.flush();
  return Buffer.concat(parts);
}

function expectNoReads(): never {
  throw new Error('this transport is only written to');
}

// Control messages of a link (idl/link.thrift): hello, ping, cancel, drain. The link server handles them itself.

import { KatamariError } from '../mod.ts';
import { EMPTY_STRUCT } from '../rpc/mod.ts';
import { frameMessage, MESSAGE_TYPE, NOTHING, WIRE_TYPE } from '../thrift/mod.ts';

export const LINK_CALLS = {
  hello: 'katamari.Link:hello',
  prove: 'katamari.Link:prove',
  ping: 'katamari.Link:ping',
  cancel: 'katamari.Link:cancel',
  drain: 'katamari.Link:drain',
} as const;

/** Prefix of the names of control messages. */
export const LINK_SERVICE = 'katamari.Link:';

/** Returns the message that cancels the call with this sequence id. */
export function cancelMessage(seqId: number): Buffer {
  const args = Buffer.alloc(8);
  args[0] = WIRE_TYPE.i32;
  args[2] = 1;
  args.writeInt32BE(seqId, 3);
  return frameMessage(MESSAGE_TYPE.oneway, LINK_CALLS.cancel, 0, NOTHING, args);
}

/** Returns the result of a ping: the time of this process, in us. */
export function pingResult(nowMs: number): Buffer {
  const result = Buffer.alloc(12);
  result[0] = WIRE_TYPE.i64;
  result.writeBigInt64BE(BigInt(Math.floor(nowMs * 1000)), 3);
  return result;
}

/** Returns the time in the result of a ping, in ms; undefined if the peer sent none. */
export function readPeerTime(frame: Buffer, resultStart: number): number | undefined {
  if (frame.length - resultStart < 12 || frame.readUIntBE(resultStart, 3) !== WIRE_TYPE.i64 << 16) return undefined;
  return Number(frame.readBigInt64BE(resultStart + 3)) / 1000;
}

/** Returns the sequence id in a cancel message. @throws KatamariError bad_request */
export function readCancelled(frame: Buffer, argsStart: number): number {
  if (frame.length - argsStart < 8 || frame.readUIntBE(argsStart, 3) !== (WIRE_TYPE.i32 << 16) + 1)
    throw new KatamariError('bad_request', 'Malformed cancel message: expected the sequence id of a call');
  return frame.readInt32BE(argsStart + 3);
}

/**
 * Returns the message that tells the client that the server accepts no further calls. No call has sequence id 0, so
 * an older client ignores it.
 */
export function drainNotice(): Buffer {
  return frameMessage(MESSAGE_TYPE.oneway, LINK_CALLS.drain, 0, NOTHING, EMPTY_STRUCT);
}

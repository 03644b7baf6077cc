// Messages of a link that are no calls of anybody's (idl/link.thrift): ping, cancel, drain. The link server answers them itself.

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

/** What all of these names begin with. */
export const LINK_SERVICE = 'katamari.Link:';

/** The call with that sequence id is not waited for any more. */
export function cancelMessage(seqId: number): Buffer {
  const args = Buffer.alloc(8);
  args[0] = WIRE_TYPE.i32;
  args[2] = 1;
  args.writeInt32BE(seqId, 3);
  return frameMessage(MESSAGE_TYPE.oneway, LINK_CALLS.cancel, 0, NOTHING, args);
}

/** The sequence id that a cancel message names. @throws KatamariError bad_request */
export function readCancelled(frame: Buffer, argsStart: number): number {
  if (frame.length - argsStart < 8 || frame.readUIntBE(argsStart, 3) !== (WIRE_TYPE.i32 << 16) + 1)
    throw new KatamariError('bad_request', 'A cancel message names no call');
  return frame.readInt32BE(argsStart + 3);
}

/** The server's word that it takes no further call. Sequence id 0 is that of no call, so an older client passes over it. */
export function drainNotice(): Buffer {
  return frameMessage(MESSAGE_TYPE.oneway, LINK_CALLS.drain, 0, NOTHING, EMPTY_STRUCT);
}

// Hostile bytes for the link port: a peer that has not proved that it knows the secret, and one that has.

import type { Random } from '../kit/tools/random.ts';
import { createCall } from '../../core/rpc/mod.ts';
import { LINK_CALLS, writeCallContext } from '../../core/link/mod.ts';
import { frameMessage, NOTHING } from '../../core/thrift/mod.ts';
import { endingOf, mutated, pieceBytesOf } from './mutate.ts';
import type { GoodCall, Input } from './target.ts';
import { thriftInput } from './thrift-inputs.ts';

/** Before the handshake: calls that nobody may read, and handshakes that fail. */
export function strangerInput(random: Random, calls: readonly GoodCall[]): Input {
  if (random.chance(0.3)) return thriftInput(random, calls, true);
  const steps = Array.from({ length: random.between(1, 4) }, () => random.pick(HANDSHAKES)(random));
  return sent(random, 'handshake', Buffer.concat(steps));
}

/** After the handshake: calls with contexts of all kinds, and control messages. */
export function memberInput(random: Random, calls: readonly GoodCall[]): Input {
  if (random.chance(0.4)) return thriftInput(random, calls, true);
  const steps = Array.from({ length: random.between(1, 6) }, () =>
    random.chance(0.5) ? random.pick(CONTROLS)(random) : callWithContext(random, random.pick(calls)),
  );
  return sent(random, 'member', Buffer.concat(steps));
}

function sent(random: Random, whose: string, all: Buffer): Input {
  const { what, bytes } = mutated(random, all);
  return { what: `${whose}: ${what}`, bytes, pieceBytes: pieceBytesOf(random, bytes.length), ending: endingOf(random) };
}

const HANDSHAKES: readonly ((random: Random) => Buffer)[] = [
  (random) => control(random, LINK_CALLS.hello, binary(1, random.bytes(32))),
  (random) => control(random, LINK_CALLS.hello, binary(1, random.bytes(32))),
  (random) => control(random, LINK_CALLS.hello, binary(1, random.bytes(random.pick([0, 1, 31, 33, 150, 300])))),
  (random) => control(random, LINK_CALLS.hello, binary(random.between(0, 3), random.bytes(32))),
  (random) => control(random, LINK_CALLS.prove, binary(1, random.bytes(random.pick([32, 32, 32, 0, 31, 33])))),
  (random) => control(random, random.pick([LINK_CALLS.ping, LINK_CALLS.cancel, LINK_CALLS.drain]), Buffer.of(0)),
  (random) =>
    control(
      random,
      random.pick(['katamari.Link:', 'katamari.Link:x', 'hello', ':', 'katamari.Manager:status']),
      Buffer.of(0),
    ),
];

const CONTROLS: readonly ((random: Random) => Buffer)[] = [
  (random) => control(random, LINK_CALLS.ping, Buffer.of(0)),
  (random) => control(random, LINK_CALLS.cancel, Buffer.concat([int32(1, random.between(-5, 60)), Buffer.of(0)])),
  (random) => control(random, LINK_CALLS.cancel, random.pick([Buffer.of(0), binary(1, random.bytes(9)), int32(2, 1)])),
  (random) => control(random, LINK_CALLS.drain, Buffer.of(0)),
  (random) => control(random, LINK_CALLS.hello, binary(1, random.bytes(32))),
  (random) => control(random, LINK_CALLS.prove, binary(1, random.bytes(32))),
  (random) =>
    control(random, random.pick(['katamari.Link:', 'katamari.Link:x', 'katamari.Link:__proto__']), Buffer.of(0)),
  (random) =>
    control(
      random,
      random.pick([
        'katamari.Manager:status',
        'katamari.Manager:x',
        'katamari.Mesh:describe',
        'katamari.Chassis:describe',
      ]),
      Buffer.of(0),
    ),
  (random) =>
    control(
      random,
      'katamari.Manager:events',
      Buffer.concat([
        int64(1, random.pick([0, -1, 1_000_000, 2 ** 60])),
        int32(2, random.pick([0, 1, 1_000, 0x7fffffff, -1])),
        Buffer.of(0),
      ]),
    ),
];

/** Small sequence ids, so that some are in use and cancels find their calls. */
function control(random: Random, name: string, args: Buffer): Buffer {
  return frameMessage(random.pick([1, 1, 1, 4, 2, 3]), name, random.between(-5, 60), NOTHING, args);
}

function callWithContext(random: Random, call: GoodCall): Buffer {
  const odd = (usual: string): string =>
    random.chance(0.8) ? usual : random.pick(['', '^1', '][', '\0', 'ü'.repeat(300), '__proto__', 'x'.repeat(5_000)]);
  const context = writeCallContext(
    createCall({
      service: odd(call.service),
      method: call.method,
      args: call.args,
      version: odd('1.0.0'),
      roles: random.chance(0.1) ? [odd('a'), odd('b')] : [],
      tags: random.chance(0.1) ? [odd('a')] : [],
      details: random.chance(0.1) ? { [odd('a')]: odd('b') } : {},
      key: odd(''),
      traceparent: odd(''),
      caller: odd('fuzz'),
      headers: random.chance(0.2) ? { [odd('a')]: odd('b') } : {},
      doNotQueue: random.chance(0.2),
      deadlineMs: 0,
    }),
    random.pick([1_000_000, 1_000_000, 1_000_000, 0, 1, 2 ** 52]),
    random.chance(0.3) ? random.pick([0, 1, performance.now(), 2 ** 40]) : undefined,
  );
  const name = random.pick([call.method, `${call.service}:${call.method}`, `${call.service}@^1:${call.method}`]);
  return frameMessage(random.chance(0.9) ? 1 : 4, name, random.between(-5, 60), context, call.args);
}

function binary(id: number, value: Buffer): Buffer {
  const field = Buffer.alloc(8 + value.length);
  field[0] = 11;
  field.writeInt16BE(id, 1);
  field.writeInt32BE(value.length, 3);
  value.copy(field, 7);
  return field;
}

function int32(id: number, value: number): Buffer {
  const field = Buffer.alloc(7);
  field[0] = 8;
  field.writeInt16BE(id, 1);
  field.writeInt32BE(value | 0, 3);
  return field;
}

function int64(id: number, value: number): Buffer {
  const field = Buffer.alloc(11);
  field[0] = 10;
  field.writeInt16BE(id, 1);
  field.writeBigInt64BE(BigInt(value), 3);
  return field;
}

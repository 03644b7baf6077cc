// Random bytes for Thrift ports: valid messages, and messages corrupted in many ways.
import type { Random } from '../kit/tools/random.ts';
import { randomStruct } from '../kit/interfaces/random-struct.ts';
import { frameMessage, NOTHING, type MessageType } from '../../core/thrift/mod.ts';
import { flipped } from './mutate.ts';
import type { GoodCall, Input } from './target.ts';

/** @param withContext for links: half of the messages carry a CallContext */
export function thriftInput(random: Random, calls: readonly GoodCall[], withContext: boolean): Input {
  const framed = withContext || random.chance(0.6);
  const count = random.chance(0.7) ? 1 : random.between(2, 6);
  const parts: Buffer[] = [];
  const whats: string[] = [];
  for (let i = 0; i < count; i++) {
    const good = goodMessage(random, random.pick(calls), withContext);
    const [what, spoil] = random.pick(SPOILERS);
    whats.push(what);
    const spoilt = spoil(random, good);
    parts.push(framed ? reframed(random, spoilt) : spoilt.subarray(4));
  }
  const bytes = Buffer.concat(parts);
  return {
    what: `${framed ? 'framed' : 'unframed'}: ${whats.join(', ')}`,
    bytes,
    pieceBytes: random.chance(0.15) ? Math.max(random.between(1, 7), bytes.length >> 6) : 0,
    // Most inputs keep the connection, so that the next one meets the state that this one left.
    ending: random.chance(0.65) ? 'wait for an answer' : random.chance(0.4) ? 'break off' : 'end',
  };
}

/** A framed message that is valid except, perhaps, for its name. */
function goodMessage(random: Random, call: GoodCall, withContext: boolean): Buffer {
  const name = random.pick([
    call.method,
    `${call.service}:${call.method}`,
    `${call.service}@1.0.0:${call.method}`,
    `${call.service}@^1:${call.method}`,
  ]);
  const type: MessageType = random.chance(0.05) ? 4 : 1;
  const first = random.chance(withContext ? 0.5 : 0.1) ? context(random) : NOTHING;
  return frameMessage(type, name, random.between(-5, 1_000_000), first, call.args);
}

/** Field 32767 with a time left of 1 s, sometimes with more fields. */
function context(random: Random): Buffer {
  const timeLeft = Buffer.from('0c7fff0a000100000000000f4240', 'hex');
  const rest = random.chance(0.3) ? randomStruct(random) : Buffer.of(0);
  return Buffer.concat([timeLeft, rest]);
}

/** Writes the new length before a corrupted message, sometimes a wrong one. */
function reframed(random: Random, message: Buffer): Buffer {
  const bytes = Buffer.from(message);
  if (bytes.length < 4 || random.chance(0.2)) return bytes;
  const length = bytes.length - 4;
  bytes.writeInt32BE(
    random.chance(0.9)
      ? length
      : random.pick([0, 1, -1, length - 1, length + 1, length * 2, 0x7fffffff, -0x80000000, 17 << 20]),
    0,
  );
  return bytes;
}

/** Mutations of a framed message. Offsets below 4 are its length, which `reframed` corrects most of the time. */
const SPOILERS: readonly (readonly [what: string, spoil: (random: Random, message: Buffer) => Buffer])[] = [
  ['good', (_random, message) => message],
  ['good again', (_random, message) => message],
  ['flipped bytes', flipped],
  ['flipped bytes again', flipped],
  [
    'a size that cannot be',
    (random, message) => {
      const bytes = Buffer.from(message);
      bytes.writeInt32BE(
        random.pick([-1, 0x7fffffff, -0x80000000, 1 << 24, (1 << 24) + 1, 65_536, 0]),
        random.below(bytes.length - 3),
      );
      return bytes;
    },
  ],
  ['cut short', (random, message) => message.subarray(0, random.below(message.length))],
  [
    'bytes put in',
    (random, message) => {
      const at = random.below(message.length);
      return Buffer.concat([message.subarray(0, at), random.bytes(random.between(1, 40)), message.subarray(at)]);
    },
  ],
  [
    'bytes left out',
    (random, message) => {
      const at = random.below(message.length);
      return Buffer.concat([message.subarray(0, at), message.subarray(at + random.between(1, 20))]);
    },
  ],
  ['twice in one frame', (_random, message) => Buffer.concat([message, message.subarray(4)])],
  ['other arguments', (random, message) => Buffer.concat([headOf(message), randomStruct(random)])],
  [
    'deep nesting',
    (random, message) => {
      const levels = random.pick([10, 63, 64, 65, 66, 1_000, 20_000]);
      const level = random.pick(['0c0001', '0f00010f00000001', '0d00010d0d00000001', '0e00010c00000001']);
      const bytes = Buffer.from(level.repeat(levels), 'hex');
      return Buffer.concat([headOf(message), bytes, Buffer.alloc(random.chance(0.5) ? levels + 1 : 3)]);
    },
  ],
  [
    'a flood of empty things',
    (random, message) => {
      const count = random.pick([1, 1_000, 50_000]);
      const field = Buffer.from('0f00010c00000000', 'hex');
      field.writeInt32BE(count, 4);
      return Buffer.concat([headOf(message), field, Buffer.alloc(count + 1)]);
    },
  ],
  [
    'another name',
    (random, message) => {
      const name = random.pick([
        '',
        ':',
        '@',
        '@:',
        'a:b:c',
        'x'.repeat(1_024),
        'x'.repeat(1_025),
        '__proto__',
        'constructor',
        'Nobody@9.9.9:x',
        '\0',
        '\ufffd\u202e',
        'add\n',
        `n${random.below(1e9)}`,
      ]);
      return frameMessage(1, name, 1, NOTHING, message.subarray(headOf(message).length));
    },
  ],
  [
    'contexts before contexts',
    (random, message) => {
      const head = headOf(message);
      return Buffer.concat([
        head,
        context(random),
        context(random),
        Buffer.from('0b7fff00000001780c7fff00', 'hex'),
        message.subarray(head.length),
      ]);
    },
  ],
  [
    'a large field',
    (random, message) => {
      const length = random.pick([1_000, 70_000, random.chance(0.1) ? 2_000_000 : 5_000]);
      const field = Buffer.alloc(7 + length + 1, 0x61);
      field.writeUIntBE(0x0b4e20, 0, 3);
      field.writeInt32BE(length, 3);
      field[field.length - 1] = 0;
      return Buffer.concat([headOf(message), field]);
    },
  ],
  ['another protocol', (random) => random.pick(STRANGERS)],
  ['noise', (random) => random.bytes(random.between(1, 400))],
];

/** Length, type, name and sequence id of a valid message. */
function headOf(message: Buffer): Buffer {
  return message.subarray(0, 4 + 8 + message.readInt32BE(8) + 4);
}

const STRANGERS: readonly Buffer[] = [
  'GET / HTTP/1.1\r\nhost: localhost\r\n\r\n',
  'POST /rpc HTTP/1.1\r\ncontent-length: 5\r\n\r\n{}',
  'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  'P',
  '[1,"add",1,0,{}]',
  '\x16\x03\x01\x02\x00\x01\x00',
  '\0\0\0\x10[1,"add",1,0,{}]',
  '\x82\x21\x01\x03add\0',
  '\0\0\0\x08\x82\x21\x01\x03add\0',
  '\0\0\0\x4e\x0f\xff\0\0\0\0\0\x01\0\x01',
  '\0\0\0\x03add\x01\0\0\0\x01\0',
  '\0\0\0\0\0\0\0\0\0\0',
].map((text) => Buffer.from(text, 'latin1'));

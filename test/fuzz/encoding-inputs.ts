// Random bytes for the other Thrift encodings: old binary, compact and JSON, framed, buffered, in THeader and over
// HTTP. Valid messages written by the encodings themselves, corrupted ones, and attacks specific to an encoding:
// decompression bombs, deep nesting, false sizes.

import { deflateSync } from 'node:zlib';
import type { Random } from '../kit/tools/random.ts';
import { type EncodingLimits, HeaderEncoding, PROTOCOLS, type Protocol } from '../../core/thrift/encodings/mod.ts';
import { bareEncoding } from '../../core/thrift/encodings/protocols.ts';
import { flipped } from './mutate.ts';
import type { GoodCall, Input } from './target.ts';

const LIMITS: EncodingLimits = { frameBytesMax: 1 << 26, nestingMax: 1_000_000 };
const WAYS = ['framed', 'buffered', 'header', 'http'] as const;

export function encodingInput(random: Random, calls: readonly GoodCall[]): Input {
  const way = random.pick(WAYS);
  const protocol = way === 'header' ? random.pick(['binary', 'compact'] as const) : random.pick(PROTOCOLS);
  const count = random.chance(0.7) ? 1 : random.between(2, 6);
  const parts: Buffer[] = [];
  const whats: string[] = [];
  for (let n = 0; n < count; n++) {
    const [what, spoil] = random.pick(SPOILERS);
    whats.push(what);
    parts.push(spoil(random, { way, protocol, call: random.pick(calls) }));
  }
  const bytes = Buffer.concat(parts);
  return {
    what: `${way} ${protocol}: ${whats.join(', ')}`,
    bytes,
    pieceBytes: random.chance(0.15) ? Math.max(random.between(1, 7), bytes.length >> 6) : 0,
    ending: random.chance(0.65) ? 'wait for an answer' : random.chance(0.4) ? 'break off' : 'end',
  };
}

interface Choice {
  readonly way: (typeof WAYS)[number];
  readonly protocol: Protocol;
  readonly call: GoodCall;
}

type Spoiler = (random: Random, choice: Choice) => Buffer;

const SPOILERS: readonly (readonly [what: string, spoil: Spoiler])[] = [
  ['good', good],
  ['good again', good],
  ['good once more', good],
  ['flipped bytes', (random, choice) => flipped(random, good(random, choice))],
  ['flipped bytes again', (random, choice) => flipped(random, good(random, choice))],
  ['flipped inside', (random, choice) => wrapped(random, choice, flipped(random, bare(random, choice)))],
  [
    'cut short',
    (random, choice) => {
      const bytes = good(random, choice);
      return bytes.subarray(0, random.below(bytes.length));
    },
  ],
  [
    'cut short inside',
    (random, choice) => {
      const bytes = bare(random, choice);
      return wrapped(random, choice, bytes.subarray(0, random.below(bytes.length)));
    },
  ],
  [
    'bytes put in',
    (random, choice) => {
      const bytes = good(random, choice);
      const at = random.below(bytes.length);
      return Buffer.concat([bytes.subarray(0, at), random.bytes(random.between(1, 40)), bytes.subarray(at)]);
    },
  ],
  [
    'two in one',
    (random, choice) => wrapped(random, choice, Buffer.concat([bare(random, choice), bare(random, choice)])),
  ],
  ['deep nesting', (random, choice) => wrapped(random, choice, deep(random, choice))],
  ['declared sizes', (random, choice) => wrapped(random, choice, declared(random, choice))],
  ['much from little', (random, choice) => wrapped(random, choice, swelling(random, choice))],
  ['a bomb of zlib', bomb],
  ['headers', headers],
  ['noise', (random, choice) => wrapped(random, choice, random.bytes(random.between(1, 200)))],
];

/** A message that is valid except, perhaps, for its name. */
function bare(random: Random, { protocol, call }: Choice): Buffer {
  const name = random.pick([
    call.method,
    `${call.service}:${call.method}`,
    `${call.service}@^1:${call.method}`,
    '',
    'x'.repeat(1_025),
    '"\\',
  ]);
  const out: Uint8Array[] = [];
  bareEncoding(protocol, LIMITS).write(
    random.chance(0.05) ? 4 : 1,
    random.chance(0.9) ? call.method : name,
    random.between(-5, 1_000_000),
    call.args,
    out,
  );
  return Buffer.concat(out);
}

function good(random: Random, choice: Choice): Buffer {
  if (choice.way !== 'header') return wrapped(random, choice, bare(random, choice));
  const out: Uint8Array[] = [];
  const protocol = choice.protocol === 'compact' ? 'compact' : 'binary';
  new HeaderEncoding(LIMITS, { protocol, zlib: random.chance(0.3) }).write(
    1,
    choice.call.method,
    random.below(1_000),
    choice.call.args,
    out,
    undefined,
    {
      'katamari-version': random.pick(['^1', '1.0.0', '9', '']),
      'x-other': 'y',
    },
  );
  return Buffer.concat(out);
}

/** The message in its transport, with correct sizes most of the time. */
function wrapped(random: Random, { way, protocol }: Choice, message: Buffer): Buffer {
  const length = random.chance(0.93)
    ? message.length
    : random.pick([0, 1, message.length - 1, message.length + 1, 0x7fffffff, 17 << 20]);
  const frame = Buffer.alloc(4);
  switch (way) {
    case 'buffered':
      return message;
    case 'framed':
      frame.writeInt32BE(length, 0);
      return Buffer.concat([frame, message]);
    case 'header': {
      const header = Buffer.of(protocol === 'compact' ? 2 : 0, 0, 0, 0);
      const fixed = Buffer.alloc(14);
      fixed.writeInt32BE((length + 14) | 0, 0);
      fixed.writeUInt16BE(0x0fff, 4);
      fixed.writeUInt16BE(random.chance(0.95) ? 1 : random.below(65_536), 12);
      return Buffer.concat([fixed, header, message]);
    }
    case 'http': {
      const line = random.chance(0.95)
        ? 'POST /x HTTP/1.1'
        : random.pick(['GET / HTTP/1.1', 'POST / HTTP/1.0', 'POST  / HTTP/1.1', 'PUT / HTTP/9']);
      const body = random.chance(0.8)
        ? [`content-length: ${length}\r\n\r\n`, message]
        : [`transfer-encoding: chunked\r\n\r\n${length.toString(16)}\r\n`, message, '\r\n0\r\n\r\n'];
      return Buffer.concat([`${line}\r\nhost: localhost\r\n`, ...body].map((part) => Buffer.from(part as string)));
    }
  }
}

function deep(random: Random, { protocol }: Choice): Buffer {
  const levels = random.pick([10, 63, 64, 65, 1_000, 20_000]);
  switch (protocol) {
    case 'json':
      return Buffer.from(
        `[1,"add",1,0,${'{"1":{"rec":'.repeat(levels)}{}${'}}'.repeat(random.chance(0.5) ? levels : 3)}]`,
      );
    case 'compact':
      return Buffer.concat([
        Buffer.from('82210103616464', 'hex'),
        Buffer.from(random.pick(['1c', '1919', '1b01cc']).repeat(levels), 'hex'),
        Buffer.alloc(levels),
      ]);
    case 'binary':
      return Buffer.concat([
        Buffer.from('80010001000000036164640000000a', 'hex'),
        Buffer.from('0c0001'.repeat(levels), 'hex'),
        Buffer.alloc(levels),
      ]);
    case 'old-binary':
      return Buffer.concat([
        Buffer.from('00000003616464010000000a', 'hex'),
        Buffer.from('0c0001'.repeat(levels), 'hex'),
        Buffer.alloc(levels),
      ]);
  }
}

function declared(random: Random, { protocol }: Choice): Buffer {
  const count = random.pick([0x7fffffff, 1 << 24, 1 << 20, 70_000]);
  if (protocol === 'json') {
    return Buffer.from(`[1,"add",1,0,{"1":{"${random.pick(['lst', 'set'])}":["i32",${count},1]}}]`);
  }
  if (protocol === 'compact') {
    const varint = Buffer.of(0xff, 0xff, 0xff, random.pick([0x07, 0x7f]));
    return Buffer.concat([
      Buffer.from('82210103616464', 'hex'),
      Buffer.of(random.pick([0x18, 0x1b])),
      varint,
      Buffer.alloc(20),
    ]);
  }
  const head = protocol === 'binary' ? '80010001000000036164640000000a' : '00000003616464010000000a';
  const size = Buffer.alloc(4);
  size.writeInt32BE(count);
  return Buffer.concat([
    Buffer.from(`${head}${random.pick(['0b0001', '0f000108', '0d00010808'])}`, 'hex'),
    size,
    Buffer.alloc(9),
  ]);
}

/** Lists of zeros, which are longer in strict binary. */
function swelling(random: Random, { protocol }: Choice): Buffer {
  const count = random.pick([1_000, 16_000]);
  if (protocol === 'json') return Buffer.from(`[1,"add",1,0,{"9":{"lst":["i64",${count}${',0'.repeat(count)}]}}]`);
  if (protocol !== 'compact') return Buffer.alloc(30);
  const size = Buffer.of((count & 0x7f) | 0x80, ((count >> 7) & 0x7f) | 0x80, count >> 14);
  return Buffer.concat([Buffer.from('8221010361646499f6', 'hex'), size, Buffer.alloc(count + 1)]);
}

/** Created once, because that is slow. */
const BOMBS: readonly Buffer[] = [2 << 20, 40 << 20].map((bytes) => deflateSync(Buffer.alloc(bytes)));

function bomb(random: Random): Buffer {
  const payload = random.chance(0.5) ? random.pick(BOMBS) : deflateSync(random.bytes(50));
  const fixed = Buffer.alloc(14);
  fixed.writeInt32BE(14 + payload.length, 0);
  fixed.writeUInt16BE(0x0fff, 4);
  fixed.writeUInt16BE(1, 12);
  return Buffer.concat([fixed, Buffer.of(0, 1, random.pick([1, 1, 1, 2, 3]), 0), payload]);
}

/** Info headers of all kinds, in THeader and HTTP. */
function headers(random: Random, choice: Choice): Buffer {
  const message = bare(random, { ...choice, protocol: 'binary' });
  if (choice.way !== 'header') {
    const lines = Array.from(
      { length: random.pick([1, 50, 101, 1_000]) },
      (_, n) => `x-${n}: ${'v'.repeat(random.below(40))}\r\n`,
    );
    const odd = random.pick([
      'no colon\r\n',
      ': x\r\n',
      'a b: c\r\n',
      'katamari-timeout-ms: -1\r\n',
      'traceparent: nonsense\r\n',
      'connection: close\r\n',
      '',
    ]);
    return Buffer.concat([
      Buffer.from(`POST / HTTP/1.1\r\n${lines.join('')}${odd}content-length: ${message.length}\r\n\r\n`),
      message,
    ]);
  }
  const info = Buffer.concat([Buffer.of(0, 0, 1, random.below(256)), random.bytes(random.between(0, 60))]);
  const padded = Buffer.concat([info, Buffer.alloc((4 - (info.length % 4)) % 4)]);
  const fixed = Buffer.alloc(14);
  fixed.writeInt32BE(10 + padded.length + message.length, 0);
  fixed.writeUInt16BE(0x0fff, 4);
  fixed.writeUInt16BE(padded.length / 4, 12);
  return Buffer.concat([fixed, padded, message]);
}

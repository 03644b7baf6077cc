// What a hostile chassis, or a hostile process on the link of a mesh, answers: descriptions that make no sense, replies
// of other calls, corrupted frames.

import type { Random } from '../kit/tools/random.ts';
import { randomStruct } from '../kit/interfaces/random-struct.ts';
import { encodeStruct } from '../../core/idl/mod.ts';
import { writeReplyContext } from '../../core/link/context.ts';
import { KatamariError } from '../../core/mod.ts';
import { chassisInterface, NO_REPLY_CONTEXT } from '../../core/rpc/mod.ts';
import {
  applicationExceptionOf,
  frameMessage,
  type Method,
  type MessageType,
  NOTHING,
  parseTarget,
  readHead,
} from '../../core/thrift/mod.ts';
import { mutated } from './mutate.ts';

/** The service that a hostile chassis says it offers. */
export const HOSTILE_IDL = 'service Hostile { string say(1: string text) (katamari.idempotent = "true") }';

interface Question {
  readonly name: string;
  readonly seqId: number;
}

/** Cuts a stream into questions. A stream that cannot be cut is ignored from there on. */
export class Questions {
  #held: Buffer = Buffer.alloc(0);

  push(chunk: Buffer): Question[] {
    this.#held = Buffer.concat([this.#held, chunk]);
    const found: Question[] = [];
    while (this.#held.length >= 4) {
      const end = 4 + this.#held.readUInt32BE(0);
      if (this.#held.length < end) break;
      try {
        const head = readHead(this.#held, 4, end);
        if (head !== undefined) found.push({ name: head.name, seqId: head.seqId });
      } catch {
        // Not Thrift; the next frame may be.
      }
      this.#held = this.#held.subarray(end);
    }
    return found;
  }
}

/** @param honesty share of answers that are right, so that a conversation gets further */
export function answerTo(random: Random, question: Question, honesty: number): Buffer {
  const honest = rightAnswer(question);
  if (random.chance(honesty)) return honest;
  const { bytes } = mutated(random, random.pick(ANSWERS)(random, question, honest));
  return bytes;
}

function rightAnswer({ name, seqId }: Question): Buffer {
  const { method } = parseTarget(name);
  if (name === 'katamari.Chassis:describe') return reply(2, method, seqId, NOTHING, description(RIGHT));
  if (name === 'katamari.Chassis:ping' || name === 'katamari.Link:ping')
    return reply(2, method, seqId, NOTHING, Buffer.of(0));
  return reply(2, method, seqId, NOTHING, Buffer.from('0b0000000000026f6b00', 'hex'));
}

type Answer = (random: Random, question: Question, honest: Buffer) => Buffer;

const ANSWERS: readonly Answer[] = [
  (_random, _question, honest) => honest,
  (_random, _question, honest) => Buffer.concat([honest, honest]),
  (random, { name, seqId }) =>
    reply(
      2,
      parseTarget(name).method,
      random.pick([0, -1, seqId + 1, seqId - 1, 0x7fffffff, -0x80000000]),
      NOTHING,
      Buffer.of(0),
    ),
  (random, { name, seqId }) =>
    reply(random.pick([1, 3, 4, 2]), parseTarget(name).method, seqId, NOTHING, randomStruct(random)),
  (random, { seqId }) =>
    reply(
      2,
      random.pick(['', 'x', '__proto__', 'a:b:c', 'x'.repeat(1_024), '\0']),
      seqId,
      NOTHING,
      randomStruct(random),
    ),
  (random, { seqId }) => reply(2, 'describe', seqId, NOTHING, description(spoiltDescription(random))),
  (random, { seqId }) => reply(2, 'describe', seqId, NOTHING, description(spoiltDescription(random))),
  (random, { seqId }) =>
    reply(
      2,
      'describe',
      seqId,
      NOTHING,
      Buffer.concat([Buffer.from('0c0000', 'hex'), randomStruct(random), Buffer.of(0)]),
    ),
  (random, { name, seqId }) => {
    const error = new KatamariError(
      random.pick(['overloaded', 'draining', 'timeout', 'internal', 'denied', 'too_large']),
      random.pick(['', 'x', 'ü'.repeat(3_000)]),
      { retryAfterMs: random.pick([0, 1, 1e9]), notRun: random.chance(0.5) },
    );
    const context = writeReplyContext(NO_REPLY_CONTEXT, error, random.chance(0.2));
    return reply(
      3,
      parseTarget(name).method,
      seqId,
      context,
      random.chance(0.5) ? applicationExceptionOf(error) : randomStruct(random),
    );
  },
  (random, { name, seqId }) =>
    reply(
      2,
      parseTarget(name).method,
      seqId,
      Buffer.from('0c7fff', 'hex'),
      Buffer.concat([randomStruct(random), randomStruct(random)]),
    ),
  (random, { seqId }) => {
    const levels = random.pick([10, 63, 64, 66, 1_000, 20_000]);
    return reply(
      2,
      'say',
      seqId,
      NOTHING,
      Buffer.concat([Buffer.from('0c0001'.repeat(levels), 'hex'), Buffer.alloc(random.chance(0.5) ? levels + 1 : 2)]),
    );
  },
  (random, { seqId }) => {
    const field = Buffer.from('0f00000c00000000', 'hex');
    field.writeInt32BE(random.pick([0x7fffffff, -1, 50_000, 1 << 24]), 4);
    return reply(2, 'say', seqId, NOTHING, Buffer.concat([field, Buffer.alloc(random.pick([1, 50_000]))]));
  },
  (random) => {
    const frame = Buffer.alloc(4 + 20);
    frame.writeInt32BE(random.pick([0, -1, 1, 0x7fffffff, -0x80000000, 17 << 20, 5 << 20]), 0);
    return frame;
  },
  (_random) => reply(4, 'katamari.Link:drain', 0, NOTHING, Buffer.of(0)),
  (random, { seqId }) =>
    reply(2, 'ping', seqId, NOTHING, Buffer.concat([Buffer.from('0a0000', 'hex'), random.bytes(8), Buffer.of(0)])),
  () => Buffer.from('HTTP/1.1 200 OK\r\n\r\nhello'),
  () => Buffer.alloc(0),
  (random) => random.bytes(random.between(1, 300)),
];

function reply(type: MessageType, name: string, seqId: number, context: Uint8Array, body: Uint8Array): Buffer {
  return frameMessage(type, name, seqId | 0, context, body);
}

const RIGHT = {
  serviceName: 'Hostile',
  version: '1.0.0',
  roles: [] as string[],
  tags: [] as string[],
  more: new Map<string, string>(),
  idlMain: 'hostile.thrift',
  idlFiles: new Map([['hostile.thrift', HOSTILE_IDL]]),
  concurrency: 1,
  sdk: 'none',
  ahead: 0,
};

function description(details: object): Buffer {
  const { result } = chassisInterface().methods.get('describe') as Method;
  return Buffer.from(encodeStruct(result, { success: details }));
}

function spoiltDescription(random: Random): object {
  const names = ['', 'x', '__proto__', 'Hostile', '\0', 'ü'.repeat(2_000)];
  const texts = (count: number): string[] => Array.from({ length: count }, () => random.pick(names));
  const spoilt: object = random.pick<object>([
    { serviceName: random.pick(names) },
    { version: random.pick(['', '1', '2.0.0', 'x', '1.0.0-', '999999999999999999999.0.0']) },
    { roles: texts(random.pick([1, 3, 5_000])) },
    { tags: texts(random.pick([1, 3, 5_000])) },
    { more: new Map(texts(3).map((name) => [name, name])) },
    { concurrency: random.pick([0, -1, 0x7fffffff, -0x80000000]) },
    { ahead: random.pick([-1, 0x7fffffff, 1_000]) },
    { idlMain: random.pick(names) },
    {
      idlFiles: new Map([
        [
          'hostile.thrift',
          random.pick([
            '',
            'service',
            'service Hostile {',
            'service Other {}',
            'include "x.thrift"',
            'include "hostile.thrift" service Hostile {}',
            `service Hostile { string say(1: ${'list<'.repeat(5_000)}i32${'>'.repeat(5_000)} x) }`,
            `struct A { ${Array.from({ length: 2_000 }, (_, n) => `${n + 1}: A a${n}`).join('; ')} } service Hostile { A say() }`,
            '/*'.repeat(10_000),
            'const i32 X = X service Hostile {}',
            'service Hostile extends Hostile {}',
            'struct constructor {} service Hostile { constructor __proto__(1: i32 toString) }',
            '\0',
          ]),
        ],
      ]),
    },
    { idlFiles: new Map(texts(random.pick([0, 3, 200])).map((name, n) => [`${name}${n}`, name])) },
    { sdk: random.pick(names) },
  ]);
  const details: Record<string, unknown> = { ...RIGHT, ...spoilt };
  // Every field may be missing in what another program writes.
  if (random.chance(0.2)) delete details[random.pick(Object.keys(RIGHT))];
  return details;
}

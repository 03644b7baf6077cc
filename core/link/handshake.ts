// How the two ends of a new connection prove to each other that they know the secret of the mesh, before a call is read. Bytes only: both
import { KatamariError } from '../mod.ts';
import {
  applicationExceptionOf,
  readApplicationException,
  frameMessage,
  MESSAGE_TYPE,
  NOTHING,
  parseTarget,
  readHead,
  type MessageHead,
  StructScanner,
  WIRE_TYPE,
} from '../thrift/mod.ts';
import { LINK_CALLS } from './control-messages.ts';

// sides are fed with what arrives and hand over what is to be written; time and sockets are the callers' (security.ts, link-guard.ts).
//
//   client                                server
//   hello(client nonce)             ->
//                                   <-    server nonce; none when it wants no secret: done
//   prove(MAC of the client)        ->
//                                   <-    MAC of the server
//
// MAC = HMAC-SHA256(secret, label, role, client nonce, server nonce). The role keeps a proof from being sent back to who made it; the two
// nonces keep it from being used twice. The client proves first, so a stranger who connects gets nothing to try words on. One who listens
// on the wire or is taken for the server does: hence a long random secret (whyNotListen). Nothing after the handshake is enciphered or
// signed: where others can read or change what is on the wire, TLS is needed.
//
// The messages are framed strict binary (idl/link.thrift). Limits: bytes of a frame before it is read.

import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

/** The server's side. */
export class ServerHandshake {
  readonly #secret: string;
  readonly #write: (bytes: Buffer) => void;
  readonly #frames = new HandshakeFrames(CALL_BYTES_MAX);
  readonly #nonce: Buffer = randomBytes(NONCE_BYTES);
  #clientNonce: Buffer | undefined;

  /** @param secret not '' */
  constructor(secret: string, write: (bytes: Buffer) => void) {
    this.#secret = secret;
    this.#write = write;
  }

  /**
   * @returns once the client has proved itself: what it sent after that. Until then undefined.
   * @throws KatamariError denied or bad_request: the client is told why if it speaks Thrift, and is to be left.
   */
  push(chunk: Buffer): Buffer | undefined {
    this.#frames.push(chunk);
    for (let frame = this.#frames.next(); frame !== undefined; frame = this.#frames.next()) {
      const head = headOf(frame);
      try {
        if (this.#take(head, frame)) return this.#frames.rest;
      } catch (error) {
        if (error instanceof KatamariError && head.type === MESSAGE_TYPE.call) this.#refuse(head, error);
        throw error;
      }
    }
    return undefined;
  }

  #take(head: MessageHead, frame: Buffer): boolean {
    if (head.type !== MESSAGE_TYPE.call) throw new KatamariError('bad_request', 'expected a call');
    if (this.#clientNonce === undefined && head.name === LINK_CALLS.hello) {
      const nonce = readBinary(frame, head.bodyStart, 1);
      if (nonce.length !== NONCE_BYTES)
        throw new KatamariError('bad_request', `A nonce of ${nonce.length} bytes, expected ${NONCE_BYTES}`);
      this.#clientNonce = Buffer.from(nonce);
      this.#write(helloAnswer(head, this.#nonce));
      return false;
    }
    if (this.#clientNonce === undefined || head.name !== LINK_CALLS.prove) {
      throw new KatamariError('denied', 'This link wants the secret of the mesh first: configure it on your side');
    }
    const [clientNonce, proof] = [this.#clientNonce, readBinary(frame, head.bodyStart, 1)];
    if (!isSame(proof, proofOf(this.#secret, 'client', clientNonce, this.#nonce))) {
      throw new KatamariError('denied', 'The secrets differ: configure the same one on both sides');
    }
    const own = proofOf(this.#secret, 'server', clientNonce, this.#nonce);
    this.#write(frameMessage(MESSAGE_TYPE.reply, 'prove', head.seqId, binaryField(0, own), STOP));
    return true;
  }

  #refuse(head: MessageHead, error: KatamariError): void {
    const name = parseTarget(head.name).method;
    this.#write(frameMessage(MESSAGE_TYPE.exception, name, head.seqId, NOTHING, applicationExceptionOf(error)));
  }
}

/** The client's side. */
export class ClientHandshake {
  readonly #secret: string;
  readonly #peer: string;
  readonly #write: (bytes: Buffer) => void;
  readonly #frames = new HandshakeFrames(ANSWER_BYTES_MAX);
  readonly #nonce: Buffer = randomBytes(NONCE_BYTES);
  #serverNonce: Buffer | undefined;
  #isFirst = true;

  /** @param secret '' for none; @param peer for messages: its address */
  constructor(secret: string, peer: string, write: (bytes: Buffer) => void) {
    this.#secret = secret;
    this.#peer = peer;
    this.#write = write;
  }

  begin(): void {
    this.#write(frameMessage(MESSAGE_TYPE.call, LINK_CALLS.hello, 1, binaryField(1, this.#nonce), STOP));
  }

  /**
   * @returns once both sides have proved themselves: what the server sent after that. Until then undefined.
   * @throws KatamariError that says what to do
   */
  push(chunk: Buffer): Buffer | undefined {
    if (this.#isFirst && chunk.length > 0) this.#recognise(chunk);
    try {
      this.#frames.push(chunk);
      for (let frame = this.#frames.next(); frame !== undefined; frame = this.#frames.next()) {
        if (this.#take(headOf(frame), frame)) return this.#frames.rest;
      }
      return undefined;
    } catch (error) {
      if (error instanceof KatamariError && error.code === 'denied') throw error;
      throw this.#denied(`did not answer as a link does (${(error as Error).message}): is this its link address?`);
    }
  }

  /** A TLS server that was sent something else says so in a TLS alert, where an answer begins with the length of a short frame. */
  #recognise(chunk: Buffer): void {
    this.#isFirst = false;
    if (chunk[0] === TLS_ALERT) {
      throw this.#denied('wants TLS and this side has none: configure certificates of its CA here');
    }
  }

  #take(head: MessageHead, frame: Buffer): boolean {
    if (head.type === MESSAGE_TYPE.exception) {
      const { message } = readApplicationException(frame.subarray(head.bodyStart));
      throw this.#denied(`refused this side: ${message}`);
    }
    if (head.type !== MESSAGE_TYPE.reply) throw new KatamariError('bad_request', `message type ${head.type}`);
    const given = readBinary(frame, head.bodyStart, 0);
    if (this.#serverNonce === undefined) return this.#greeted(given);
    if (isSame(given, proofOf(this.#secret, 'server', this.#nonce, this.#serverNonce))) return true;
    throw this.#denied(
      'took the proof of this side and could not give its own: it does not know the secret. Find out what listens there',
    );
  }

  #greeted(nonce: Buffer): boolean {
    if (nonce.length === 0) {
      if (this.#secret === '') return true;
      throw this.#denied('asks for no secret and this side has one: configure the same secret there');
    }
    if (this.#secret === '')
      throw this.#denied('wants the secret of the mesh and this side has none: configure the same secret here');
    if (nonce.length !== NONCE_BYTES) throw new KatamariError('bad_request', `a nonce of ${nonce.length} bytes`);
    this.#serverNonce = Buffer.from(nonce);
    const proof = proofOf(this.#secret, 'client', this.#nonce, this.#serverNonce);
    this.#write(frameMessage(MESSAGE_TYPE.call, LINK_CALLS.prove, 2, binaryField(1, proof), STOP));
    return false;
  }

  #denied(why: string): KatamariError {
    return new KatamariError('denied', `${this.#peer} ${why}`, { notRun: true });
  }
}

/** The answer to `hello`: the server's nonce, or none. */
export function helloAnswer(head: MessageHead, nonce: Uint8Array): Buffer {
  return frameMessage(MESSAGE_TYPE.reply, 'hello', head.seqId, binaryField(0, nonce), STOP);
}

const NONCE_BYTES = 32;
/** A call of the handshake has some 70 bytes. */
const CALL_BYTES_MAX = 256;
/** Exceptions carry a message. */
const ANSWER_BYTES_MAX = 16 * 1024;
/** Content type of an alert record; the first byte of a frame's length says 0 for every frame below 16 MiB. */
const TLS_ALERT = 0x15;
const STOP: Uint8Array = Uint8Array.of(WIRE_TYPE.stop);

/** Frames of a handshake, one at a time, so that what follows the last of them is left over. Holds one small frame and one chunk. */
class HandshakeFrames {
  readonly #frameBytesMax: number;
  rest: Buffer = Buffer.alloc(0);

  constructor(frameBytesMax: number) {
    this.#frameBytesMax = frameBytesMax;
  }

  push(chunk: Buffer): void {
    this.rest = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
  }

  /** @throws KatamariError too_large before the frame has come */
  next(): Buffer | undefined {
    if (this.rest.length < 4) return undefined;
    const bytes = this.rest.readUInt32BE(0);
    if (bytes > this.#frameBytesMax)
      throw new KatamariError('too_large', `a frame of ${bytes} bytes, limit is ${this.#frameBytesMax}`);
    if (this.rest.length < 4 + bytes) return undefined;
    const frame = this.rest.subarray(4, 4 + bytes);
    this.rest = this.rest.subarray(4 + bytes);
    return frame;
  }
}

function proofOf(secret: string, role: 'client' | 'server', clientNonce: Buffer, serverNonce: Buffer): Buffer {
  return createHmac('sha256', secret)
    .update(`katamari link 1 ${role}\0`)
    .update(clientNonce)
    .update(serverNonce)
    .digest();
}

function isSame(given: Buffer, expected: Buffer): boolean {
  return given.length === expected.length && timingSafeEqual(given, expected);
}

/** The head of a message whose body is one whole struct. @throws KatamariError bad_request */
function headOf(frame: Buffer): MessageHead {
  const head = readHead(frame, 0, frame.length);
  if (head === undefined) throw new KatamariError('bad_request', `${frame.length} bytes end inside their head`);
  if (new StructScanner(NESTING_MAX, frame.length).scan(frame, head.bodyStart, frame.length) !== frame.length)
    throw new KatamariError('bad_request', 'the body is not one whole struct');
  return head;
}

/** The binary field `id` of a struct that is known to be whole; empty when it is not there. Other fields are passed over. */
function readBinary(bytes: Buffer, structStart: number, id: number): Buffer {
  const scanner = new StructScanner(NESTING_MAX, bytes.length);
  for (let at = structStart; bytes[at] !== WIRE_TYPE.stop;) {
    const type = bytes[at] as number;
    scanner.reset(type);
    const end = scanner.scan(bytes, at + 3, bytes.length);
    if (type === WIRE_TYPE.string && bytes.readInt16BE(at + 1) === id) return bytes.subarray(at + 7, end);
    at = end;
  }
  return bytes.subarray(0, 0);
}

function binaryField(id: number, value: Uint8Array): Buffer {
  const field = Buffer.alloc(7 + value.length);
  field[0] = WIRE_TYPE.string;
  field.writeInt16BE(id, 1);
  field.writeInt32BE(value.length, 3);
  field.set(value, 7);
  return field;
}

const NESTING_MAX = 4;

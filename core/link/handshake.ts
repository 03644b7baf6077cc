// The handshake of a new link: both ends prove that they know the secret of the mesh before a call is read. This file
// uses no sockets and no timers. Each side is given the received bytes and a function that writes (by security.ts and
// server-connection.ts).
//
//   client                                server
//   hello(client nonce)             ->
//                                   <-    server nonce; empty when the server requires no secret: done
//   prove(MAC of the client)        ->
//                                   <-    MAC of the server
//
// MAC = HMAC-SHA256(secret, label, role, client nonce, server nonce). The role prevents reflection: a proof cannot be
// sent back to its author. The two nonces prevent replay. The client proves first, so an unauthenticated client gets
// nothing with which it could test guesses of the secret. An attacker who records the traffic or poses as the server
// can test guesses, so the secret must be long and random (services/config/secret-file.ts). Nothing after the
// handshake is encrypted or signed: TLS is required where others can read or change the traffic. Messages are framed
// strict binary (idl/link.thrift). Limit: bytes of a frame, checked before the frame is read.
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

import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

/** Server side of the handshake. */
export class ServerHandshake {
  readonly #secrets: readonly string[];
  readonly #write: (bytes: Buffer) => void;
  readonly #frames = new HandshakeFrames(CALL_BYTES_MAX);
  readonly #nonce: Buffer = randomBytes(NONCE_BYTES);
  #clientNonce: Buffer | undefined;

  /** @param secrets one or more; the client may know any of them */
  constructor(secrets: readonly string[], write: (bytes: Buffer) => void) {
    this.#secrets = secrets;
    this.#write = write;
  }

  /**
   * @returns undefined until the client has proved that it knows the secret; then the bytes that followed the proof
   * @throws KatamariError denied or bad_request. The client has been sent the reason if it made a Thrift call. The
   * caller of `push` disconnects.
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
      throw new KatamariError('denied', 'This link requires the secret of the mesh: configure it on your side');
    }
    const [clientNonce, proof] = [this.#clientNonce, readBinary(frame, head.bodyStart, 1)];
    const secret = this.#secrets.find((one) => isSame(proof, proofOf(one, 'client', clientNonce, this.#nonce)));
    if (secret === undefined) {
      throw new KatamariError('denied', 'The secrets differ: configure the same one on both sides');
    }
    const own = proofOf(secret, 'server', clientNonce, this.#nonce);
    this.#write(frameMessage(MESSAGE_TYPE.reply, 'prove', head.seqId, binaryField(0, own), STOP));
    return true;
  }

  #refuse(head: MessageHead, error: KatamariError): void {
    const name = parseTarget(head.name).method;
    this.#write(frameMessage(MESSAGE_TYPE.exception, name, head.seqId, NOTHING, applicationExceptionOf(error)));
  }
}

/** Client side of the handshake. */
export class ClientHandshake {
  readonly #secret: string;
  readonly #peer: string;
  readonly #write: (bytes: Buffer) => void;
  readonly #frames = new HandshakeFrames(ANSWER_BYTES_MAX);
  readonly #nonce: Buffer = randomBytes(NONCE_BYTES);
  #serverNonce: Buffer | undefined;
  #isFirst = true;

  /**
   * @param secret '' for none
   * @param peer address of the peer, for error messages
   */
  constructor(secret: string, peer: string, write: (bytes: Buffer) => void) {
    this.#secret = secret;
    this.#peer = peer;
    this.#write = write;
  }

  begin(): void {
    this.#write(frameMessage(MESSAGE_TYPE.call, LINK_CALLS.hello, 1, binaryField(1, this.#nonce), STOP));
  }

  /**
   * @returns undefined until both sides have authenticated; then the bytes that followed
   * @throws KatamariError whose message says what to do
   */
  push(chunk: Buffer): Buffer | undefined {
    if (this.#isFirst && chunk.length > 0) this.#detectTls(chunk);
    try {
      this.#frames.push(chunk);
      for (let frame = this.#frames.next(); frame !== undefined; frame = this.#frames.next()) {
        if (this.#take(headOf(frame), frame)) return this.#frames.rest;
      }
      return undefined;
    } catch (error) {
      if (error instanceof KatamariError && error.code === 'denied') throw error;
      throw this.#denied(`did not speak the link protocol (${(error as Error).message}): is this its link address?`);
    }
  }

  /**
   * A TLS server replies to another protocol with a TLS alert. The first byte of a link's reply is never that of an
   * alert: it is 0, the first byte of the length of a short frame.
   */
  #detectTls(chunk: Buffer): void {
    this.#isFirst = false;
    if (chunk[0] === TLS_ALERT) {
      throw this.#denied('requires TLS and this side has none: configure certificates of its CA here');
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
      'accepted the proof of this side but sent a wrong one: it does not know the secret. Find out which program listens there',
    );
  }

  #greeted(nonce: Buffer): boolean {
    if (nonce.length === 0) {
      if (this.#secret === '') return true;
      throw this.#denied('requires no secret and this side has one: configure the same secret there');
    }
    if (this.#secret === '')
      throw this.#denied('requires the secret of the mesh and this side has none: configure the same secret here');
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

/** Returns the reply to `hello`: the nonce of the server, or an empty one. */
export function helloAnswer(head: MessageHead, nonce: Uint8Array): Buffer {
  return frameMessage(MESSAGE_TYPE.reply, 'hello', head.seqId, binaryField(0, nonce), STOP);
}

const NONCE_BYTES = 32;
/** Maximum bytes of a call of the handshake, which has about 70. */
const CALL_BYTES_MAX = 256;
/** Maximum bytes of a reply. An exception carries a message. */
const ANSWER_BYTES_MAX = 16 * 1024;
/** Content type of a TLS alert. The first byte of a frame is 0 for every frame below 16 MiB. */
const TLS_ALERT = 0x15;
const STOP: Uint8Array = Uint8Array.of(WIRE_TYPE.stop);

/**
 * Reads the frames of a handshake one at a time, so that the bytes after the last one are left in `rest`. Holds at
 * most one small frame and one chunk.
 */
class HandshakeFrames {
  readonly #frameBytesMax: number;
  rest: Buffer = Buffer.alloc(0);

  constructor(frameBytesMax: number) {
    this.#frameBytesMax = frameBytesMax;
  }

  push(chunk: Buffer): void {
    this.rest = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
  }

  /** @throws KatamariError too_large before the frame has arrived */
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

/** Reads the head of a message whose body is one complete struct. @throws KatamariError bad_request */
function headOf(frame: Buffer): MessageHead {
  const head = readHead(frame, 0, frame.length);
  if (head === undefined)
    throw new KatamariError('bad_request', `a message of ${frame.length} bytes ends inside its head`);
  if (new StructScanner(NESTING_MAX, frame.length).scan(frame, head.bodyStart, frame.length) !== frame.length)
    throw new KatamariError('bad_request', 'the body is not one whole struct');
  return head;
}

/** Returns the binary field `id` of a complete struct; empty when the struct has none. Skips other fields. */
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

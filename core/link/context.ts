// CallContext and ReplyContext (idl/katamari.thrift): structs in field 32767, the first field of arguments and
// results, inside the mesh only. Encoded and decoded by hand, because every call carries both. Fields at their
// default are not written.

import { ERROR_TABLE, errorCodeOfWire, KatamariError, NO_COPY_UP } from '../mod.ts';
import { ANONYMOUS, NO_DETAILS, NONE, type Call, type ReplyContext } from '../rpc/mod.ts';
import { isSent, knownIdentity } from './identities.ts';
import { StructScanner, WIRE_TYPE } from '../thrift/mod.ts';
import { FieldReader, FieldWriter } from './context-fields.ts';

/** The content of a CallContext; the receiver makes a Call of it. */
export type CallContext = Omit<Call, 'method' | 'oneway' | 'args' | 'deadlineMs' | 'rule' | 'signal'> & {
  /** Time left to the deadline when it was written, in us. */
  readonly timeLeftUs: number;
  /** The deadline on the clock of the receiver, in us; Infinity if the sender does not know that clock. */
  readonly deadlineUs: number;
};

/** ReplyContext on the wire, which also carries an error of the mesh. */
export interface WireReplyContext extends ReplyContext {
  readonly error:
    | {
        readonly code: number;
        readonly retryAfterMs: number;
        readonly stage: number;
        readonly notRun: boolean;
        readonly isSuspect: boolean;
      }
    | undefined;
  /** The chassis asks to be replaced after this reply. */
  readonly retire: boolean;
}

/** Returns whether the struct at `at` begins with field 32767 of type struct. */
export function hasContext(bytes: Uint8Array, at: number): boolean {
  return bytes[at] === WIRE_TYPE.struct && bytes[at + 1] === 0x7f && bytes[at + 2] === 0xff;
}

/**
 * Returns the struct without leading fields 32767. The struct must have been scanned, since its sizes are not checked
 * again.
 */
export function withoutContext(struct: Uint8Array): Uint8Array {
  if (!hasContext(struct, 0)) return struct;
  const bytes = Buffer.from(struct.buffer, struct.byteOffset, struct.byteLength);
  const scanner = new StructScanner(Number.POSITIVE_INFINITY, bytes.length);
  let at = 0;
  while (hasContext(bytes, at)) {
    scanner.reset();
    at = scanner.scan(bytes, at + FIELD_HEAD_BYTES, bytes.length);
  }
  return bytes.subarray(at);
}

const FIELD_HEAD_BYTES = 3;

/**
 * Encodes field 32767 with the context of a call, to be placed before its `args`.
 * @param peerDeadlineMs the deadline on the clock of the receiver; undefined if that clock is unknown
 */
export function writeCallContext(call: Call, timeLeftUs: number, peerDeadlineMs?: number): Buffer {
  const out = new FieldWriter();
  out.i64(1, Math.max(0, Math.round(timeLeftUs)));
  if (call.service !== '') out.string(2, call.service);
  if (call.version !== '') out.string(3, call.version);
  if (call.roles.length > 0) out.strings(4, call.roles);
  if (call.tags.length > 0) out.strings(5, call.tags);
  const details = Object.entries(call.details);
  if (details.length > 0) out.stringMap(6, details);
  if (call.key !== '') out.string(7, call.key);
  if (call.traceparent !== '') out.string(8, call.traceparent);
  if (call.tracestate !== '') out.string(9, call.tracestate);
  if (call.caller !== '') out.string(10, call.caller);
  if (call.attempt !== 0) out.i32(11, call.attempt);
  if (call.doNotQueue) out.bool(12, true);
  if (call.headers !== NO_DETAILS) {
    const headers = Object.entries(call.headers);
    if (headers.length > 0) out.stringMap(13, headers);
  }
  const { identity } = call;
  if (identity !== ANONYMOUS && isSent(identity)) {
    out.string(14, identity.name);
    if (identity.roles.length > 0) out.strings(15, identity.roles);
    out.string(16, identity.how);
  }
  if (peerDeadlineMs !== undefined) out.i64(17, Math.max(0, Math.floor(peerDeadlineMs * 1000)));
  if (call.minCoverage !== undefined) out.double(18, call.minCoverage);
  if (call.group !== '') out.string(19, call.group);
  return out.finish();
}

/**
 * Reads the CallContext at `at` (see hasContext).
 * @returns the context, and the offset after it, where the method's own fields begin
 * @throws KatamariError bad_request
 */
export function readCallContext(bytes: Buffer, at: number): { context: CallContext; end: number } {
  const found = new FieldReader(bytes, at + 3);
  // Collect the values in locals and create the object with one literal at the end. An object whose fields are
  // assigned one by one changes its hidden class each time, which took longer than the parsing.
  let [service, version, key, traceparent, tracestate, caller] = ['', '', '', '', '', ''];
  let [timeLeftUs, deadlineUs, attempt, doNotQueue] = [0, Number.POSITIVE_INFINITY, 0, false];
  let [roles, tags] = [NONE, NONE];
  let [details, headers] = [NO_DETAILS, NO_DETAILS];
  let [identityName, identityRoles, identityHow] = ['', NONE, ''];
  let minCoverage: number | undefined;
  let group = '';
  while (found.next()) {
    switch (found.id) {
      case 1:
        timeLeftUs = found.i64();
        break;
      case 2:
        service = found.recurring();
        break;
      case 3:
        version = found.recurring();
        break;
      case 4:
        roles = found.strings();
        break;
      case 5:
        tags = found.strings();
        break;
      case 6:
        details = found.stringMap();
        break;
      case 7:
        key = found.string();
        break;
      case 8:
        traceparent = found.string();
        break;
      case 9:
        tracestate = found.string();
        break;
      case 10:
        caller = found.recurring();
        break;
      case 11:
        attempt = found.i32();
        break;
      case 12:
        doNotQueue = found.bool();
        break;
      case 13:
        headers = found.stringMap();
        break;
      case 14:
        identityName = found.recurring();
        break;
      case 15:
        identityRoles = found.strings();
        break;
      case 16:
        identityHow = found.recurring();
        break;
      case 17:
        deadlineUs = found.i64();
        break;
      case 18:
        minCoverage = found.double();
        break;
      case 19:
        group = found.string();
        break;
      default:
        found.skip();
    }
  }
  const context = {
    timeLeftUs,
    deadlineUs,
    service,
    version,
    roles,
    tags,
    details,
    key,
    traceparent,
    tracestate,
    headers,
    caller,
    identity: identityHow === '' ? ANONYMOUS : knownIdentity(identityName, identityRoles, identityHow),
    attempt,
    doNotQueue,
    minCoverage,
    group,
  };
  return { context, end: found.at };
}

/** Encodes field 32767 with the context of a reply, to be placed before its body. */
export function writeReplyContext(context: ReplyContext, error?: KatamariError, retire = false): Buffer {
  const out = new FieldWriter();
  if (context.version !== '') out.string(1, context.version);
  if (context.queueUs !== 0) out.i64(2, Math.round(context.queueUs));
  if (context.serviceUs !== 0) out.i64(3, Math.round(context.serviceUs));
  if (context.freeNow !== -1) out.i32(4, context.freeNow);
  if (context.queuedNow !== -1) out.i32(5, context.queuedNow);
  if (context.resource !== '') out.string(6, context.resource);
  if (error !== undefined) {
    out.i32(7, ERROR_TABLE[error.code].wire);
    if (error.facts.retryAfterMs !== undefined) out.i64(8, Math.round(error.facts.retryAfterMs));
    if (error.facts.stage !== undefined) out.i32(9, error.facts.stage === 'queue' ? 1 : 2);
    if (error.facts.notRun === true) out.bool(10, true);
    if (error.facts.isSuspect === true) out.bool(12, true);
  }
  if (retire) out.bool(11, true);
  if (context.coverage !== undefined) {
    out.i32(13, context.coverage.shards);
    out.i32(14, context.coverage.complete);
    if (context.coverage.missing.length > 0) out.strings(15, context.coverage.missing);
  }
  if (context.rule !== undefined) out.string(16, context.rule);
  return out.finish();
}

/** Reads the ReplyContext at `at` (see hasContext); also returns the offset after it. */
export function readReplyContext(bytes: Buffer, at: number): { context: WireReplyContext; end: number } {
  const found = new FieldReader(bytes, at + 3);
  let [version, queueUs, serviceUs, freeNow, queuedNow, resource, retire] = ['', 0, 0, -1, -1, '', false];
  let [code, retryAfterMs, stage, notRun, isSuspect] = [0, -1, 0, false, false];
  let [shards, complete, missing] = [0, 0, NONE];
  let rule = '';
  while (found.next()) {
    switch (found.id) {
      case 1:
        version = found.recurring();
        break;
      case 2:
        queueUs = found.i64();
        break;
      case 3:
        serviceUs = found.i64();
        break;
      case 4:
        freeNow = found.i32();
        break;
      case 5:
        queuedNow = found.i32();
        break;
      case 6:
        resource = found.recurring();
        break;
      case 7:
        code = found.i32();
        break;
      case 8:
        retryAfterMs = found.i64();
        break;
      case 9:
        stage = found.i32();
        break;
      case 10:
        notRun = found.bool();
        break;
      case 11:
        retire = found.bool();
        break;
      case 12:
        isSuspect = found.bool();
        break;
      case 13:
        shards = found.i32();
        break;
      case 14:
        complete = found.i32();
        break;
      case 15:
        missing = found.strings();
        break;
      case 16:
        rule = found.recurring();
        break;
      default:
        found.skip();
    }
  }
  const error = code === 0 ? undefined : { code, retryAfterMs, stage, notRun, isSuspect };
  const context = { version, queueUs, serviceUs, freeNow, queuedNow, resource, retire, error };
  // Few replies have these. The others keep their one hidden class.
  if (shards === 0 && rule === '') return { context, end: found.at };
  const coverage = shards === 0 ? {} : { coverage: { shards, complete, missing } };
  return { context: { ...context, ...coverage, ...(rule === '' ? {} : { rule }) }, end: found.at };
}

/** Returns the error of the mesh in a ReplyContext, with the message of the TApplicationException after it. */
export function errorOfContext(error: NonNullable<WireReplyContext['error']>, message: string): KatamariError {
  return new KatamariError(errorCodeOfWire(error.code), message, {
    ...(error.retryAfterMs >= 0 ? { retryAfterMs: error.retryAfterMs } : {}),
    ...(error.stage === 1 ? { stage: 'queue' as const } : error.stage === 2 ? { stage: 'service' as const } : {}),
    ...(error.notRun ? { notRun: true } : {}),
    // Only a timeout without a copy carries a retry-after, see NO_COPY_UP.
    ...(errorCodeOfWire(error.code) === 'timeout' && error.retryAfterMs >= 0
      ? { httpStatus: NO_COPY_UP.httpStatus as number }
      : {}),
    ...(error.isSuspect ? { isSuspect: true } : {}),
  });
}

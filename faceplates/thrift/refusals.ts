// Errors of the Thrift port, for connections and messages that it cannot serve.

import { KatamariError } from '../../core/mod.ts';
import { applicationExceptionOf, frameMessage, MESSAGE_TYPE, NOTHING } from '../../core/thrift/mod.ts';

/** Returns a framed TApplicationException for a client that has sent nothing yet; most clients read frames. */
export function framedRefusal(error: KatamariError): Buffer {
  return frameMessage(MESSAGE_TYPE.exception, '', 0, NOTHING, applicationExceptionOf(error));
}

export function unknownProtocol(seen: string): KatamariError {
  return new KatamariError(
    'bad_request',
    `This port speaks Thrift (framed, buffered, THeader or HTTP POST; binary, compact or JSON protocol) and saw ${seen}; set the client to one of these`,
  );
}

export function wantsTls(): KatamariError {
  return new KatamariError('denied', 'This Thrift port requires TLS; connect with a TLS socket, such as TSSLSocket');
}

export function tooManyConnections(limit: number): KatamariError {
  return new KatamariError(
    'overloaded',
    `Cannot take another connection: ${limit} are open, limit is ${limit}; try again later or share connections`,
  );
}

/** Refuses further calls on a connection. Calls that were sent on it may still get replies. */
export function drainBegins(): KatamariError {
  return new KatamariError('draining', 'This Thrift port is shutting down; send further calls on another connection');
}

export function draining(): KatamariError {
  return new KatamariError('draining', 'This Thrift port is shutting down; connect again and repeat the call', {
    notRun: true,
  });
}

export function halfSent(bytes: number, limitMs: number): KatamariError {
  return new KatamariError(
    'bad_request',
    `Incomplete message: ${bytes} bytes arrived in ${limitMs} ms, which is the limit; send each message as a whole`,
  );
}

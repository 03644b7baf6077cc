// Handlers as a Send: decodes the arguments, runs the handler, encodes the result or the declared exception. What a
// handler throws undeclared is answered with its message, not its stack, and the process stays up. Refuses: unknown
// methods, malformed arguments.

import { decodeStruct, encodeStruct } from '../idl/mod.ts';
import { asKatamariError, KatamariError } from '../mod.ts';
import {
  type Interface,
  type Method,
  declaredException,
  APPLICATION_EXCEPTION,
  writeApplicationException,
} from '../thrift/mod.ts';
import { type Call, type Reply, type Send, EMPTY_STRUCT, NO_REPLY_CONTEXT } from './call.ts';

/** A function written for one method: the arguments by name, then the context. */
export type Handler<Context> = (args: never, context: Context) => unknown;
export type Handlers<Context> = Readonly<Record<string, Handler<Context>>>;

export interface HandlerOptions<Context> {
  readonly interface: Interface;
  readonly handlers: Handlers<Context>;
  /** How i64 values reach handlers. */
  readonly i64: 'bigint' | 'number';
  /** Makes the context of one call. */
  readonly contextOf: (call: Call, method: Method) => Context;
  /** Told of what handlers throw undeclared, with the stack. */
  readonly onUndeclared?: (call: Call, thrown: unknown) => void;
  /** Called when a call has been answered, whatever came of it. */
  readonly onSettled?: (context: Context, reply: Reply) => void;
}

/**
 * A call whose handler returns no promise settles before the sending has returned.
 * @throws KatamariError bad_request when a method has no handler or a handler no method
 */
export function serveHandlers<Context>(options: HandlerOptions<Context>): Send {
  checkHandlers(options.interface, options.handlers);
  return (call, sink) => {
    let method: Method;
    let args: unknown;
    let context: Context;
    try {
      method = methodOf(options.interface, call);
      args = decodeStruct(method.args, call.args, { i64: options.i64 });
      context = options.contextOf(call, method);
    } catch (thrown) {
      sink.fail(asKatamariError(thrown));
      return;
    }
    const end = (reply: Reply): void => {
      options.onSettled?.(context, reply);
      sink.reply(reply);
    };
    const onThrown = (thrown: unknown): void =>
      end(thrownReply(method, thrown) ?? undeclaredReply(options, call, thrown));
    const handler = options.handlers[method.name] as (args: unknown, context: Context) => unknown;
    let reply: Reply;
    try {
      const returned = handler(args, context);
      if (isThenable(returned)) {
        returned.then((value) => resultReply(method, value)).then(end, onThrown);
        return;
      }
      reply = resultReply(method, returned);
    } catch (thrown) {
      onThrown(thrown);
      return;
    }
    end(reply);
  };
}

function methodOf({ service, methods }: Interface, call: Call): Method {
  const method = methods.get(call.method);
  if (method !== undefined) return method;
  const known = [...methods.keys()].join(', ');
  throw new KatamariError('no_pool', `${service} has no method "${call.method}"; it has ${known}`);
}

function checkHandlers(found: Interface, handlers: Readonly<Record<string, unknown>>): void {
  const missing = [...found.methods.keys()].filter((name) => typeof handlers[name] !== 'function');
  if (missing.length > 0) {
    throw new KatamariError(
      'bad_request',
      `${found.service} has no handler for ${missing.join(', ')}; write one function for each method of the IDL`,
    );
  }
  const unknown = Object.keys(handlers).filter((name) => !found.methods.has(name));
  if (unknown.length > 0) {
    throw new KatamariError(
      'bad_request',
      `${found.service} has no method ${unknown.join(', ')} in its IDL; it has ${[...found.methods.keys()].join(', ')}`,
    );
  }
}

function resultReply(method: Method, value: unknown): Reply {
  if (method.oneway || method.returns.kind === 'void') return VOID_REPLY;
  return { isException: false, body: encodeStruct(method.result, { success: value }), context: NO_REPLY_CONTEXT };
}

/** The reply for a declared exception; undefined when the thrown thing is none of this method's. */
function thrownReply(method: Method, thrown: unknown): Reply | undefined {
  const declared = declaredException(thrown);
  const field = method.throws.find(
    ({ type }) => type.kind === 'struct' && type.struct.name.split('.').at(-1) === declared?.exception,
  );
  if (declared === undefined || field === undefined) return undefined;
  return {
    isException: false,
    body: encodeStruct(method.result, { [field.name]: declared.fields }),
    context: NO_REPLY_CONTEXT,
  };
}

function undeclaredReply<Context>(options: HandlerOptions<Context>, call: Call, thrown: unknown): Reply {
  options.onUndeclared?.(call, thrown);
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return {
    isException: true,
    body: writeApplicationException(
      `${options.interface.service}.${call.method} failed: ${message}`,
      APPLICATION_EXCEPTION.internalError,
    ),
    context: NO_REPLY_CONTEXT,
  };
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === 'function';
}

const VOID_REPLY: Reply = { isException: false, body: EMPTY_STRUCT, context: NO_REPLY_CONTEXT };

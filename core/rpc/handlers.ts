// Wraps handlers as a Send: decodes the arguments, runs the handler, encodes the result or the declared exception. An
// undeclared exception is answered with its message but not its stack, and the process keeps running. Unknown methods
// and malformed arguments are refused.

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

/** The user's function for one method. It takes the arguments by name, then the context. */
export type Handler<Context> = (args: never, context: Context) => unknown;
export type Handlers<Context> = Readonly<Record<string, Handler<Context>>>;

export interface HandlerOptions<Context> {
  readonly interface: Interface;
  readonly handlers: Handlers<Context>;
  /** JavaScript type of the i64 values that handlers receive. */
  readonly i64: 'bigint' | 'number';
  /** Creates the context of one call. */
  readonly contextOf: (call: Call, method: Method) => Context;
  /** Receives undeclared exceptions of handlers, with their stack. */
  readonly onUndeclared?: (call: Call, thrown: unknown) => void;
  /** Returns the error by which the chassis refuses a call whose handler threw this; undefined for other exceptions. */
  readonly refusalOf?: (thrown: unknown) => KatamariError | undefined;
  /**
   * Called when a handler has ended, before the reply is sent, whether a result or an exception.
   * @param reply undefined for a refusal
   */
  readonly onSettled?: (context: Context, reply: Reply | undefined) => void;
}

/**
 * Returns a Send that runs handlers. If the handler returns no promise, the call ends before `send` returns.
 * @throws KatamariError bad_request when a method has no handler, or a handler has no method
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
    const onThrown = (thrown: unknown): void => {
      const refusal = options.refusalOf?.(thrown);
      if (refusal === undefined) {
        end(thrownReply(method, thrown) ?? undeclaredReply(options, call, thrown));
        return;
      }
      options.onSettled?.(context, undefined);
      sink.fail(refusal);
    };
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

function checkHandlers(iface: Interface, handlers: Readonly<Record<string, unknown>>): void {
  // Every object has functions such as `toString`, which are no handlers.
  const inherited = Object.prototype as unknown as Readonly<Record<string, unknown>>;
  const missing = [...iface.methods.keys()].filter(
    (name) => typeof handlers[name] !== 'function' || handlers[name] === inherited[name],
  );
  if (missing.length > 0) {
    throw new KatamariError(
      'bad_request',
      `${iface.service} has no handler for ${missing.join(', ')}; write one function for each method of the IDL`,
    );
  }
  const unknown = Object.keys(handlers).filter((name) => !iface.methods.has(name));
  if (unknown.length > 0) {
    throw new KatamariError(
      'bad_request',
      `${iface.service} has no method ${unknown.join(', ')} in its IDL; it has ${[...iface.methods.keys()].join(', ')}`,
    );
  }
}

function resultReply(method: Method, value: unknown): Reply {
  if (method.oneway || method.returns.kind === 'void') return VOID_REPLY;
  return { isException: false, body: encodeStruct(method.result, { success: value }), context: NO_REPLY_CONTEXT };
}

/** Returns the reply for a declared exception; undefined when the method does not declare the thrown value. */
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

// Calls of a control service over a link: of a chassis (idl/chassis.thrift), a content server (idl/content.thrift) or
// a manager (idl/manager.thrift). Arguments and results are plain values. What a failure means is up to the caller.

import { decodeResult, encodeParams } from '../idl/mod.ts';
import { KatamariError } from '../mod.ts';
import { readApplicationException, type Interface } from '../thrift/mod.ts';
import { createCall, type Call, type Dispatch } from './call.ts';

/**
 * The answer to a control call.
 * - result: the value that the method returned; undefined for void.
 * - declared: the fields of an exception that the interface declares, and its name.
 * - failed: the message of a TApplicationException.
 */
export type ControlAnswer =
  | { readonly kind: 'result'; readonly value: unknown }
  | { readonly kind: 'declared'; readonly exception: string; readonly fields: Readonly<Record<string, unknown>> }
  | { readonly kind: 'failed'; readonly message: string };

/**
 * @param service full name, `katamari.Manager`
 * @param params arguments by name
 * @throws KatamariError when the other side does not answer in time; internal for a method that does not exist
 */
export async function callControl(
  dispatch: Dispatch,
  iface: Interface,
  what: Pick<Call, 'service' | 'method' | 'deadlineMs'> & Pick<Partial<Call>, 'caller'>,
  params: Readonly<Record<string, unknown>> = {},
): Promise<ControlAnswer> {
  const { service } = what;
  const method = iface.methods.get(what.method);
  if (method === undefined) throw new KatamariError('internal', `${service} has no method ${what.method}`);
  const reply = await dispatch(createCall({ ...what, args: encodeParams(method, params) }));
  if (reply.isException) return { kind: 'failed', message: readApplicationException(reply.body).message };
  if (method.returns.kind === 'void' && method.throws.length === 0) return { kind: 'result', value: undefined };
  const result = decodeResult(method, reply.body);
  return result.ok
    ? { kind: 'result', value: result.value }
    : { kind: 'declared', exception: result.exception, fields: result.fields };
}

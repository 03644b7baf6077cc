// A stub of the mesh for KATAMARI_MESH: a link server that offers one method, Conformance.echoText, and records
// every call. A text that begins with "refuse" is rejected like a call for which the mesh has no pool.

import { decodeStruct, encodeStruct } from '../../../core/idl/mod.ts';
import { startLinkServer } from '../../../core/link/mod.ts';
import { DEFAULT_LIMITS, KatamariError, systemClock } from '../../../core/mod.ts';
import { type Call, meshInterface, NO_REPLY_CONTEXT, type Reply, sendOf } from '../../../core/rpc/mod.ts';
import type { Interface, Method } from '../../../core/thrift/mod.ts';

import path from 'node:path';

/** A call that a handler made through the stub. */
export interface NestedCall {
  readonly service: string;
  readonly method: string;
  readonly timeLeftMs: number;
  readonly traceparent: string;
  readonly caller: string;
}

export interface StubMesh {
  /** Value for KATAMARI_MESH. */
  readonly address: string;
  /** Calls of service methods, oldest first, without requests for interfaces. */
  readonly calls: NestedCall[];
  close(): Promise<void>;
}

/** @param known the service Conformance */
export async function openStubMesh(folder: string, known: Interface): Promise<StubMesh> {
  const calls: NestedCall[] = [];
  const server = await startLinkServer(`unix:${path.join(folder, 'mesh.sock')}`, {
    send: sendOf((call) => answer(call, known, calls)),
    limits: DEFAULT_LIMITS,
    timeoutMs: () => TIMEOUT_WITHOUT_CONTEXT_MS,
    caller: 'a caller without context',
  });
  return { address: server.address, calls, close: () => server.close() };
}

async function answer(call: Call, known: Interface, calls: NestedCall[]): Promise<Reply> {
  if (call.service === 'katamari.Mesh') return describe(call, known);
  calls.push({
    service: call.service,
    method: call.method,
    timeLeftMs: call.deadlineMs - systemClock.nowMs(),
    traceparent: call.traceparent,
    caller: call.caller,
  });
  const isKnown = (call.service === '' || call.service === known.service) && call.method === 'echoText';
  if (!isKnown)
    throw new KatamariError(
      'no_pool',
      `No pool offers ${call.service}.${call.method}: katamari conform offers ${known.service}.echoText only`,
    );
  const method = methodOf(known, 'echoText');
  const { value } = decodeStruct(method.args, call.args) as { value: string };
  if (value.startsWith('refuse')) throw new KatamariError('no_pool', 'No pool offers the requested service');
  return reply(method, relayedText(value));
}

function describe(call: Call, known: Interface): Reply {
  const method = methodOf(meshInterface(), 'describe');
  const { serviceName } = decodeStruct(method.args, call.args) as { serviceName: string };
  if (serviceName !== known.service)
    throw new KatamariError('no_pool', `No pool offers ${serviceName}: katamari conform offers ${known.service} only`);
  const { main, files } = known.source;
  return reply(method, { serviceName, version: '1.0.0', idlMain: main, idlFiles: files });
}

/** Returns the result of `echoText` in the stub. It differs from the argument to prove that the call arrived. */
export function relayedText(text: string): string {
  return `${text}, through the mesh`;
}

function reply(method: Method, success: unknown): Reply {
  return { isException: false, body: encodeStruct(method.result, { success }), context: NO_REPLY_CONTEXT };
}

function methodOf(found: Interface, name: string): Method {
  const method = found.methods.get(name);
  if (method === undefined) throw new KatamariError('internal', `${found.service} has no method ${name}`);
  return method;
}

const TIMEOUT_WITHOUT_CONTEXT_MS = 60_000;

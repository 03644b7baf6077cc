// The mesh as a chassis under test finds it at KATAMARI_MESH: a link server that knows one service, Conformance with `echoText`, and writes down
import { decodeStruct, encodeStruct } from '../../../core/idl/mod.ts';
import { startLinkServer } from '../../../core/link/mod.ts';
import { DEFAULT_LIMITS, KatamariError, systemClock } from '../../../core/mod.ts';
import { type Call, meshInterface, NO_REPLY_CONTEXT, type Reply, sendOf } from '../../../core/rpc/mod.ts';
import type { Interface, Method } from '../../../core/thrift/mod.ts';

// every call that comes. A text that begins with "refuse" is refused as the mesh refuses a call that it has no pool for.

import path from 'node:path';

/** A call that came through the door. */
export interface Nested {
  readonly service: string;
  readonly method: string;
  readonly timeLeftMs: number;
  readonly traceparent: string;
  readonly caller: string;
}

export interface StubMesh {
  /** What KATAMARI_MESH says. */
  readonly address: string;
  /** Calls of methods of services, oldest first; questions about interfaces are not among them. */
  readonly calls: Nested[];
  close(): Promise<void>;
}

/** @param known the service Conformance */
export async function openStubMesh(folder: string, known: Interface): Promise<StubMesh> {
  const calls: Nested[] = [];
  const server = await startLinkServer(`unix:${path.join(folder, 'mesh.sock')}`, {
    send: sendOf((call) => answer(call, known, calls)),
    limits: DEFAULT_LIMITS,
    timeoutMs: () => TIMEOUT_WITHOUT_CONTEXT_MS,
    caller: 'a caller without context',
  });
  return { address: server.address, calls, close: () => server.close() };
}

async function answer(call: Call, known: Interface, calls: Nested[]): Promise<Reply> {
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
  if (value.startsWith('refuse')) throw new KatamariError('no_pool', 'No pool offers what was asked for');
  return reply(method, throughMesh(value));
}

function describe(call: Call, known: Interface): Reply {
  const method = methodOf(meshInterface(), 'describe');
  const { serviceName } = decodeStruct(method.args, call.args) as { serviceName: string };
  if (serviceName !== known.service)
    throw new KatamariError('no_pool', `No pool offers ${serviceName}: katamari conform offers ${known.service} only`);
  const { main, files } = known.source;
  return reply(method, { serviceName, version: '1.0.0', idlMain: main, idlFiles: files });
}

/** What `echoText` behind the door makes of a text, so that it is seen to have been there. */
export function throughMesh(text: string): string {
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

// State and helpers that the checks of `katamari conform` share: the chassis under test, its details and interface,
// and calls as the mesh sends them. Only harmless methods of its own service are called: read-only, idempotent,
// named by --call, or those of Conformance.

import { decodeStruct, encodeStruct } from '../../../core/idl/mod.ts';
import { writeCallContext } from '../../../core/link/mod.ts';
import { createCall, EMPTY_STRUCT, type Call, type ChassisDetails } from '../../../core/rpc/mod.ts';
import type { Interface, Method } from '../../../core/thrift/mod.ts';
import type { ChassisUnderTest } from './chassis-under-test.ts';
import { CheckFailed, CheckSkipped } from './check-result.ts';
import type { StubMesh } from './stub-mesh.ts';
import { describeTestReply, PeerClosed, type TestReply, type SentCall } from './test-link.ts';
import { structValue } from './values.ts';

/** One check. */
export interface Check {
  /** Name for `--only` and the JSON report. */
  readonly id: string;
  /** Expected behavior of the chassis, as one line. */
  readonly what: string;
  /** How the author of the chassis fixes a failure. */
  readonly advice: string;
  /** @returns a note for the report, if any @throws CheckFailed, CheckSkipped, PeerClosed */
  readonly run: (test: TestContext) => Promise<string | void>;
}

/** Checks that are reported under one title. */
export interface CheckGroup {
  readonly title: string;
  readonly checks: readonly Check[];
}

/** A method that may be called, with encoded arguments. */
export interface Callable {
  readonly method: Method;
  readonly args: Uint8Array;
}

export interface TestContextOptions {
  readonly chassis: ChassisUnderTest;
  readonly stubMesh: StubMesh;
  readonly timeoutMs: number;
  /** The service of idl/conformance.thrift. */
  readonly conformance: Interface;
}

export class TestContext {
  readonly chassis: ChassisUnderTest;
  readonly stubMesh: StubMesh;
  readonly timeoutMs: number;
  readonly conformance: Interface;
  described: ChassisDetails | undefined;
  interface: Interface | undefined;
  /** Methods of its own service that may be called. */
  callables: readonly Callable[] = [];

  constructor({ chassis, stubMesh, timeoutMs, conformance }: TestContextOptions) {
    this.chassis = chassis;
    this.stubMesh = stubMesh;
    this.timeoutMs = timeoutMs;
    this.conformance = conformance;
  }

  /** Whether it implements Conformance, whose handlers have known behavior. */
  get hasConformance(): boolean {
    return this.interface?.id === this.conformance.id;
  }

  /** Returns its details. @throws CheckSkipped if describe failed */
  requireDetails(): ChassisDetails {
    if (this.described === undefined) throw new CheckSkipped('its details are unknown: see describe');
    return this.described;
  }

  /** Returns its interface. @throws CheckSkipped if the IDL is unknown */
  requireInterface(): Interface {
    if (this.interface === undefined) throw new CheckSkipped('its interface is unknown: see idl');
    return this.interface;
  }

  /** @throws CheckSkipped unless it implements Conformance */
  requireConformance(): void {
    if (!this.hasConformance) throw new CheckSkipped(NO_CONFORMANCE);
  }

  /** Returns a few harmless calls that it must answer: a ping, and calls of its own methods. */
  probes(): SentCall[] {
    const own = this.hasConformance
      ? [this.conformanceCall('echo', { value: structValue(this.#everything(), 'plain') })]
      : this.callables.slice(0, PROBES_MAX).map(({ method, args }) => ({ name: method.name, args }));
    return [PING, ...own];
  }

  /** Returns a call of a method of Conformance. */
  conformanceCall(name: string, args: Readonly<Record<string, unknown>> = {}): SentCall {
    return { name, args: encodeStruct(this.method(name).args, args) };
  }

  method(name: string): Method {
    const found = this.conformance.methods.get(name);
    if (found === undefined) throw new Error(`idl/conformance.thrift has no method ${name}`);
    return found;
  }

  /** Returns the CallContext (field 32767) that the mesh writes first. */
  callContext(more: Partial<Call> = {}, timeLeftMs: number = this.timeoutMs): Buffer {
    const call = createCall({
      service: this.described?.serviceName ?? '',
      method: '',
      args: EMPTY_STRUCT,
      deadlineMs: 0,
      caller: CALLER,
      traceparent: TRACEPARENT,
      ...more,
    });
    return writeCallContext(call, timeLeftMs * 1000);
  }

  /** Sends a call with a CallContext, like the mesh. @throws CheckFailed if there is no reply */
  async call(sent: SentCall): Promise<TestReply> {
    try {
      return await this.chassis.call({ context: this.callContext(), ...sent });
    } catch (error) {
      throw error instanceof PeerClosed ? new CheckFailed(`a reply to ${sent.name}`, error.message) : error;
    }
  }

  /** Calls a method of Conformance and returns its value. @throws CheckFailed if it returns none */
  async callForValue(
    name: string,
    args: Readonly<Record<string, unknown>> = {},
    extra: Partial<SentCall> = {},
  ): Promise<unknown> {
    return this.returnValue(name, await this.call({ ...this.conformanceCall(name, args), ...extra }));
  }

  /** Returns the value in a reply of a method of Conformance. @throws CheckFailed */
  returnValue(name: string, reply: TestReply): unknown {
    const method = this.method(name);
    if (reply.isException) throw new CheckFailed(`a result of ${name}`, describeTestReply(reply));
    const result = decodeResult(method, reply);
    const thrown = method.throws.find((field) => result[field.name] !== undefined);
    if (thrown !== undefined) throw new CheckFailed(`a result of ${name}`, `its declared exception ${thrown.name}`);
    if (method.returns.kind !== 'void' && result['success'] === undefined)
      throw new CheckFailed(`a result of ${name}, in field 0`, describeTestReply(reply));
    return result['success'];
  }

  /** Checks that the chassis answers a ping on a new connection after `after`. @throws CheckFailed */
  async checkStillServes(after: string): Promise<void> {
    try {
      await this.chassis.reconnect();
      await this.chassis.withExitReason(this.chassis.call(PING));
    } catch (error) {
      const expected = `a new connection and a reply to a ping after ${after}`;
      if (error instanceof CheckFailed) throw new CheckFailed(expected, error.came);
      throw error instanceof PeerClosed ? new CheckFailed(expected, error.message) : error;
    }
  }

  #everything(): Parameters<typeof structValue>[0] {
    const { type } = this.method('echo').args.fields[0] ?? {};
    if (type?.kind !== 'struct') throw new Error('echo of idl/conformance.thrift takes no struct');
    return type.struct;
  }
}

/** Decodes the fields of a result. @throws CheckFailed if it does not match the interface */
export function decodeResult(method: Method, reply: TestReply): Record<string, unknown> {
  try {
    return decodeStruct(method.result, reply.body);
  } catch (error) {
    throw new CheckFailed(`a result of ${method.name} that matches its IDL`, (error as Error).message);
  }
}

export const PING: SentCall = { name: 'katamari.Chassis:ping' };
export const CALLER = 'katamari conform';
export const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';
export const TRACEPARENT: string = `00-${TRACE_ID}-00f067aa0ba902b7-01`;
export const NO_CONFORMANCE = 'these need a chassis that implements idl/conformance.thrift';
const PROBES_MAX = 3;

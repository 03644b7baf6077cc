// What the checks of `katamari conform` share: the chassis under test, what it says it is, and short ways to call it as the mesh would.
// Methods of its own are called only when they are known to do no harm: read-only, idempotent, named by --call, or those of Conformance.

import { decodeStruct, encodeStruct } from '../../../core/idl/mod.ts';
import { writeCallContext } from '../../../core/link/mod.ts';
import { createCall, EMPTY_STRUCT, type Call, type ChassisDetails } from '../../../core/rpc/mod.ts';
import type { Interface, Method } from '../../../core/thrift/mod.ts';
import type { ChassisUnderTest } from './chassis-under-test.ts';
import { CheckFailed, CheckSkipped } from './check-result.ts';
import type { StubMesh } from './stub-mesh.ts';
import { describeAnswer, PeerClosed, type TestAnswer, type SentCall } from './test-link.ts';
import { structValue } from './values.ts';

/** One thing that is looked at. */
export interface Check {
  /** For `--only` and for machines. */
  readonly id: string;
  /** What is expected of the chassis, as one line. */
  readonly what: string;
  /** What the author of a chassis does when it fails. */
  readonly advice: string;
  /** @returns a note for people, if there is one @throws Fault, Skip, Lost */
  readonly run: (exam: TestContext) => Promise<string | void>;
}

/** Checks that belong together. */
export interface CheckGroup {
  readonly title: string;
  readonly checks: readonly Check[];
}

/** A method that may be called, with arguments for it. */
export interface Callable {
  readonly method: Method;
  readonly args: Uint8Array;
}

export interface TestContextOptions {
  readonly subject: ChassisUnderTest;
  readonly door: StubMesh;
  readonly timeoutMs: number;
  /** The service of idl/conformance.thrift. */
  readonly conformance: Interface;
}

export class TestContext {
  readonly subject: ChassisUnderTest;
  readonly door: StubMesh;
  readonly timeoutMs: number;
  readonly conformance: Interface;
  described: ChassisDetails | undefined;
  interface: Interface | undefined;
  /** Methods of its own that may be called. */
  callables: readonly Callable[] = [];

  constructor({ subject, door, timeoutMs, conformance }: TestContextOptions) {
    this.subject = subject;
    this.door = door;
    this.timeoutMs = timeoutMs;
    this.conformance = conformance;
  }

  /** Whether its handlers do as they are told. */
  get hasConformance(): boolean {
    return this.interface?.id === this.conformance.id;
  }

  /** What it says it is. @throws Skip */
  details(): ChassisDetails {
    if (this.described === undefined) throw new CheckSkipped('it does not say what it is: see describe');
    return this.described;
  }

  /** Its interface. @throws Skip */
  known(): Interface {
    if (this.interface === undefined) throw new CheckSkipped('its interface is not known: see idl');
    return this.interface;
  }

  /** @throws Skip unless it implements Conformance */
  needsConformance(): void {
    if (!this.hasConformance) throw new CheckSkipped(NO_CONFORMANCE);
  }

  /** A few calls that do no harm and that it must answer: of the control service, and of its own methods. */
  probes(): SentCall[] {
    const own = this.hasConformance
      ? [this.told('echo', { value: structValue(this.#everything(), 'plain') })]
      : this.callables.slice(0, PROBES_MAX).map(({ method, args }) => ({ name: method.name, args }));
    return [PING, ...own];
  }

  /** A call of a method of Conformance. */
  told(name: string, args: Readonly<Record<string, unknown>> = {}): SentCall {
    return { name, args: encodeStruct(this.method(name).args, args) };
  }

  method(name: string): Method {
    const found = this.conformance.methods.get(name);
    if (found === undefined) throw new Error(`idl/conformance.thrift has no method ${name}`);
    return found;
  }

  /** The context that the mesh puts first. */
  context(more: Partial<Call> = {}, timeLeftMs: number = this.timeoutMs): Buffer {
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

  /** Calls as the mesh does, with a context. @throws Fault when there is no answer */
  async ask(sent: SentCall): Promise<TestAnswer> {
    try {
      return await this.subject.ask({ context: this.context(), ...sent });
    } catch (error) {
      throw error instanceof PeerClosed ? new CheckFailed(`an answer to ${sent.name}`, error.message) : error;
    }
  }

  /** Calls a method of Conformance. @returns what it returned @throws Fault when it did not */
  async value(
    name: string,
    args: Readonly<Record<string, unknown>> = {},
    more: Partial<SentCall> = {},
  ): Promise<unknown> {
    return this.returned(name, await this.ask({ ...this.told(name, args), ...more }));
  }

  /** What an answer to a method of Conformance returned. @throws Fault */
  returned(name: string, answer: TestAnswer): unknown {
    const method = this.method(name);
    if (answer.isException) throw new CheckFailed(`a result of ${name}`, describeAnswer(answer));
    const result = decoded(method, answer);
    const thrown = method.throws.find((field) => result[field.name] !== undefined);
    if (thrown !== undefined) throw new CheckFailed(`a result of ${name}`, `its declared exception ${thrown.name}`);
    if (method.returns.kind !== 'void' && result['success'] === undefined)
      throw new CheckFailed(`a result of ${name}, in field 0`, describeAnswer(answer));
    return result['success'];
  }

  /** Holds when it still answers after something bad, on a new connection. @throws Fault */
  async staysUp(after: string): Promise<void> {
    try {
      await this.subject.reconnect();
      await this.subject.told(this.subject.ask(PING));
    } catch (error) {
      const expected = `that it takes a new connection and answers a ping there after ${after}`;
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

/** The fields of a result. @throws Fault when it does not fit the interface */
export function decoded(method: Method, answer: TestAnswer): Record<string, unknown> {
  try {
    return decodeStruct(method.result, answer.body);
  } catch (error) {
    throw new CheckFailed(`a result of ${method.name} as its IDL says`, (error as Error).message);
  }
}

export const PING: SentCall = { name: 'katamari.Chassis:ping' };
export const CALLER = 'katamari conform';
export const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';
export const TRACEPARENT: string = `00-${TRACE_ID}-00f067aa0ba902b7-01`;
export const NO_CONFORMANCE = 'only a chassis that implements idl/conformance.thrift can be asked this';
const PROBES_MAX = 3;

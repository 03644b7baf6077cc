// Starts a sample as a resource manager does, and calls it over a link.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { decodeResult, encodeParams, parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import { Link } from '../../core/link/mod.ts';
import { DEFAULT_LIMITS, systemClock, scriptCommand } from '../../core/mod.ts';
import { createCall, type Reply } from '../../core/rpc/mod.ts';
import { type Interface, readApplicationException } from '../../core/thrift/mod.ts';
import { until } from '../kit/tools/wait.ts';

/**
 * Result of a call: the value in the JSON mapping, a declared exception with its fields, or the message of an
 * undeclared exception.
 */
type Outcome =
  | { readonly value: unknown }
  | { readonly exception: string; readonly fields: Record<string, unknown> }
  | { readonly failure: string };

export interface SampleProcess extends AsyncDisposable {
  readonly pid: number;
  readonly interface: Interface;
  /** All output so far, stdout and stderr. */
  output(): string;
  /** Calls a method of the sample. Rejects with KatamariError when the connection breaks. */
  call(method: string, params?: Readonly<Record<string, unknown>>): Promise<Outcome>;
  /** Calls `katamari.Chassis`. */
  control(method: 'ping' | 'describe'): Promise<unknown>;
  /** Closes its standard input, which tells it that its manager is gone. */
  cutLifeline(): void;
  /** The exit of the process. */
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
}

/** Starts `examples/SCRIPT` and waits until it accepts calls. After the test its whole process group is killed. */
export async function startSample(script: string, idl: string, service: string): Promise<SampleProcess> {
  const examples = new URL('../../examples/', import.meta.url);
  const directory = mkdtempSync(path.join(tmpdir(), 'katamari-sample-'));
  const socketPath = path.join(directory, 'socket');
  const [program = '', ...args] = scriptCommand(fileURLToPath(new URL(script, examples)));
  const child = spawn(program, args, {
    env: { ...process.env, KATAMARI_LISTEN: `unix:${socketPath}`, KATAMARI_LIFELINE: 'stdin' },
    stdio: 'pipe',
    detached: true,
  });
  let written = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (written += chunk.toString()));
  const ended = once(child, 'exit').then(([code, signal]) => ({
    code: code as number | null,
    signal: signal as NodeJS.Signals | null,
  }));
  const close = async (): Promise<void> => {
    killGroup(child);
    await ended;
    rmSync(directory, { recursive: true });
  };
  try {
    const link = await until(`${script} to listen`, () => {
      if (child.exitCode !== null) throw new Error(`${script} ended with ${child.exitCode}:\n${written}`);
      return existsSync(socketPath) ? linkTo(socketPath) : undefined;
    });
    const own = interfaceOf(new URL(idl, examples), service);
    const control = interfaceOf(new URL('../../idl/chassis.thrift', import.meta.url), 'Chassis');
    return {
      pid: child.pid ?? 0,
      interface: own,
      output: () => written,
      call: (method, params = {}) => callOver(link, own, method, method, params),
      control: async (method) => {
        const outcome = await callOver(link, control, method, `katamari.Chassis:${method}`, {});
        if ('value' in outcome) return outcome.value;
        throw new Error(`katamari.Chassis.${method}: ${JSON.stringify(outcome)}`);
      },
      cutLifeline: () => child.stdin.end(),
      ended,
      [Symbol.asyncDispose]: async () => {
        link.close();
        await close();
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function interfaceOf(file: URL, name: string): Interface {
  const found = parseIdl(readIdlFile(file)).services.get(name);
  if (!found) throw new Error(`${file.pathname} has no service ${name}`);
  return found;
}

async function linkTo(socketPath: string): Promise<Link | undefined> {
  const socket = connect(socketPath);
  try {
    await once(socket, 'connect');
  } catch {
    // The socket file appears shortly before something listens on it.
    return undefined;
  }
  return new Link(socket, { peer: 'the sample', limits: DEFAULT_LIMITS });
}

async function callOver(
  link: Link,
  found: Interface,
  methodName: string,
  wireName: string,
  params: Readonly<Record<string, unknown>>,
): Promise<Outcome> {
  const method = found.methods.get(methodName);
  if (!method) throw new Error(`${found.service} has no method ${methodName}`);
  const call = createCall({
    service: found.service,
    method: methodName,
    oneway: method.oneway,
    args: encodeParams(method, params),
    deadlineMs: systemClock.nowMs() + 60_000,
  });
  const reply: Reply = await link.dispatch(systemClock, () => wireName)(call);
  if (reply.isException) return { failure: readApplicationException(reply.body).message };
  if (method.oneway) return { value: null };
  const result = decodeResult(method, reply.body);
  return result.ok ? { value: result.value } : { exception: result.exception, fields: result.fields };
}

/** The sample is the leader of a process group, so that its children end with it. */
function killGroup(child: ChildProcess): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

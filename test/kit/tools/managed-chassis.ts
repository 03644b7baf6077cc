// A chassis in another language as its manager has it: a process with a link, the control services, and the lifeline.

import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { decodeResult, encodeParams } from '../../../core/idl/mod.ts';
import { Link } from '../../../core/link/mod.ts';
import { systemClock } from '../../../core/mod.ts';
import { createCall } from '../../../core/rpc/mod.ts';
import { readApplicationException, type Interface, type Method } from '../../../core/thrift/mod.ts';
import { until } from './wait.ts';

export interface ManagedChassis {
  readonly child: ChildProcess;
  /** Resolves to the exit code. */
  readonly ended: Promise<number | null>;
  /** Calls a method and returns its value, its declared exception with its fields, or `{ error }`. */
  readonly ask: (
    iface: Interface,
    service: string,
    name: string,
    params?: Readonly<Record<string, unknown>>,
  ) => Promise<unknown>;
}

/** Starts a chassis and ends it after `use`. */
export async function withManagedChassis(
  command: readonly string[],
  env: Readonly<Record<string, string>>,
  use: (chassis: ManagedChassis) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(path.join(tmpdir(), 'katamari-managed-'));
  const socket = path.join(folder, 'sock');
  const [program = '', ...args] = command;
  const child = spawn(program, args, {
    cwd: folder,
    env: { PATH: process.env['PATH'], ...env, KATAMARI_LISTEN: `unix:${socket}`, KATAMARI_LIFELINE: 'stdin' },
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  try {
    const connected = await until('it to listen', () => connectedTo(socket));
    const limits = { frameBytesMax: 64 * 2 ** 20, nestingMax: 1_000 };
    const link = new Link(connected, { peer: 'the chassis', limits });
    const dispatch = link.dispatch(systemClock);
    await use({
      child,
      ended,
      ask: async (iface, service, name, params = {}) => {
        const method = iface.methods.get(name) as Method;
        const args = encodeParams(method, params);
        const deadlineMs = systemClock.nowMs() + TIMEOUT_MS;
        const reply = await dispatch(createCall({ service, method: name, args, deadlineMs }));
        if (reply.isException) return { error: readApplicationException(reply.body).message };
        const result = decodeResult(method, reply.body);
        return result.ok ? result.value : { exception: result.exception, ...result.fields };
      },
    });
    link.close();
  } finally {
    child.kill('SIGKILL');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A connection; undefined while nothing listens there. */
function connectedTo(at: string): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect(at);
    socket.once('connect', () => resolve(socket));
    socket.once('error', () => resolve(undefined));
  });
}

const TIMEOUT_MS = 60_000;

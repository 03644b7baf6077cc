// Checks of the machine: runtime, shell, process groups, ports, files, limits.

import { spawn } from 'node:child_process';
import { mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import {
  examinePrivateDirectory,
  findSocketBase,
  runtimeName,
  runtimeVersion,
  dialAddress,
  portOf,
  urlOf,
} from '../../../core/mod.ts';
import type { MeshStatus } from '../../../core/rpc/mod.ts';
import { type Config, isDataDirectory, portsOf, keyText } from '../../config/mod.ts';
import type { Finding } from './finding.ts';
import { findListener } from './port-owner.ts';
import path from 'node:path';

export function checkRuntime(): Finding {
  const [name, version] = [runtimeName(), runtimeVersion()];
  const subject = 'runtime';
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (name === 'node' && (major < 20 || (major === 20 && minor < 19))) {
    return {
      verdict: 'FAIL',
      subject,
      text: `node ${version}, expected 20.19 or later`,
      advice: 'install a newer Node',
    };
  }
  return { verdict: 'OK', subject, text: `${name} ${version}`, advice: '' };
}

/** The mesh starts each chassis in a process group through /bin/sh, and kills the group to end it. */
export async function checkShell(): Promise<Finding> {
  const subject = 'process groups';
  const child = spawn('/bin/sh', ['-c', 'sleep 30 & echo up; wait'], {
    detached: true,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
  });
  const isUp = new Promise<void>((resolve) => child.stdout.once('data', () => resolve()));
  const { pid } = child;
  if (pid === undefined) {
    return {
      verdict: 'FAIL',
      subject,
      text: `cannot run /bin/sh: ${await ended}`,
      advice: 'install /bin/sh: the mesh starts each chassis with it',
    };
  }
  await Promise.race([isUp, ended]);
  let how: string;
  try {
    process.kill(-pid, 'SIGKILL');
    how = await ended;
  } catch (error) {
    child.kill('SIGKILL');
    how = (error as Error).message;
  }
  if (how === 'SIGKILL')
    return { verdict: 'OK', subject, text: '/bin/sh runs, and its process group can be killed', advice: '' };
  return {
    verdict: 'FAIL',
    subject,
    text: `a process group could not be killed: ${how}`,
    advice: 'chassis could outlive their mesh here; run it where kill(-pid) is allowed',
  };
}

export function checkDataDir({ dataDir }: Config): Finding {
  const subject = 'data directory';
  const { refused, change } = examinePrivateDirectory(dataDir, isDataDirectory);
  if (refused !== '') return { verdict: 'FAIL', subject, text: refused, advice: 'or choose another with --data-dir' };
  if (change !== '') {
    const mode = (statSync(dataDir).mode & 0o777).toString(8);
    const text = `${dataDir} can be entered by other users (mode ${mode}); \`katamari up\` makes it mode 700`;
    return { verdict: 'warn', subject, text, advice: `chmod 700 ${dataDir}` };
  }
  const probe = path.join(dataDir, `.doctor-${process.pid}`);
  try {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    writeFileSync(probe, 'x');
    rmSync(probe);
    return { verdict: 'OK', subject, text: `${dataDir} can be written`, advice: '' };
  } catch (error) {
    return {
      verdict: 'FAIL',
      subject,
      text: `${dataDir}: ${(error as Error).message}`,
      advice: 'make it writable, or choose another with --data-dir',
    };
  }
}

/** The directory in which the sockets of chassis are made. */
export function checkSocketDir(): Finding {
  const subject = 'sockets';
  try {
    const { directory, skipped } = findSocketBase();
    if (skipped.length === 0) return { verdict: 'OK', subject, text: `below ${directory}`, advice: '' };
    const text = `below ${directory}, because ${skipped.join('; ')}`;
    return { verdict: 'warn', subject, text, advice: 'set TMPDIR to another directory' };
  } catch (error) {
    return { verdict: 'FAIL', subject, text: (error as Error).message, advice: '' };
  }
}

/** Reads the limit in a child shell, because Node raises its own soft limit to the hard limit at start. */
export async function checkOpenFiles({ limits, deployments }: Config): Promise<Finding> {
  const subject = 'open files';
  const limit = (await outputOf('/bin/sh', ['-c', 'ulimit -n'])).trim();
  // A connection takes one descriptor. A chassis takes up to six: its socket, its output, its lifeline.
  const needed = limits.connectionsMax + deployments.reduce((sum, { count }) => sum + count * 6, 0) + 200;
  if (limit === 'unlimited' || Number(limit) >= needed)
    return { verdict: 'OK', subject, text: `${limit} allowed, up to ${needed} needed`, advice: '' };
  return {
    verdict: 'warn',
    subject,
    text: `${limit || 'an unknown number'} allowed, but limits.connections and the chassis may need ${needed}`,
    advice: `raise it (ulimit -n ${needed}), or lower limits.connections`,
  };
}

export async function checkPorts(config: Config): Promise<Finding[]> {
  const ports = portsOf(config).map(({ path: steps, port }) => ({ key: keyText(steps), port }));
  const used = ports.filter(({ key }) => key !== 'ports.consul' || config.consul.embedded);
  const running = await findRunningProcess(config);
  return Promise.all(used.map(({ key, port }) => checkPort(config, key, port, running)));
}

async function checkPort(
  config: Config,
  key: string,
  port: number,
  running: RunningProcess | undefined,
): Promise<Finding> {
  const [, added] = /^faceplates\[(\d+)\]/.exec(key) ?? [];
  const name = added === undefined ? undefined : config.faceplates[Number(added)]?.name;
  const subject = `port ${name ?? key.replace(/^ports\.|\.port$/g, '')}`;
  if (port === 0) return { verdict: 'OK', subject, text: 'any free port', advice: '' };
  const code = await tryListen(config.host, port);
  if (code === undefined) return { verdict: 'OK', subject, text: `${config.host}:${port} is free`, advice: '' };
  const flag = name === undefined ? `choose another with --set ${key}=PORT` : `choose another in ${key}`;
  if (code === 'EACCES')
    return { verdict: 'FAIL', subject, text: `${port} needs privileges that this account lacks`, advice: flag };
  if (code !== 'EADDRINUSE')
    return {
      verdict: 'FAIL',
      subject,
      text: `cannot listen on ${config.host}:${port}: ${code}`,
      advice: 'give an address of this machine with --host',
    };
  const owner = findListener(port);
  if (running !== undefined && (owner?.pid === running.pid || running.ports.includes(port)))
    return { verdict: 'OK', subject, text: `${port} is held by ${running.who}, which is running`, advice: '' };
  const who = owner === undefined ? 'by an unknown process' : `by process ${owner.pid} (${owner.command})`;
  return { verdict: 'FAIL', subject, text: `${port} is held ${who}`, advice: `end that process, or ${flag}` };
}

/** The running process that uses this configuration. */
interface RunningProcess {
  readonly pid: number;
  readonly who: string;
  readonly ports: readonly number[];
}

/**
 * Asks the server at the configured stats port for its status. Returns it only if mesh and name match the
 * configuration.
 */
async function findRunningProcess({ mesh, name, host, ports }: Config): Promise<RunningProcess | undefined> {
  try {
    const url = `${urlOf(dialAddress({ host, port: ports.stats }))}/status`;
    const answer = await fetch(url, { signal: AbortSignal.timeout(STATUS_TIMEOUT_MS) });
    const status = (await answer.json()) as Partial<MeshStatus>;
    if (!answer.ok || status.mesh !== mesh || status.name !== name) return undefined;
    const listening = (status.listeners ?? []).map(({ address }) => portOf(address) ?? 0);
    return { pid: status.pid ?? 0, who: `${name} of this mesh (process ${status.pid})`, ports: listening };
  } catch {
    return undefined;
  }
}

/** Returns the error code of an attempt to listen, or undefined if it works. */
function tryListen(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}

function outputOf(program: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] });
    let output = '';
    child.stdout.on('data', (part: Buffer) => (output += part.toString()));
    child.once('error', () => resolve(''));
    child.once('close', () => resolve(output));
  });
}

const STATUS_TIMEOUT_MS = 1_000;

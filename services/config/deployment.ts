// A deployment as the mesh runs it: one version of a service, how its processes are started and kept. Paths are
// absolute here; in the file they are relative to the file.
import { parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import { KatamariError, scriptCommand } from '../../core/mod.ts';
import type { Protocol, Transport } from '../../core/thrift/encodings/mod.ts';
import type { IdlSource } from '../../core/thrift/mod.ts';
import { whyNoHealthCheck, type Deployment as Wanted } from '../mesh/mod.ts';
import type { DeploymentEntry } from './schema.ts';
import os from 'node:os';
import path from 'node:path';

/** The wanted state of one version of a service. A count, age or size of 0 under `recycle` means never. */
export interface ConfiguredDeployment {
  /** `Service@version` */
  readonly id: string;
  readonly service: string;
  readonly version: string;
  /** Program and arguments. */
  readonly command: readonly string[];
  readonly count: number;
  readonly cwd: string;
  /** Added to the environment that the mesh itself has. */
  readonly env: Readonly<Record<string, string>>;
  readonly tags: readonly string[];
  readonly roles: readonly string[];
  readonly more: Readonly<Record<string, string>>;
  /** The interface, for a chassis that cannot describe itself; '' when it can. */
  readonly idl: string;
  /** `none`: a plain Thrift server, which knows nothing of describe, ping and drain. */
  readonly kit: 'sdk' | 'none';
  readonly listen: 'unix' | 'tcp';
  /** How a plain server reads and writes. */
  readonly transport: Transport;
  readonly protocol: Protocol;
  /** The method that is called to see whether a plain server is well; '' for none. */
  readonly healthCheck: string;
  /** Calls that one process takes at once; undefined: what the chassis says of itself, 1 for a plain server. */
  readonly concurrency: number | undefined;
  readonly startTimeoutMs: number;
  readonly pingEveryMs: number;
  readonly pingTimeoutMs: number;
  readonly drainTimeoutMs: number;
  /** From SIGTERM to SIGKILL. */
  readonly stopGraceMs: number;
  /** After a call's deadline, before its chassis is taken for hung. */
  readonly hangGraceMs: number;
  readonly restart: {
    /** Starts within `periodMs` before a place is backed off. */
    readonly intensity: number;
    readonly periodMs: number;
    readonly backoffFirstMs: number;
    readonly backoffMaxMs: number;
  };
  readonly recycle: { readonly afterCalls: number; readonly afterAgeMs: number; readonly memoryMaxBytes: number };
  readonly queueMax: number;
}

/** `directory` is the configuration file's. */
export function resolveDeployment(entry: DeploymentEntry, directory: string): ConfiguredDeployment {
  const from = (file: string): string => path.resolve(directory, file.replace(/^~(?=\/)/, os.homedir()));
  const { restart, recycle } = entry;
  return {
    id: `${entry.service}@${entry.version}`,
    service: entry.service,
    version: entry.version,
    command: entry.script === undefined ? (entry.command ?? []) : scriptCommand(from(entry.script)),
    count: entry.count,
    cwd: from(entry.cwd),
    env: entry.env,
    tags: entry.tags,
    roles: entry.roles,
    more: entry.more,
    idl: entry.idl === undefined ? '' : from(entry.idl),
    kit: entry.kit,
    listen: entry.listen ?? 'unix',
    transport: entry.transport ?? 'framed',
    protocol: entry.protocol ?? 'binary',
    healthCheck: entry.healthCheck ?? '',
    concurrency: entry.concurrency,
    startTimeoutMs: entry.startTimeout,
    pingEveryMs: entry.pingEvery,
    pingTimeoutMs: entry.pingTimeout,
    drainTimeoutMs: entry.drainTimeout,
    stopGraceMs: entry.stopGrace,
    hangGraceMs: entry.hangGrace,
    restart: {
      intensity: restart.intensity,
      periodMs: restart.period,
      backoffFirstMs: restart.backoffFirst,
      backoffMaxMs: restart.backoffMax,
    },
    recycle: { afterCalls: recycle.afterCalls, afterAgeMs: recycle.afterAge, memoryMaxBytes: recycle.memoryMax },
    queueMax: entry.queue.max,
  };
}

/**
 * A deployment as a manager takes it; reads the interface of a plain server.
 * @throws KatamariError when that cannot be read, or says no
 */
export function desiredDeployment(deployment: ConfiguredDeployment): Wanted {
  const { service, version, count, command, cwd, env, listen, roles, tags, more, concurrency, queueMax } = deployment;
  const { transport, protocol, healthCheck } = deployment;
  return {
    service,
    version,
    count,
    command,
    cwd,
    env,
    listen,
    roles,
    tags,
    more,
    idl: deployment.kit === 'none' ? readInterface(deployment) : null,
    transport,
    protocol,
    healthCheck,
    concurrency: concurrency ?? null,
    times: {
      startTimeoutMs: deployment.startTimeoutMs,
      pingEveryMs: deployment.pingEveryMs,
      pingTimeoutMs: deployment.pingTimeoutMs,
      drainTimeoutMs: deployment.drainTimeoutMs,
      stopGraceMs: deployment.stopGraceMs,
      hangGraceMs: deployment.hangGraceMs,
    },
    restart: deployment.restart,
    recycle: {
      afterCalls: deployment.recycle.afterCalls,
      afterAgeMs: deployment.recycle.afterAgeMs,
      memoryBytesMax: deployment.recycle.memoryMaxBytes,
    },
    queueMax,
  };
}

function readInterface({ id, service, idl, healthCheck }: ConfiguredDeployment): IdlSource {
  const source = readIdlFile(idl);
  if (healthCheck === '') return source;
  const offered = parseIdl(source).services.get(service);
  const why = offered === undefined ? `${idl} has no service ${service}` : whyNoHealthCheck(offered, healthCheck);
  if (why === undefined) return source;
  throw new KatamariError('bad_request', `healthCheck of deployment ${id}: ${why}`);
}

// Converts an entry of `deployments` to the deployment that the mesh runs: one version of a service, and how its
// processes are launched, supervised and recycled. Paths become absolute; in the file they are relative to the file.

import { parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import { KatamariError, scriptCommand } from '../../core/mod.ts';
import type { Protocol, Transport } from '../../core/thrift/encodings/mod.ts';
import type { IdlSource } from '../../core/thrift/mod.ts';
import { whyNoHealthCheck, type Deployment, type Isolation } from '../mesh/mod.ts';
import type { DeploymentEntry } from './schema.ts';
import os from 'node:os';
import path from 'node:path';

/** The desired state of one version of a service. Under `recycle`, a count, age or size of 0 means never. */
export interface ConfiguredDeployment {
  /** `Service@version` */
  readonly id: string;
  readonly service: string;
  readonly version: string;
  /** Program and arguments. */
  readonly command: readonly string[];
  readonly count: number;
  readonly perManager: boolean;
  readonly cwd: string;
  /** Added to the environment that a chassis inherits from the mesh. */
  readonly env: Readonly<Record<string, string>>;
  readonly tags: readonly string[];
  readonly roles: readonly string[];
  readonly more: Readonly<Record<string, string>>;
  /** Path of the IDL file of a server that cannot describe itself; '' for a chassis that can. */
  readonly idl: string;
  /** Folders with files that the IDL file includes. */
  readonly includes: readonly string[];
  /** `none` is a plain Thrift server, which does not implement describe, ping and drain. */
  readonly kit: 'sdk' | 'none';
  readonly listen: 'unix' | 'tcp';
  /** Wire format of a plain server. */
  readonly transport: Transport;
  readonly protocol: Protocol;
  /** Method that is called to check the health of a plain server; '' for none. */
  readonly healthCheck: string;
  /**
   * Calls that one process runs at the same time. If undefined, the chassis reports its own limit, and a plain server
   * has 1.
   */
  readonly concurrency: number | undefined;
  readonly startTimeoutMs: number;
  readonly pingEveryMs: number;
  readonly pingTimeoutMs: number;
  readonly drainTimeoutMs: number;
  /** Time from SIGTERM to SIGKILL. */
  readonly stopGraceMs: number;
  /** Time from the deadline of a call until its chassis counts as hung. */
  readonly hangGraceMs: number;
  readonly restart: {
    /** Starts that are allowed within `periodMs`; the next one is delayed (backoff). */
    readonly intensity: number;
    readonly periodMs: number;
    readonly backoffFirstMs: number;
    readonly backoffMaxMs: number;
  };
  readonly recycle: { readonly afterCalls: number; readonly afterAgeMs: number; readonly memoryMaxBytes: number };
  readonly queueMax: number;
  readonly isolation: Isolation | null;
}

/** @param directory directory of the configuration file, the base of relative paths */
export function resolveDeployment(entry: DeploymentEntry, directory: string): ConfiguredDeployment {
  const from = (file: string): string => path.resolve(directory, file.replace(/^~(?=\/)/, os.homedir()));
  const { restart, recycle } = entry;
  return {
    id: `${entry.service}@${entry.version}`,
    service: entry.service,
    version: entry.version,
    command: entry.script === undefined ? (entry.command ?? []) : scriptCommand(from(entry.script)),
    count: entry.count,
    perManager: entry.perManager,
    cwd: from(entry.cwd),
    env: entry.env,
    tags: entry.tags,
    roles: entry.roles,
    more: entry.more,
    idl: entry.idl === undefined ? '' : from(entry.idl),
    includes: entry.includes.map(from),
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
    isolation: isolationOf(entry),
  };
}

/** Returns null for an entry without one of these keys, whose processes run as the mesh does. */
function isolationOf({ user, group, groups, umask, noNewPrivileges, systemLimits }: DeploymentEntry): Isolation | null {
  const { openFiles, memory, processes, core, cpu } = systemLimits;
  const keys = [user, group, groups, umask, noNewPrivileges, openFiles, memory, processes, core, cpu];
  if (keys.every((key) => key === undefined)) return null;
  return {
    user: user ?? '',
    group: group ?? '',
    groups: groups ?? null,
    umask: umask ?? '',
    noNewPrivileges: noNewPrivileges ?? user !== undefined,
    limits: {
      openFiles: openFiles ?? null,
      memoryBytes: memory ?? null,
      processes: processes ?? null,
      coreBytes: core ?? null,
      cpuS: cpu === undefined ? null : Math.ceil(cpu / 1_000),
    },
  };
}

/**
 * Converts to the record that managers and orders use. Reads the IDL file of a plain server.
 * @throws KatamariError when the IDL cannot be read, or its service has no such health check
 */
export function desiredDeployment(deployment: ConfiguredDeployment): Deployment {
  const { service, version, count, command, cwd, env, listen, roles, tags, more, concurrency, queueMax, isolation } =
    deployment;
  const { transport, protocol, healthCheck } = deployment;
  return {
    service,
    version,
    count,
    ...(deployment.perManager ? { perManager: true } : {}),
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
    isolation,
  };
}

function readInterface({ id, service, idl, includes, healthCheck }: ConfiguredDeployment): IdlSource {
  const source = readIdlFile(idl, includes);
  if (healthCheck === '') return source;
  const offered = parseIdl(source).services.get(service);
  const why = offered === undefined ? `${idl} has no service ${service}` : whyNoHealthCheck(offered, healthCheck);
  if (why === undefined) return source;
  throw new KatamariError('bad_request', `healthCheck of deployment ${id}: ${why}`);
}

// Converts deployments to and from the structs of idl/katamari.thrift. Thrift reserves the word `service`, and
// absent values are left out.
import { DEPLOYMENT, type Deployment } from '../mesh/mod.ts';
import type { DeployOutcome } from './deployment-store.ts';
import { z } from 'zod';

/** Struct `Deployment` as decoded: maps are Map objects. */
export interface ThriftDeployment {
  readonly serviceName: string;
  readonly version: string;
  readonly env: ReadonlyMap<string, string>;
  readonly more: ReadonlyMap<string, string>;
  readonly idl?: { readonly main: string; readonly files: ReadonlyMap<string, string> };
  readonly concurrency?: number;
  readonly isolation?: { readonly limits: Readonly<Record<string, number>> };
  /** Other fields are as in Deployment; the schema checks them. */
  readonly [field: string]: unknown;
}

/** Checks and converts a struct. Returns an Error that says what is invalid. */
export function deploymentOf(thrift: ThriftDeployment): Deployment | Error {
  const { serviceName, env, more, idl, concurrency, isolation, ...rest } = thrift;
  const read = DEPLOYMENT.safeParse({
    ...rest,
    service: serviceName,
    env: Object.fromEntries(env),
    more: Object.fromEntries(more),
    idl: idl === undefined ? null : { main: idl.main, files: Object.fromEntries(idl.files) },
    concurrency: concurrency ?? null,
    isolation:
      isolation === undefined ? null : { groups: null, ...isolation, limits: { ...NO_LIMITS, ...isolation.limits } },
  });
  return read.success ? read.data : new Error(z.prettifyError(read.error));
}

export function thriftDeployment({ service, idl, concurrency, isolation, ...rest }: Deployment): unknown {
  return {
    ...rest,
    serviceName: service,
    ...(idl === null ? {} : { idl }),
    ...(concurrency === null ? {} : { concurrency }),
    ...(isolation === null ? {} : { isolation: { ...present(isolation), limits: present(isolation.limits) } }),
  };
}

/** An object without the keys whose value is null. */
function present(values: object): object {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null));
}

const NO_LIMITS = { openFiles: null, memoryBytes: null, processes: null, coreBytes: null, cpuS: null };
/** Values of the enum `DeployOutcome`. */
export const OUTCOMES: Readonly<Record<DeployOutcome, number>> = { created: 1, changed: 2, unchanged: 3 };

// The `no_pool` errors of the router. Each message says what was requested and what the mesh has instead.
// `facts.unknownMethod` is set when no service of the mesh has the method.

import { KatamariError } from '../../core/mod.ts';
import { isMeshService, type PoolQuery } from '../../core/rpc/mod.ts';
import type { DeployedService } from './deployed.ts';
import { matchDetails, type ServiceEntry } from './match-pools.ts';
import { mergeViews } from './merged-view.ts';

/** What the router knows about the mesh, for the error texts. */
export interface KnownServices {
  readonly services: ReadonlyMap<string, ServiceEntry>;
  /** Names of services by method. */
  readonly servicesByMethod: ReadonlyMap<string, readonly string[]>;
}

/** Error for a call that names a service without a pool. */
export function unknownServiceError(query: PoolQuery, known: KnownServices): KatamariError {
  return noPool(`No pool offers ${query.service}; ${listServices(known)}`, !known.servicesByMethod.has(query.method));
}

/** Error for a call that names no service, when no service has the method. */
export function unknownMethodError({ method }: PoolQuery, known: KnownServices): KatamariError {
  return noPool(`No service here has a method "${method}"; ${listServices(known)}`, true);
}

/** Error for a call that names no service, when several services have the method. */
export function ambiguousMethodError({ method }: PoolQuery, names: readonly string[]): KatamariError {
  return noPool(
    `Method "${method}" is in ${names.join(' and ')}; name the service too, for example ${names[0]}:${method}`,
    false,
  );
}

/** Error for a call to a deployed service, whose copies cannot start, or to an index that is being loaded. */
export function failedError({ service, version, failure, isLoading = false }: DeployedService): KatamariError {
  if (isLoading) {
    const facts = { notRun: true, retryAfterMs: LOADING_RETRY_MS, httpStatus: 503 };
    return new KatamariError('no_pool', `${failure}; try again later`, facts);
  }
  const why = `No copy of ${service}@${version} can start: ${failure}. Correct it, then katamari restart ${service}`;
  return new KatamariError('resource_failed', why);
}

/** Error for a call to a service whose pools or deployments do not match it. */
export function noMatchError(entry: ServiceEntry, query: PoolQuery, known: KnownServices): KatamariError {
  const { method, version, roles } = query;
  if (entry.offers.length === 0) {
    const deployed = entry.deployed.map((one) => `${one.version}${forRoles(one.roles)}`).join(', ');
    return noPool(
      `No pool offers ${entry.name}${atVersion(version)}${forRoles(roles)}: deployed are ${deployed}`,
      false,
    );
  }
  const having = entry.offers.filter((offer) => offer.interface.methods.has(method));
  if (having.length === 0) {
    const methods = [...(entry.offers[0]?.interface.methods.keys() ?? [])].join(', ');
    return noPool(`${entry.name} has no method "${method}"; it has ${methods}`, !known.servicesByMethod.has(method));
  }
  const requested = `${entry.name}${atVersion(version)}${forRoles(roles)}`;
  if (matchDetails(entry.offers, query).length > 0) {
    const versions = [...new Set(having.map(({ details }) => details.version))].join(', ');
    return noPool(`${requested} has no method "${method}"; it is in ${versions}`, false);
  }
  return noPool(`No pool offers ${requested}: versions here are ${listVersions(entry)}`, false);
}

function noPool(message: string, unknownMethod: boolean): KatamariError {
  return new KatamariError('no_pool', message, { notRun: true, ...(unknownMethod ? { unknownMethod } : {}) });
}

function listServices({ services }: KnownServices): string {
  const names = [...services.keys()].filter((name) => !isMeshService(name));
  return names.length === 0
    ? 'no chassis is up yet'
    : `services here are ${names.slice(0, NAMES_SHOWN_MAX).join(', ')}`;
}

function listVersions({ offers }: ServiceEntry): string {
  return mergeViews(offers)
    .map(({ details: { version, roles }, alive }) => {
      return `${version} (${alive} ${alive === 1 ? 'resource' : 'resources'}${forRoles(roles)})`;
    })
    .join(', ');
}

function atVersion(version: string): string {
  return version === '' ? '' : `@${version}`;
}

function forRoles(roles: readonly string[]): string {
  return roles.length === 0 ? '' : ` for roles ${roles.join(', ')}`;
}

const NAMES_SHOWN_MAX = 20;
const LOADING_RETRY_MS = 2_000;

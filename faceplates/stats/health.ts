// Health checks for load balancers and operators: whether enough resources are alive. Idle and busy resources both
// count as alive, so a pool under full load is healthy. Pure functions of a MeshStatus.

import type { MeshStatus, PoolStatus } from '../../core/rpc/mod.ts';

/** The result of a health check: an HTTP status and one line of text. */
export interface Health {
  readonly status: 200 | 400 | 503;
  readonly text: string;
}

/** `Service` or `Service@version` in a path. */
export interface ServiceName {
  readonly service: string;
  /** '' for all versions. */
  readonly version: string;
}

/** Splits a name at the first `@`. */
export function readServiceName(text: string): ServiceName {
  const at = text.indexOf('@');
  return at === -1 ? { service: text, version: '' } : { service: text.slice(0, at), version: text.slice(at + 1) };
}

export function poolsOf(status: MeshStatus, { service, version }: ServiceName): PoolStatus[] {
  return status.pools.filter((pool) => pool.service === service && (version === '' || pool.version === version));
}

/**
 * Returns 200 if at least `wantedText` resources of the service (and version, if given) are alive, else 503. A process
 * that drains gets 503, so that a load balancer with this check sends no more calls.
 */
export function healthOf(status: MeshStatus, name: string, wantedText: string): Health {
  if (!/^\d{1,9}$/.test(wantedText)) {
    return {
      status: 400,
      text: `Cannot check for "${wantedText}" resources: expected a whole number, as in /status/${name}/2`,
    };
  }
  const wanted = Number(wantedText);
  if (status.isDraining) return { status: 503, text: 'this process is draining' };
  const pools = poolsOf(status, readServiceName(name));
  if (pools.length === 0) {
    const known = [...new Set(status.pools.map((pool) => pool.service))].slice(0, NAMES_MAX).join(', ');
    return { status: 503, text: `No pool offers ${name}; services here: ${known === '' ? 'none' : known}` };
  }
  const alive = sum(pools, (pool) => pool.alive);
  const free = sum(pools, (pool) => pool.free);
  const facts = `${name}: ${alive} alive (${free} free, ${alive - free} busy), at least ${wanted} required`;
  return { status: alive >= wanted ? 200 : 503, text: facts };
}

/** Returns 200 if the process can take calls, else 503. */
export function readiness(status: MeshStatus): Health {
  if (status.isDraining) return { status: 503, text: `draining${status.note === '' ? '' : `: ${status.note}`}` };
  if (!status.isReady) return { status: 503, text: status.note === '' ? 'not ready' : `not ready: ${status.note}` };
  return { status: 200, text: 'ready' };
}

export function sum(pools: readonly PoolStatus[], read: (pool: PoolStatus) => number): number {
  return pools.reduce((total, pool) => total + read(pool), 0);
}

const NAMES_MAX = 20;

// Converts a MeshStatus to and from its struct in idl/katamari.thrift. In Thrift, `service` is a reserved word, so
// the struct has `serviceName`. Unknown figures are omitted.

import type { MeshStatus, PoolStatus } from '../../core/rpc/mod.ts';

type ThriftFigures = 'p50Ms' | 'p99Ms' | 'queueP99Ms';

/** A decoded status struct. */
export type ThriftStatus = Omit<MeshStatus, 'pools'> & {
  readonly pools: readonly (Omit<PoolStatus, 'service' | ThriftFigures> &
    Partial<Pick<PoolStatus, ThriftFigures>> & { readonly serviceName: string })[];
};

/** Converts a MeshStatus to the Thrift struct. */
export function thriftStatus(status: MeshStatus): unknown {
  return {
    ...status,
    pools: status.pools.map(({ service, p50Ms, p99Ms, queueP99Ms, ...pool }) => ({
      ...pool,
      serviceName: service,
      ...(p50Ms === null ? {} : { p50Ms }),
      ...(p99Ms === null ? {} : { p99Ms }),
      ...(queueP99Ms === null ? {} : { queueP99Ms }),
    })),
  };
}

/** Converts the Thrift struct to a MeshStatus. */
export function statusOfThrift(status: ThriftStatus): MeshStatus {
  const pools = status.pools.map(({ serviceName, ...pool }) => ({ ...NO_FIGURES, ...pool, service: serviceName }));
  return { ...status, pools };
}

const NO_FIGURES = { p50Ms: null, p99Ms: null, queueP99Ms: null };

// A MeshStatus as idl/katamari.thrift has it, and back: there `service` is a reserved word, and figures that nobody has are left out.

import type { MeshStatus, PoolStatus } from '../../core/rpc/mod.ts';

type ThriftFigures = 'p50Ms' | 'p99Ms' | 'queueP99Ms';

/** As it comes out of decoding. */
export type ThriftStatus = Omit<MeshStatus, 'pools'> & {
  readonly pools: readonly (Omit<PoolStatus, 'service' | ThriftFigures> &
    Partial<Pick<PoolStatus, ThriftFigures>> & { readonly serviceName: string })[];
};

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

export function statusOfThrift(status: ThriftStatus): MeshStatus {
  const pools = status.pools.map(({ serviceName, ...pool }) => ({ ...NO_FIGURES, ...pool, service: serviceName }));
  return { ...status, pools };
}

const NO_FIGURES = { p50Ms: null, p99Ms: null, queueP99Ms: null };

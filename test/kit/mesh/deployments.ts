// A deployment for tests that start nothing, with the defaults that a configuration fills in.

import type { Deployment } from '../../../services/mesh/mod.ts';

export function deploymentFor(given: Partial<Deployment> & { readonly service: string }): Deployment {
  return {
    version: '1.0.0',
    count: 1,
    command: ['true'],
    cwd: '',
    env: {},
    listen: 'unix',
    roles: [],
    tags: [],
    more: {},
    idl: null,
    transport: 'framed',
    protocol: 'binary',
    healthCheck: '',
    concurrency: null,
    times: {
      startTimeoutMs: 10_000,
      pingEveryMs: 5_000,
      pingTimeoutMs: 2_000,
      drainTimeoutMs: 10_000,
      stopGraceMs: 2_000,
      hangGraceMs: 1_000,
    },
    restart: { intensity: 5, periodMs: 30_000, backoffFirstMs: 500, backoffMaxMs: 30_000 },
    recycle: { afterCalls: 0, afterAgeMs: 0, memoryBytesMax: 0 },
    queueMax: 1_000,
    isolation: null,
    ...given,
  };
}

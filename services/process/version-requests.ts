// What the page of a service asks of the admin service, as calls of its methods. A request names what the operator has
// seen, so that two operators do not overwrite each other.

import { KatamariError } from '../../core/mod.ts';
import type { MirrorReport } from '../mesh/mod.ts';
import { z } from 'zod';

/** A call of the admin service. The token is added to its parameters. */
export interface AdminCallWanted {
  readonly service: 'Katamari' | 'KatamariVersions';
  readonly method: string;
  readonly params: Readonly<Record<string, unknown>>;
  /** Of undoRoute: number of the last change that the operator has seen. */
  readonly expectedIndex: number;
  /** What of the result the page gets. */
  readonly read: (result: unknown) => unknown;
}

const index = z.int().min(0);

const REQUEST = z.discriminatedUnion('do', [
  z.strictObject({ do: z.literal('setWeights'), weights: z.record(z.string(), z.int().min(0)), index }),
  z.strictObject({ do: z.literal('undo'), change: index, index }),
  z.strictObject({ do: z.literal('differences') }),
  z.strictObject({ do: z.literal('rollout'), action: z.enum(['PAUSE', 'RESUME', 'PROMOTE', 'ABORT']) }),
]);

/** @throws KatamariError bad_request for a body that is no request */
export function adminCallOf(serviceName: string, body: unknown): AdminCallWanted {
  const parsed = REQUEST.safeParse(body);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const place = issue?.path.join('.') || 'the request';
    throw new KatamariError('bad_request', `${place}: ${issue?.message ?? 'is wrong'}`);
  }
  const request = parsed.data;
  const common = { service: 'Katamari', expectedIndex: 0, read: nothing } as const;
  switch (request.do) {
    case 'setWeights': {
      const { weights, index: expected } = request;
      return { ...common, method: 'setRoute', params: { route: { serviceName, weights, index: expected } } };
    }
    case 'undo': {
      const { change, index: expectedIndex } = request;
      return { ...common, method: 'undoRoute', params: { serviceName, index: change }, expectedIndex };
    }
    case 'differences':
      return { ...common, method: 'getMirrors', params: { serviceName }, read: latestDifferences };
    case 'rollout': {
      const { action } = request;
      return { ...common, service: 'KatamariVersions', method: 'changeRollout', params: { serviceName, action } };
    }
  }
}

/** Reads the last rollout of a service, or the one under way. */
export function rolloutsOf(serviceName: string): AdminCallWanted {
  const read = (found: unknown): unknown => (found as readonly unknown[])[0];
  return { service: 'KatamariVersions', method: 'getRollouts', params: { serviceName }, expectedIndex: 0, read };
}

function nothing(): unknown {
  return null;
}

/** The latest first. */
function latestDifferences(report: unknown): unknown {
  return (report as MirrorReport).differences.slice(-DIFFERENCES_MAX).reverse();
}

const DIFFERENCES_MAX = 20;

// The part of a route that copies calls to another version, to compare its answers with those that callers get.

import type { Method } from '../../core/thrift/mod.ts';
import { z } from 'zod';

export interface RouteMirror {
  /** The version that gets the copies. */
  readonly to: string;
  /** Percentage of the calls that are copied, 0 to 100; default 100. */
  readonly share?: number | undefined;
  /** Methods whose calls are copied; by default all that are readonly or idempotent. */
  readonly methods?: readonly string[] | undefined;
  /** Copies the calls of `methods` whatever they change. */
  readonly force?: boolean | undefined;
  /** Paths in answers that are not compared, with all below them: `hits[].score`. */
  readonly ignore?: readonly string[] | undefined;
  /** Doubles are equal if they differ by no more than this part of the larger one; default 1e-9. */
  readonly tolerance?: number | undefined;
}

/** What is wrong with a mirror beyond the form of its values; '' for nothing. */
export function problemOfMirror({ methods, force }: RouteMirror): string {
  return force === true && methods === undefined ? 'found force without methods, expected the methods to force' : '';
}

/**
 * Whether calls of a method are copied. A oneway call has no answer to compare. An index asks its shards itself, so
 * methods with `katamari.gather` are left out.
 */
export function isMirrored({ methods, force }: RouteMirror, method: Method): boolean {
  if (method.oneway || method.gather !== undefined) return false;
  if (methods !== undefined && !methods.includes(method.name)) return false;
  return method.isIdempotent || force === true;
}

/** A mirror in Consul. */
export const MIRROR: z.ZodType<RouteMirror> = z.object({
  to: z.string().min(1).max(100),
  share: z.number().min(0).max(100).optional(),
  methods: z.array(z.string().min(1).max(1_000)).min(1).max(10_000).optional(),
  force: z.boolean().optional(),
  ignore: z.array(z.string().min(1).max(1_000)).max(1_000).optional(),
  tolerance: z.number().min(0).max(1).optional(),
});

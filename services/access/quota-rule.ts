// One quota of the access policy: how often, how many at the same time, and with how many bytes callers may call.
// docs/access.md describes the document; quotas.ts enforces it.

import { parseSize } from '../../core/mod.ts';
import { many, one, type Target, type Who } from './patterns.ts';
import { z } from 'zod';

/** A token bucket: `burst` at once, refilled with `perMs`. */
export interface Rate {
  readonly perMs: number;
  readonly burst: number;
  /** As in the document: `100/s`. */
  readonly text: string;
}

export interface QuotaRule {
  /** For metrics and errors: its name in the document, or `quotas[0]`. */
  readonly name: string;
  /** `quotas[0] (line 9)` */
  readonly where: string;
  /** Undefined for every caller. */
  readonly who: readonly Who[] | undefined;
  readonly targets: readonly Target[];
  readonly rate: Rate | undefined;
  /** Calls at the same time. */
  readonly concurrency: number | undefined;
  /** Bytes of arguments and results. */
  readonly bytes: Rate | undefined;
  /** Whether all its callers share it. Otherwise each caller has one of its own. */
  readonly isShared: boolean;
  /** Equal for equal quotas. What callers have used is kept by it when the policy changes. */
  readonly id: string;
}

export interface QuotaDocument {
  readonly name?: string | undefined;
  readonly who?: readonly string[] | undefined;
  readonly calls: readonly string[];
  readonly rate?: string | undefined;
  readonly burst?: number | undefined;
  readonly concurrency?: number | undefined;
  readonly bytes?: string | undefined;
  readonly shared: boolean;
}

export const QUOTA: z.ZodType<QuotaDocument> = z.strictObject(
  {
    name: z
      .string('expected text')
      .regex(/^[\w.-]{1,100}$/, 'expected letters, digits, dots and dashes')
      .optional(),
    who: many.optional(),
    calls: many.default(['*']),
    rate: one.optional(),
    burst: z.int('expected a whole number').min(1).max(1_000_000_000).optional(),
    concurrency: z.int('expected a whole number').min(1).max(1_000_000_000).optional(),
    bytes: one.optional(),
    shared: z.boolean('expected true or false').default(false),
  },
  { error: 'expected a map with rate, concurrency or bytes and, optionally, who, calls, burst, shared and name' },
);

/**
 * Returns the quota of an entry of the document.
 * @param where `quotas[0] (line 9)`
 * @returns an Error that says what is wrong with a value
 */
export function quotaOf(
  entry: QuotaDocument,
  where: string,
  who: readonly Who[] | undefined,
  targets: readonly Target[],
): QuotaRule | Error {
  const { name, concurrency, shared, burst } = entry;
  if (entry.rate === undefined && concurrency === undefined && entry.bytes === undefined) {
    return new Error('expected at least one of rate, concurrency and bytes');
  }
  if (burst !== undefined && entry.rate === undefined) return new Error('expected rate beside burst');
  const rate = entry.rate === undefined ? undefined : rateOf(entry.rate, burst);
  if (rate instanceof Error) return rate;
  const bytes = entry.bytes === undefined ? undefined : bytesOf(entry.bytes);
  if (bytes instanceof Error) return bytes;
  return {
    name: name ?? (where.split(' ')[0] as string),
    where,
    who,
    targets,
    rate,
    concurrency,
    bytes,
    isShared: shared,
    id: JSON.stringify([name, entry.who, entry.calls, entry.rate, burst, concurrency, entry.bytes, shared]),
  };
}

/** What a quota allows, for people: `100/s, 10 at the same time, 5MiB/s`. */
export function describeQuota({ rate, concurrency, bytes, isShared }: QuotaRule): string {
  const parts = [
    ...(rate === undefined ? [] : [`${rate.text} (${rate.burst} at once)`]),
    ...(concurrency === undefined ? [] : [`${concurrency} at the same time`]),
    ...(bytes === undefined ? [] : [bytes.text]),
  ];
  return `${parts.join(', ')}${isShared ? ', shared by all its callers' : ''}`;
}

function rateOf(text: string, burst: number | undefined): Rate | Error {
  const [, count = '', unit = ''] = /^(\d{1,12}(?:\.\d{1,6})?) ?\/ ?(\w+)$/.exec(text) ?? [];
  const unitMs = MS_BY_UNIT.get(unit);
  if (unitMs === undefined || Number(count) <= 0) {
    return new Error(
      `rate: found ${JSON.stringify(text)}, expected a number of calls such as "100/s", "600/min" or "5000/h"`,
    );
  }
  return { perMs: Number(count) / unitMs, burst: burst ?? Math.max(1, Math.floor(Number(count))), text };
}

function bytesOf(text: string): Rate | Error {
  const [, size = '', unit = ''] = /^(.{1,20}?) ?\/ ?(\w+)$/.exec(text) ?? [];
  const parsed = parseSize(size);
  const unitMs = MS_BY_UNIT.get(unit);
  if (!parsed.ok || parsed.value <= 0 || unitMs === undefined) {
    return new Error(`bytes: found ${JSON.stringify(text)}, expected a size such as "5MiB/s" or "1GiB/h"`);
  }
  return { perMs: parsed.value / unitMs, burst: parsed.value, text };
}

const MS_BY_UNIT: ReadonlyMap<string, number> = new Map([
  ['s', 1_000],
  ['min', 60_000],
  ['h', 3_600_000],
]);

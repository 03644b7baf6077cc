// Parses and formats durations and sizes: `10s`, `250ms`, `1m30s`, `16MiB`, `512KB`. A number without a unit is
// rejected, because it could mean seconds or milliseconds; only 0 needs no unit.

/** The longest delay of a timer in all supported runtimes. A longer delay overflows, and the timer fires at once. */
export const DURATION_MS_MAX: number = 2 ** 31 - 1;

/** The parsed value, or the text that follows `expected` in the error message. */
export type ParsedUnit =
  | { readonly ok: true; readonly value: number }
  | { readonly ok: false; readonly expected: string };

/** Parses `10s`, `250ms`, `2m`, `1m30s`, `12h` or `7d` to milliseconds. */
export function parseDuration(found: unknown): ParsedUnit {
  if (found === 0 || found === '0') return { ok: true, value: 0 };
  if (typeof found === 'number' || (typeof found === 'string' && BARE.test(found))) {
    return { ok: false, expected: `a duration with its unit, such as "${found}ms" or "${found}s"` };
  }
  const text = typeof found === 'string' ? found.trim() : '';
  if (!DURATION.test(text)) return { ok: false, expected: 'a duration such as "10s", "250ms" or "2m"' };
  let ms = 0;
  for (const [, count, unit] of text.matchAll(DURATION_PART))
    ms += Number(count) * (MS_BY_UNIT[unit as string] as number);
  if (ms > DURATION_MS_MAX) return { ok: false, expected: 'a duration of at most "24d"' };
  return { ok: true, value: Math.round(ms) };
}

/** Parses `16MiB`, `512KB` or `100B` to bytes. */
export function parseSize(found: unknown): ParsedUnit {
  if (found === 0 || found === '0') return { ok: true, value: 0 };
  if (typeof found === 'number' || (typeof found === 'string' && BARE.test(found))) {
    return { ok: false, expected: `a size with its unit, such as "${found}B" or "${found}MiB"` };
  }
  const [, count, unit] = (typeof found === 'string' ? SIZE.exec(found.trim()) : null) ?? [];
  const bytes = unit === undefined ? undefined : BYTES_BY_UNIT[unit.toLowerCase()];
  if (bytes === undefined) return { ok: false, expected: 'a size such as "16MiB", "512KB" or "100B"' };
  const value = Math.round(Number(count) * bytes);
  if (!Number.isSafeInteger(value)) return { ok: false, expected: 'a size below 8 PiB' };
  return { ok: true, value };
}

/** Formats whole milliseconds with the largest unit that fits exactly; `parseDuration` reads the text back. */
export function formatDuration(ms: number): string {
  if (ms === 0) return '0';
  const unit = (['d', 'h', 'm', 's'] as const).find((name) => ms % (MS_BY_UNIT[name] as number) === 0);
  return unit === undefined ? `${ms}ms` : `${ms / (MS_BY_UNIT[unit] as number)}${unit}`;
}

/** Formats bytes with the largest unit that fits exactly; `parseSize` reads the text back. */
export function formatSize(bytes: number): string {
  if (bytes === 0) return '0';
  const unit = ['GiB', 'MiB', 'KiB', 'GB', 'MB', 'KB'].find((name) => bytes % sizeOf(name) === 0);
  return unit === undefined ? `${bytes}B` : `${bytes / sizeOf(unit)}${unit}`;
}

/** Formats a rounded duration for people: `3.2s`, `4m 12s`, `2d 3h`. */
export function describeDuration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)}ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)}s`;
  const steps = [
    [86_400_000, 'd', 3_600_000, 'h'],
    [3_600_000, 'h', 60_000, 'm'],
    [60_000, 'm', 1_000, 's'],
  ] as const;
  const [big, bigName, small, smallName] = steps.find(([size]) => ms >= size) ?? steps[2];
  return `${Math.floor(ms / big)}${bigName} ${Math.floor((ms % big) / small)}${smallName}`;
}

/** Formats a rounded size for people: `84.2 MiB`. */
export function describeSize(bytes: number): string {
  if (bytes < 1_024) return `${bytes} B`;
  const unit = bytes >= sizeOf('GiB') ? 'GiB' : bytes >= sizeOf('MiB') ? 'MiB' : 'KiB';
  return `${(bytes / sizeOf(unit)).toFixed(1)} ${unit}`;
}

function sizeOf(unit: string): number {
  return BYTES_BY_UNIT[unit.toLowerCase()] as number;
}

const MS_BY_UNIT: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const BYTES_BY_UNIT: Readonly<Record<string, number>> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3,
};
const BARE = /^\s*\d+(\.\d+)?\s*$/;
const DURATION = /^(\d+(\.\d+)?(ms|s|m|h|d))+$/;
const DURATION_PART = /(\d+(?:\.\d+)?)(ms|s|m|h|d)/g;
const SIZE = /^(\d+(?:\.\d+)?)\s?(b|[kmg]i?b)$/i;

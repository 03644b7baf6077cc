// The leaves of the schema of katamari.yaml: how each kind of value is checked, and what is known about a leaf. The
// text that follows `expected` in errors, the notation and the default stand at the schema of each key.

import { formatDuration, formatSize, parseDuration, parseSize, type ParsedUnit } from '../../core/mod.ts';
import { z } from 'zod';

/** Notation of a value; decides how the text of a variable is parsed and how a value is printed. */
export type SettingKind = 'text' | 'number' | 'boolean' | 'duration' | 'size' | 'list' | 'map' | 'secret';

/** Metadata of a leaf. */
export interface LeafFacts {
  readonly kind: SettingKind;
  readonly expected: string;
}

/** Returns the metadata of a leaf below optional and default; undefined for maps of keys and lists of maps. */
export function leafFacts(schema: z.ZodType): LeafFacts | undefined {
  return unwrap(schema).meta() as LeafFacts | undefined;
}

/** Returns the schema below optional and default. */
export function unwrap(schema: z.ZodType): z.ZodType {
  return schema instanceof z.ZodOptional || schema instanceof z.ZodPrefault
    ? unwrap(schema.unwrap() as z.ZodType)
    : schema;
}

/** Returns the default of a key as a user would write it; undefined for none. */
export function defaultOf(schema: z.ZodType): unknown {
  return schema instanceof z.ZodPrefault ? schema.def.defaultValue : undefined;
}

/** Maximum of counts without a smaller limit. */
export const COUNT_MAX = 1_000_000_000;

export const leaf = <T extends z.ZodType>(schema: T, kind: SettingKind, expected: string): T =>
  schema.meta({ kind, expected }) as T;

export const text = (expected = 'text'): z.ZodString => leaf(z.string(), 'text', expected);
export const count = (min: number, max: number, what = 'a whole number'): z.ZodInt =>
  leaf(z.int().min(min).max(max), 'number', `${what}, ${min} to ${max}`);
export const port = (): z.ZodInt => count(0, 65_535, 'a port');
export const bool = (): z.ZodBoolean => leaf(z.boolean(), 'boolean', 'true or false');
export const texts = (expected = 'a list of text'): z.ZodArray<z.ZodString> =>
  leaf(z.array(text()).max(1_000), 'list', expected);
export const textMap = (): z.ZodRecord<z.ZodString, z.ZodString> =>
  z.record(z.string(), leaf(z.string(), 'text', 'text; put it in quotes'));

const atLeast = (kind: 'duration' | 'size', min: number): string =>
  min === 1 ? `a ${kind} above 0` : `a ${kind} of at least ${kind === 'size' ? formatSize(min) : formatDuration(min)}`;
/** Text with a unit; the number that it means comes out. */
type UnitSchema = z.ZodPipe<z.ZodUnknown, z.ZodTransform<number>>;
const withUnit = (kind: 'duration' | 'size', parse: (found: unknown) => ParsedUnit, min: number): UnitSchema =>
  leaf(
    z.unknown().transform((found, context): number => {
      const parsed = parse(found);
      const wrong = !parsed.ok ? parsed.expected : parsed.value < min ? atLeast(kind, min) : undefined;
      if (parsed.ok && wrong === undefined) return parsed.value;
      context.issues.push({ code: 'custom', message: wrong as string, input: found });
      return z.NEVER;
    }),
    kind,
    kind === 'duration' ? 'a duration such as "10s"' : 'a size such as "16MiB"',
  );
export const duration = (min = 1): UnitSchema => withUnit('duration', parseDuration, min);
/** A duration above 0, or `off`, which is 0. */
export const durationOrOff = (): UnitSchema => {
  const expected = 'a duration such as "24h", or "off"';
  const parse = (found: unknown): ParsedUnit => (found === 'off' ? { ok: true, value: 0 } : parseDuration(found));
  return leaf(withUnit('duration', parse, 0), 'duration', expected);
};
export const size = (min = 1): UnitSchema => withUnit('size', parseSize, min);

/** A Thrift identifier; dots as in a service of an included file. */
export const SERVICE: RegExp = /^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$/;
/** SemVer, with fewer than three numbers allowed. */
export const VERSION: RegExp =
  /^\d+(\.\d+){0,2}(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$/;
export const VERSION_EXPECTED: string = 'a version in quotes such as "1.0.0"';

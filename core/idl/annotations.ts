// Annotations that control the mesh. Of methods: katamari.idempotent, katamari.readonly, katamari.timeout,
// katamari.cache, katamari.gather, katamari.hedge, katamari.majority. Of fields: katamari.diff, katamari.secret. Other
// annotations are kept for their readers. An unknown annotation that begins with `katamari.` is refused as a typo.

import type { Annotations as AnnotationSyntax } from '@creditkarma/thrift-parser';
import type { Annotations, Method } from '../thrift/mod.ts';
import { hedgeOf, majorityOf } from './copy-rules.ts';
import { type IdlFile, idlFault, quote, suggest } from './fault.ts';
import { gatherOf } from './gather-rules.ts';
import { index } from './tokens.ts';

export type MethodRules = Pick<
  Method,
  'isIdempotent' | 'isReadonly' | 'timeoutMs' | 'cacheMs' | 'gather' | 'hedge' | 'majority'
>;

/** Maximum duration in an annotation: one day. */
export const DURATION_MS_MAX: number = 24 * 60 * 60 * 1000;

/**
 * Returns annotations by name. An annotation without a value is "true". Of repeated ones the last one counts, as in
 * Apache's compiler.
 */
export function readAnnotations(syntax: AnnotationSyntax | undefined): Annotations {
  if (syntax === undefined || syntax.annotations.length === 0) return NONE;
  const result = Object.create(null) as Record<string, string>;
  for (const { name, value } of syntax.annotations) result[name.value] = value?.value ?? 'true';
  return Object.freeze(result);
}

/** Returns the rules that the annotations of a method set. @throws KatamariError bad_request for an invalid value */
export function methodRules(file: IdlFile, syntax: AnnotationSyntax | undefined): MethodRules {
  let isIdempotent = false;
  let isReadonly = false;
  let timeoutMs = 0;
  let cacheMs = 0;
  let gather: Method['gather'];
  let hedge = 0;
  let majority: Method['majority'];
  for (const annotation of syntax?.annotations ?? []) {
    const name = annotation.name.value;
    if (!name.startsWith('katamari.')) continue;
    const at = index(annotation);
    const value = annotation.value?.value ?? 'true';
    if (name === 'katamari.idempotent') isIdempotent = flag(file, at, name, value);
    else if (name === 'katamari.readonly') isReadonly = flag(file, at, name, value);
    else if (name === 'katamari.timeout') timeoutMs = duration(file, at, name, value);
    else if (name === 'katamari.cache') cacheMs = duration(file, at, name, value);
    else if (name === 'katamari.gather') gather = gatherOf(file, at, value);
    else if (name === 'katamari.hedge') hedge = hedgeOf(file, at, value);
    else if (name === 'katamari.majority') majority = majorityOf(file, at, value);
    else throw idlFault(file, at, `unknown annotation ${quote(name)}${suggest(name, KNOWN)}`);
  }
  return { isIdempotent: isIdempotent || isReadonly, isReadonly, timeoutMs, cacheMs, gather, hedge, majority };
}

/** Checks the annotations of a field. @throws KatamariError bad_request for an unknown one or an invalid value */
export function checkFieldAnnotations(file: IdlFile, syntax: AnnotationSyntax | undefined): void {
  for (const annotation of syntax?.annotations ?? []) {
    const name = annotation.name.value;
    if (!name.startsWith('katamari.')) continue;
    const at = index(annotation);
    const value = annotation.value?.value ?? 'true';
    if (name === 'katamari.secret') flag(file, at, name, value);
    else if (name !== 'katamari.diff') {
      const hint = KNOWN.includes(name) ? ', it belongs to a method' : suggest(name, KNOWN_OF_FIELDS);
      throw idlFault(file, at, `unknown annotation ${quote(name)} of a field${hint}`);
    } else if (value !== 'ignore') throw idlFault(file, at, `${name} is ${quote(value)}, write "ignore"`);
  }
}

const NONE: Annotations = Object.freeze(Object.create(null) as Record<string, string>);
const KNOWN = [
  'katamari.idempotent',
  'katamari.readonly',
  'katamari.timeout',
  'katamari.cache',
  'katamari.gather',
  'katamari.hedge',
  'katamari.majority',
];
/** In the order of the canonical text. */
export const KNOWN_OF_FIELDS: readonly string[] = ['katamari.diff', 'katamari.secret'];
const UNIT_MS: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
]);

function flag(file: IdlFile, at: number, name: string, value: string): boolean {
  if (value === 'true') return true;
  if (value === 'false') return false;
  throw idlFault(file, at, `${name} is ${quote(value)}, write "true" or "false"`);
}

function duration(file: IdlFile, at: number, name: string, value: string): number {
  const [, amount, unit] = /^(\d{1,12}(?:\.\d{1,6})?) ?(ms|s|m|h)$/.exec(value) ?? [];
  const ms = Math.round(Number(amount) * (UNIT_MS.get(unit ?? '') ?? Number.NaN));
  if (ms >= 1 && ms <= DURATION_MS_MAX) return ms;
  throw idlFault(file, at, `${name} is ${quote(value)}, write a duration from 1ms to 24h: "250ms", "2s", "1.5m", "1h"`);
}

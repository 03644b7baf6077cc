// The patterns of the access policy: who a caller is, and what it calls.

import { validRange } from 'semver';
import { isProved, type CallerIdentity } from '../../core/rpc/mod.ts';
import { isVersionMatch, type AccessTarget } from '../mesh/mod.ts';
import { z } from 'zod';

export type Glob = (text: string) => boolean;

export type Who =
  /** An authenticated caller with exactly this name. */
  | { readonly kind: 'exact'; readonly text: string }
  /** An authenticated caller whose name matches, by one way of proof or any. */
  | { readonly kind: 'name'; readonly text: string; readonly how: CallerIdentity['how'] | ''; readonly matches: Glob }
  | { readonly kind: 'role'; readonly text: string; readonly matches: Glob }
  | { readonly kind: 'anonymous' | 'chassis'; readonly text: string };

export interface Target {
  /** The service without a pattern; '' for a pattern. */
  readonly exactService: string;
  readonly service: Glob;
  /** A range as `isVersionMatch` reads it; '' for every version. */
  readonly versions: string;
  readonly method: Glob;
}

export function isOneOf(members: readonly Who[], identity: CallerIdentity, roles: ReadonlySet<string>): boolean {
  const hasName = isProved(identity);
  return members.some((who) => {
    switch (who.kind) {
      case 'anonymous':
      case 'chassis':
        return identity.how === who.kind;
      case 'exact':
        return hasName && identity.name === who.text;
      case 'name':
        return hasName && (who.how === '' || who.how === identity.how) && who.matches(identity.name);
      case 'role':
        return [...roles].some(who.matches);
    }
    return false;
  });
}

/** Parses `alice`, `billing-*`, `role:support`, `jwt:alice`, `spiffe://example.org/*`, `anonymous` or `chassis`. */
export function whoOf(text: string): Who | Error {
  if (text === 'anonymous' || text === 'chassis') return { kind: text, text };
  const [, prefix = '', rest = ''] = /^(role|mtls|token|jwt):(.*)$/s.exec(text) ?? [];
  const name = prefix === '' ? text : rest;
  if (name === '') return new Error(`found ${JSON.stringify(text)}, expected a name after the colon`);
  if (prefix === 'role') return { kind: 'role', text: name, matches: globOf(name) };
  if (prefix === '' && !name.includes('*')) return { kind: 'exact', text: name };
  return { kind: 'name', text: name, how: prefix as CallerIdentity['how'] | '', matches: globOf(name) };
}

/** Parses `Service.method`, `Service@range.method` or `*`; service and method may contain `*`. */
export function targetOf(text: string): Target | Error {
  if (text === '*') return { exactService: '', service: () => true, versions: '', method: () => true };
  const dot = text.lastIndexOf('.');
  const [, service = '', at, versions = ''] = /^([^@]*)(@(.*))?$/s.exec(text.slice(0, Math.max(0, dot))) ?? [];
  const method = text.slice(dot + 1);
  if (dot < 0 || !SERVICE.test(service) || !METHOD.test(method)) {
    return new Error(
      `found ${JSON.stringify(text)}, expected Service.method or Service@range.method, such as "Orders.*" or "Orders@^1.0.0.get*"`,
    );
  }
  if (at !== undefined && (versions === '' || (validRange(versions) === null && !VERSION.test(versions)))) {
    return new Error(`found ${JSON.stringify(text)}, expected a version or a SemVer range between @ and the last dot`);
  }
  const exactService = service.includes('*') ? '' : service;
  return { exactService, service: globOf(service), versions, method: globOf(method) };
}

/** Whether a pattern includes a method of a version of a service. */
export function isTargetOf(pattern: Target, { service, version, method }: AccessTarget): boolean {
  return pattern.service(service) && pattern.method(method) && isVersionMatch(version, pattern.versions);
}

/** Returns a test for a text with `*` for any characters. It takes linear time, whatever the pattern is. */
export function globOf(pattern: string): Glob {
  if (pattern === '*') return () => true;
  const [first = '', ...rest] = pattern.split('*');
  if (rest.length === 0) return (text) => text === pattern;
  const last = rest.pop() as string;
  return (text) => {
    if (!text.startsWith(first)) return false;
    let at = first.length;
    for (const part of rest) {
      const found = text.indexOf(part, at);
      if (found < 0) return false;
      at = found + part.length;
    }
    return text.length - at >= last.length && text.endsWith(last);
  };
}

/** A name or pattern in the document. */
export const one: z.ZodString = z
  .string('expected text; put it in quotes')
  .min(1, 'expected text')
  .max(1_000, 'expected at most 1,000 characters');
/** One text or a list of texts. */
export const many: z.ZodType<readonly string[]> = z.union(
  [one.transform((text) => [text]), z.array(one).min(1).max(10_000)],
  {
    error: 'expected one name or a list of names',
  },
);
const SERVICE = /^[A-Za-z_*][\w.*]*$/;
const METHOD = /^[A-Za-z_*][\w*]*$/;
/** A version that SemVer does not know, such as 1.0, which is matched as it is. */
const VERSION = /^\d[\w.+-]*$/;

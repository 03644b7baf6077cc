// The access policy: which callers may call which methods. Its document is YAML for people; `compilePolicy` checks it
// and returns a form that decides fast. A policy only allows: what no rule allows is denied. docs/access.md describes
// the document.
//
// A decision has two halves. Who a caller is selects its rules, once for each identity; callers with equal rules share
// one `Rights` object. The rights then decide about targets. services/mesh/access-filter.ts caches both halves, so
// nothing here runs for a call whose decision is known.

import { isMap, isScalar, isSeq, LineCounter, parseDocument, type Node } from 'yaml';
import type { CallerIdentity } from '../../core/rpc/mod.ts';
import { isVersionMatch, type AccessPolicy, type AccessRights, type AccessTarget } from '../mesh/mod.ts';
import { validRange } from 'semver';
import { z } from 'zod';

/** The longest text of a policy in bytes. It is one value in Consul, where line breaks take two bytes. */
export const POLICY_BYTES_MAX = 393_216;

/** A compiled policy. */
export interface CompiledPolicy extends AccessPolicy {
  rightsOf(identity: CallerIdentity): CompiledRights;
  /** Whether a caller may read the stats port. */
  mayReadStats(identity: CallerIdentity): boolean;
  /** Number of rules. */
  readonly rules: number;
}

export interface CompiledRights extends AccessRights {
  /** The rules that allow a target, as `rules[2]` and its line; empty if it is denied. */
  why(target: AccessTarget): readonly string[];
  /** All rules that apply to the caller, in the same form. */
  readonly rules: readonly string[];
}

/**
 * Checks a policy and compiles it.
 * @returns an Error whose message has one line per problem: `line 4: rules[0].may: ...`
 */
export function compilePolicy(text: string): CompiledPolicy | Error {
  if (Buffer.byteLength(text) > POLICY_BYTES_MAX) {
    return new Error(
      `The policy has ${Buffer.byteLength(text)} bytes, limit is ${POLICY_BYTES_MAX}; use roles and * instead of long lists`,
    );
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const lineOf = (path: readonly PropertyKey[]): number => lineAt(document.contents, path, lines);
  const problems = document.errors.map(
    ({ pos, message }) => `line ${lines.linePos(pos[0]).line}: ${message.split('\n', 1)[0]}`,
  );
  if (problems.length > 0) return new Error(problems.slice(0, PROBLEMS_SHOWN_MAX).join('\n'));
  const parsed = DOCUMENT.safeParse(document.toJS({ mapAsMap: true, maxAliasCount: ALIASES_MAX }));
  if (!parsed.success) {
    const found = parsed.error.issues.map((issue) => {
      const unknown = issue.code === 'unrecognized_keys' ? `unknown key ${issue.keys.join(', ')}, ` : '';
      return `line ${lineOf(issue.path)}: ${shown(issue.path)}${unknown}${issue.message}`;
    });
    return new Error(found.slice(0, PROBLEMS_SHOWN_MAX).join('\n'));
  }
  return compile(parsed.data, lineOf);
}

function compile(document: PolicyDocument, lineOf: (path: readonly PropertyKey[]) => number): CompiledPolicy | Error {
  const problems: string[] = [];
  const parse = <T>(path: readonly PropertyKey[], texts: readonly string[], one: (text: string) => T | Error): T[] =>
    texts.flatMap((text, index) => {
      const result = one(text);
      if (!(result instanceof Error)) return [result];
      problems.push(`line ${lineOf([...path, index])}: ${shown(path)}${result.message}`);
      return [];
    });
  const groups = new Map([...document.roles].map(([role, members]) => [role, parse(['roles', role], members, whoOf)]));
  const rules = document.rules.map(({ who, may, poolRoles }, index) => ({
    name: `rules[${index}] (line ${lineOf(['rules', index])})`,
    who: parse(['rules', index, 'who'], who, whoOf),
    targets: parse(['rules', index, 'may'], may, targetOf),
    poolRoles: poolRoles.map(globOf),
  }));
  const stats = document.stats === undefined ? undefined : parse(['stats'], document.stats, whoOf);
  if (problems.length > 0) return new Error(problems.slice(0, PROBLEMS_SHOWN_MAX).join('\n'));
  return new Policy(groups, rules, stats);
}

class Policy implements CompiledPolicy {
  readonly rules: number;
  readonly #groups: ReadonlyMap<string, readonly Who[]>;
  readonly #rules: readonly Rule[];
  readonly #stats: readonly Who[] | undefined;
  /** Rules by an exact name in `who`, so that a thousand callers with a rule each cost no search. */
  readonly #byName = new Map<string, number[]>();
  /** Numbers of the rules that are not found by a name alone. */
  readonly #others: number[] = [];
  /** Rights by the numbers of their rules. Bounded by the sets of rules that callers have. */
  readonly #rights = new Map<string, Rights>();

  constructor(groups: ReadonlyMap<string, readonly Who[]>, rules: readonly Rule[], stats: readonly Who[] | undefined) {
    this.#groups = groups;
    this.#rules = rules;
    this.#stats = stats;
    this.rules = rules.length;
    rules.forEach(({ who }, index) => {
      if (!who.every(({ kind }) => kind === 'exact')) {
        this.#others.push(index);
        return;
      }
      for (const { text } of who) this.#byName.set(text, [...(this.#byName.get(text) ?? []), index]);
    });
  }

  rightsOf(identity: CallerIdentity): Rights {
    const roles = this.#rolesOf(identity);
    const named = isAuthenticated(identity) ? (this.#byName.get(identity.name) ?? []) : [];
    const matching = this.#others.filter((index) => isOneOf((this.#rules[index] as Rule).who, identity, roles));
    const numbers = [...new Set([...named, ...matching])].sort((a, b) => a - b);
    const key = numbers.join();
    let rights = this.#rights.get(key);
    if (rights === undefined) {
      if (this.#rights.size >= RIGHTS_MAX) this.#rights.clear();
      rights = new Rights(numbers.map((index) => this.#rules[index] as Rule));
      this.#rights.set(key, rights);
    }
    return rights;
  }

  mayReadStats(identity: CallerIdentity): boolean {
    return this.#stats === undefined || isOneOf(this.#stats, identity, this.#rolesOf(identity));
  }

  /** The roles that the caller brings, and those that the policy gives it. */
  #rolesOf(identity: CallerIdentity): ReadonlySet<string> {
    const roles = new Set(isAuthenticated(identity) ? identity.roles : []);
    for (const [role, members] of this.#groups) {
      // A member that is itself a role means the role that the caller brings, so that groups cannot form a circle.
      if (isOneOf(members, identity, new Set(identity.roles))) roles.add(role);
    }
    return roles;
  }
}

/** What the callers with one set of rules may call. */
class Rights implements CompiledRights {
  readonly #rules: readonly Rule[];
  /** Rules and targets by an exact service; '' has those of a pattern. */
  readonly #byService = new Map<string, { readonly rule: Rule; readonly target: Target }[]>();

  constructor(rules: readonly Rule[]) {
    this.#rules = rules;
    for (const rule of rules) {
      for (const target of rule.targets) {
        const service = target.exactService;
        const list = this.#byService.get(service) ?? [];
        if (list.length === 0) this.#byService.set(service, list);
        list.push({ rule, target });
      }
    }
  }

  get rules(): readonly string[] {
    return this.#rules.map(({ name }) => name);
  }

  mayCall(target: AccessTarget): boolean {
    return this.#find(target).next().done !== true;
  }

  mayName(service: string, method: string): boolean {
    const lists = service === '' ? [...this.#byService.values()] : this.#listsOf(service);
    return lists.some((list) =>
      list.some(({ target }) => (service === '' || target.service(service)) && target.method(method)),
    );
  }

  why(target: AccessTarget): readonly string[] {
    return [...new Set([...this.#find(target)].map(({ name }) => name))];
  }

  *#find({ service, version, method, poolRoles }: AccessTarget): Generator<Rule> {
    for (const list of this.#listsOf(service)) {
      for (const { rule, target } of list) {
        if (!target.service(service) || !target.method(method) || !isVersionMatch(version, target.versions)) continue;
        if (poolRoles.every((role) => rule.poolRoles.some((pattern) => pattern(role)))) yield rule;
      }
    }
  }

  #listsOf(service: string): { readonly rule: Rule; readonly target: Target }[][] {
    return [this.#byService.get(service) ?? [], this.#byService.get('') ?? []];
  }
}

type Glob = (text: string) => boolean;

interface Rule {
  /** `rules[0] (line 4)` */
  readonly name: string;
  readonly who: readonly Who[];
  readonly targets: readonly Target[];
  readonly poolRoles: readonly Glob[];
}

type Who =
  /** An authenticated caller with exactly this name. */
  | { readonly kind: 'exact'; readonly text: string }
  /** An authenticated caller whose name matches, by one way of proof or any. */
  | { readonly kind: 'name'; readonly text: string; readonly how: CallerIdentity['how'] | ''; readonly matches: Glob }
  | { readonly kind: 'role'; readonly text: string; readonly matches: Glob }
  | { readonly kind: 'anonymous' | 'chassis'; readonly text: string };

interface Target {
  /** The service without a pattern; '' for a pattern. */
  readonly exactService: string;
  readonly service: Glob;
  /** A range as `isVersionMatch` reads it; '' for every version. */
  readonly versions: string;
  readonly method: Glob;
}

/** Whether the name of a caller was proved. Only such a name is compared with the policy. */
function isAuthenticated({ how }: CallerIdentity): boolean {
  return how === 'mtls' || how === 'token' || how === 'jwt';
}

function isOneOf(members: readonly Who[], identity: CallerIdentity, roles: ReadonlySet<string>): boolean {
  const isProved = isAuthenticated(identity);
  return members.some((who) => {
    switch (who.kind) {
      case 'anonymous':
      case 'chassis':
        return identity.how === who.kind;
      case 'exact':
        return isProved && identity.name === who.text;
      case 'name':
        return isProved && (who.how === '' || who.how === identity.how) && who.matches(identity.name);
      case 'role':
        return [...roles].some(who.matches);
    }
    return false;
  });
}

/** Parses `alice`, `billing-*`, `role:support`, `jwt:alice`, `spiffe://example.org/*`, `anonymous` or `chassis`. */
function whoOf(text: string): Who | Error {
  if (text === 'anonymous' || text === 'chassis') return { kind: text, text };
  const [, prefix = '', rest = ''] = /^(role|mtls|token|jwt):(.*)$/s.exec(text) ?? [];
  const name = prefix === '' ? text : rest;
  if (name === '') return new Error(`found ${JSON.stringify(text)}, expected a name after the colon`);
  if (prefix === 'role') return { kind: 'role', text: name, matches: globOf(name) };
  if (prefix === '' && !name.includes('*')) return { kind: 'exact', text: name };
  return { kind: 'name', text: name, how: prefix as CallerIdentity['how'] | '', matches: globOf(name) };
}

/** Parses `Service.method`, `Service@range.method` or `*`; service and method may contain `*`. */
function targetOf(text: string): Target | Error {
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

/** Returns a test for a text with `*` for any characters. It takes linear time, whatever the pattern is. */
function globOf(pattern: string): Glob {
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

function lineAt(root: Node | null, path: readonly PropertyKey[], lines: LineCounter): number {
  let node: unknown = root;
  let offset = root?.range?.[0] ?? 0;
  for (const step of path) {
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && key.value === step);
      if (isScalar(pair?.key)) offset = pair.key.range?.[0] ?? offset;
      node = pair?.value;
    } else node = isSeq(node) ? node.items[Number(step)] : undefined;
    const range = (node as Node | null | undefined)?.range;
    if (isScalar(node) || !isMap(node)) offset = range?.[0] ?? offset;
    else if (range !== undefined && range !== null) offset = range[0];
  }
  return lines.linePos(offset).line;
}

function shown(path: readonly PropertyKey[]): string {
  const text = path.reduce<string>(
    (before, step) => (typeof step === 'number' ? `${before}[${step}]` : `${before}${before && '.'}${String(step)}`),
    '',
  );
  return text === '' ? '' : `${text}: `;
}

interface PolicyDocument {
  readonly roles: ReadonlyMap<string, readonly string[]>;
  readonly rules: readonly {
    readonly who: readonly string[];
    readonly may: readonly string[];
    readonly poolRoles: readonly string[];
  }[];
  readonly stats?: readonly string[] | undefined;
}

const one = z
  .string('expected text; put it in quotes')
  .min(1, 'expected text')
  .max(1_000, 'expected at most 1,000 characters');
/** One text or a list of texts. */
const many = z.union([one.transform((text) => [text]), z.array(one).min(1).max(10_000)], {
  error: 'expected one name or a list of names',
});
const fields = (value: unknown): unknown => (value instanceof Map ? Object.fromEntries(value) : value);
const DOCUMENT: z.ZodType<PolicyDocument> = z.preprocess(
  fields,
  z.strictObject(
    {
      roles: z.map(one, many, { error: 'expected a map of lists of callers' }).default(new Map()),
      rules: z
        .array(
          z.preprocess(
            fields,
            z.strictObject(
              { who: many, may: many, poolRoles: many.default([]) },
              { error: 'expected a map with who, may and, optionally, poolRoles' },
            ),
          ),
          { error: 'expected a list of rules; [] denies everything' },
        )
        .max(10_000),
      stats: many.optional(),
    },
    { error: 'expected a map with rules and, optionally, roles and stats' },
  ),
);

const SERVICE = /^[A-Za-z_*][\w.*]*$/;
const METHOD = /^[A-Za-z_*][\w*]*$/;
/** A version that SemVer does not know, such as 1.0, which is matched as it is. */
const VERSION = /^\d[\w.+-]*$/;
const PROBLEMS_SHOWN_MAX = 10;
const ALIASES_MAX = 100;
/** Sets of rules that are kept. Callers of more sets than that cost a little more when they are first seen. */
const RIGHTS_MAX = 100_000;

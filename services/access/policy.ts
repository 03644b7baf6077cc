// The access policy: which callers may call which methods. Its document is YAML for people; `compilePolicy` checks it
// and returns a form that decides fast. A policy only allows: what no rule allows is denied. docs/access.md describes
// the document.
//
// A decision has two halves. Who a caller is selects its rules, once for each identity; callers with equal rules share
// one `Rights` object. The rights then decide about targets. services/mesh/access-filter.ts caches both halves, so
// nothing here runs for a call whose decision is known.

import { isMap, isScalar, isSeq, LineCounter, parseDocument, type Node } from 'yaml';
import { isProved, type CallerIdentity } from '../../core/rpc/mod.ts';
import type { AccessPolicy, AccessRights, AccessTarget } from '../mesh/mod.ts';
import {
  globOf,
  many,
  one,
  isOneOf,
  isTargetOf,
  targetOf,
  whoOf,
  type Glob,
  type Target,
  type Who,
} from './patterns.ts';
import { quotaOf, QUOTA, type QuotaDocument, type QuotaRule } from './quota-rule.ts';
import { z } from 'zod';

/** The longest text of a policy in bytes. It is one value in Consul, where line breaks take two bytes. */
export const POLICY_BYTES_MAX = 393_216;

/** A compiled policy. */
export interface CompiledPolicy extends AccessPolicy {
  rightsOf(identity: CallerIdentity): CompiledRights;
  /** Whether a caller may read the stats port. */
  mayReadStats(identity: CallerIdentity): boolean;
  /** Number of rules; undefined if the document has only quotas, and every accepted caller may call everything. */
  readonly rules: number | undefined;
  /** All quotas, in the order of the document. */
  readonly quotas: readonly QuotaRule[];
  /** The quotas that apply to a call. */
  quotasOf(identity: CallerIdentity, target: AccessTarget): readonly QuotaRule[];
  /** Whether any quota applies to a caller. */
  hasQuota(identity: CallerIdentity): boolean;
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
  const rules = (document.rules ?? []).map(({ who, may, poolRoles }, index) => ({
    name: `rules[${index}] (line ${lineOf(['rules', index])})`,
    who: parse(['rules', index, 'who'], who, whoOf),
    targets: parse(['rules', index, 'may'], may, targetOf),
    poolRoles: poolRoles.map(globOf),
  }));
  const quotas = document.quotas.map((quota, index) => {
    const at = ['quotas', index];
    const where = `quotas[${index}] (line ${lineOf(at)})`;
    const who = quota.who === undefined ? undefined : parse([...at, 'who'], quota.who, whoOf);
    const rule = quotaOf(quota, where, who, parse([...at, 'calls'], quota.calls, targetOf));
    if (!(rule instanceof Error)) return [rule];
    problems.push(`line ${lineOf(at)}: ${shown(at)}${rule.message}`);
    return [];
  });
  const stats = document.stats === undefined ? undefined : parse(['stats'], document.stats, whoOf);
  const names = document.quotas.map(({ name }, index) => name ?? `quotas[${index}]`);
  names.forEach((name, index) => {
    if (names.indexOf(name) === index) return;
    problems.push(`line ${lineOf(['quotas', index])}: quotas[${index}].name: ${name} is the name of another quota`);
  });
  const ids = quotas.flat().map(({ id }) => id);
  ids.forEach((id, index) => {
    if (ids.indexOf(id) === index) return;
    problems.push(`line ${lineOf(['quotas', index])}: quotas[${index}] is equal to another quota; remove one`);
  });
  if (document.rules === undefined && document.quotas.length === 0) {
    problems.push('line 1: expected rules, quotas or both; "rules: []" denies every call');
  }
  if (problems.length > 0) return new Error(problems.slice(0, PROBLEMS_SHOWN_MAX).join('\n'));
  return new Policy(groups, document.rules === undefined ? undefined : rules, quotas.flat(), stats);
}

class Policy implements CompiledPolicy {
  readonly rules: number | undefined;
  readonly quotas: readonly QuotaRule[];
  readonly #groups: ReadonlyMap<string, readonly Who[]>;
  readonly #rules: readonly Rule[];
  readonly #stats: readonly Who[] | undefined;
  /** Rules by an exact name in `who`, so that a thousand callers with a rule each cost no search. */
  readonly #byName = new Map<string, number[]>();
  /** Numbers of the rules that are not found by a name alone. */
  readonly #others: number[] = [];
  /** Rights by the numbers of their rules. Bounded by the sets of rules that callers have. */
  readonly #rights = new Map<string, Rights>();

  constructor(
    groups: ReadonlyMap<string, readonly Who[]>,
    rules: readonly Rule[] | undefined,
    quotas: readonly QuotaRule[],
    stats: readonly Who[] | undefined,
  ) {
    this.#groups = groups;
    this.#rules = rules ?? [];
    this.#stats = stats;
    this.rules = rules?.length;
    this.quotas = quotas;
    this.#rules.forEach(({ who }, index) => {
      if (!who.every(({ kind }) => kind === 'exact')) {
        this.#others.push(index);
        return;
      }
      for (const { text } of who) this.#byName.set(text, [...(this.#byName.get(text) ?? []), index]);
    });
  }

  rightsOf(identity: CallerIdentity): Rights {
    const roles = this.#rolesOf(identity);
    const named = isProved(identity) ? (this.#byName.get(identity.name) ?? []) : [];
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

  quotasOf(identity: CallerIdentity, target: AccessTarget): readonly QuotaRule[] {
    const roles = this.#rolesOf(identity);
    return this.quotas.filter(
      (quota) => isFor(quota, identity, roles) && quota.targets.some((pattern) => isTargetOf(pattern, target)),
    );
  }

  hasQuota(identity: CallerIdentity): boolean {
    const roles = this.#rolesOf(identity);
    return this.quotas.some((quota) => isFor(quota, identity, roles));
  }

  /** The roles that the caller brings, and those that the policy gives it. */
  #rolesOf(identity: CallerIdentity): ReadonlySet<string> {
    const roles = new Set(isProved(identity) ? identity.roles : []);
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

  *#find(wanted: AccessTarget): Generator<Rule> {
    const { service, poolRoles } = wanted;
    for (const list of this.#listsOf(service)) {
      for (const { rule, target } of list) {
        if (!isTargetOf(target, wanted)) continue;
        if (poolRoles.every((role) => rule.poolRoles.some((pattern) => pattern(role)))) yield rule;
      }
    }
  }

  #listsOf(service: string): { readonly rule: Rule; readonly target: Target }[][] {
    return [this.#byService.get(service) ?? [], this.#byService.get('') ?? []];
  }
}

function isFor({ who }: QuotaRule, identity: CallerIdentity, roles: ReadonlySet<string>): boolean {
  return who === undefined || isOneOf(who, identity, roles);
}

interface Rule {
  /** `rules[0] (line 4)` */
  readonly name: string;
  readonly who: readonly Who[];
  readonly targets: readonly Target[];
  readonly poolRoles: readonly Glob[];
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
  readonly rules?:
    | readonly {
        readonly who: readonly string[];
        readonly may: readonly string[];
        readonly poolRoles: readonly string[];
      }[]
    | undefined;
  readonly quotas: readonly QuotaDocument[];
  readonly stats?: readonly string[] | undefined;
}

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
        .max(10_000)
        .optional(),
      quotas: z.array(z.preprocess(fields, QUOTA), { error: 'expected a list of quotas' }).max(1_000).default([]),
      stats: many.optional(),
    },
    { error: 'expected a map with rules or quotas and, optionally, roles and stats' },
  ),
);

const PROBLEMS_SHOWN_MAX = 10;
const ALIASES_MAX = 100;
/** Sets of rules that are kept. Callers of more sets than that cost a little more when they are first seen. */
const RIGHTS_MAX = 100_000;

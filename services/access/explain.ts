// Says whether a caller may call a method, and why: for `katamari access explain`.

import { identityOf, type CallerIdentity, type CallerProof, type PoolDetails } from '../../core/rpc/mod.ts';
import type { AccessTarget } from '../mesh/mod.ts';
import type { CompiledPolicy } from './policy.ts';
import type { PolicyStore } from './policy-store.ts';
import { describeQuota } from './quota-rule.ts';

export interface ExplainedCaller {
  /** A name, `anonymous` or `chassis`; `mtls:`, `token:` or `jwt:` before it says how it is proved. */
  readonly caller: string;
  /** Roles that its token brings. */
  readonly roles: readonly string[];
  /** `Service.method` or `Service@version.method`. */
  readonly target: string;
  /** Roles of the pool that the call requests. */
  readonly poolRoles: readonly string[];
}

export interface Explanation {
  readonly isAllowed: boolean;
  readonly why: string;
}

/** @param pools details of the pools that run, whose versions are tried for a target without one */
export function explainAccess(
  { policy, record, isBroken }: PolicyStore,
  asked: ExplainedCaller,
  pools: readonly PoolDetails[],
): Explanation | Error {
  const target = /^([^@]+?)(?:@(.+))?\.([^.]+)$/.exec(asked.target);
  if (target === null) return new Error(`found "${asked.target}", expected Service.method or Service@version.method`);
  const [, service = '', version, method = ''] = target;
  if (isBroken) return { isAllowed: false, why: 'the policy on disk cannot be read, so every call is denied' };
  if (policy === undefined) {
    return { isAllowed: true, why: 'there is no policy; every accepted caller may call everything' };
  }
  const identity = callerOf(asked);
  const { poolRoles } = asked;
  const running = pools.filter((pool) => pool.service === service).map((pool) => pool.version);
  const versions = version === undefined ? [...new Set(running)] : [version];
  const targets = versions.map((one) => ({ service, version: one, method, poolRoles }));
  const access = explainRules(policy, record?.version ?? 0, identity, { ...asked, service, method }, targets);
  if (!access.isAllowed) return access;
  const quotas = targets.flatMap((one) => policy.quotasOf(identity, one));
  const limits = [...new Set(quotas)].map((quota) => `; ${quota.where} limits it to ${describeQuota(quota)}`);
  return { isAllowed: true, why: `${access.why}${limits.join('')}` };
}

function explainRules(
  policy: CompiledPolicy,
  documentVersion: number,
  identity: CallerIdentity,
  asked: ExplainedCaller & { readonly service: string; readonly method: string },
  targets: readonly AccessTarget[],
): Explanation {
  const { service, method, poolRoles } = asked;
  const number = `version ${documentVersion} of the policy`;
  if (policy.rules === undefined) return { isAllowed: true, why: `${number} has no rules, so it allows everything` };
  const rights = policy.rightsOf(identity);
  const found = targets.map((target) => ({ name: `${service}@${target.version}`, rules: rights.why(target) }));
  const allowed = found.filter(({ rules }) => rules.length > 0);
  if (allowed.length > 0) {
    const by = allowed.map(({ name, rules }) => `${name} by ${rules.join(', ')}`).join('; ');
    const denied = found.filter(({ rules }) => rules.length === 0).map(({ name }) => name);
    const rest = denied.length === 0 ? '' : `; no rule allows ${denied.join(', ')}`;
    return { isAllowed: true, why: `${number} allows ${by}${rest}` };
  }
  if (targets.length === 0 && rights.mayName(service, method)) {
    return { isAllowed: true, why: `${number} allows it for some version, but no version of ${service} runs` };
  }
  const { rules } = rights;
  const own =
    rules.length === 0
      ? 'no rule names this caller'
      : `the rules for this caller are ${rules.slice(0, RULES_SHOWN_MAX).join(', ')}`;
  const inPools = poolRoles.length === 0 ? '' : ` in pools with the roles ${poolRoles.join(', ')}`;
  return { isAllowed: false, why: `${number} has no rule that allows ${asked.target}${inPools}; ${own}` };
}

function callerOf({ caller, roles }: ExplainedCaller): CallerIdentity {
  if (caller === 'anonymous' || caller === 'chassis') return identityOf(caller, caller);
  const [, how = 'jwt', name = caller] = /^(mtls|token|jwt):(.*)$/s.exec(caller) ?? [];
  return identityOf(name, how as CallerProof, roles);
}

const RULES_SHOWN_MAX = 20;

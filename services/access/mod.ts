// Exports of services/access; other modules import only from here.

export {
  type AnonymousCallers,
  type CallerToken,
  lookupOf,
  TokenAuthenticator,
  type TokenLookup,
} from './authenticator.ts';
export { Denials } from './denials.ts';
export { explainAccess, type ExplainedCaller, type Explanation } from './explain.ts';
export { JWT_ALGORITHMS, type JwtOptions, jwtVerifier } from './jwt.ts';
export { compilePolicy, type CompiledPolicy } from './policy.ts';
export { policyFileIn, PolicyStore, readPolicyFile, sizeOf } from './policy-store.ts';
export { Quotas, type QuotaLimit, type QuotaSource } from './quotas.ts';
export type { QuotaRule } from './quota-rule.ts';

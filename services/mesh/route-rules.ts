// Decides which rule of a route applies to a call.

import { ANONYMOUS, type PoolQuery } from '../../core/rpc/mod.ts';
import type { RouteRule } from './route.ts';
import { pointOf } from './version-split.ts';

/** Whether all conditions of a rule hold for a call. @param salt that of the sticky keys of the service */
export function ruleApplies(rule: RouteRule, query: PoolQuery, salt: string): boolean {
  const { callers, roles, headers, tags, methods, keys, share } = rule;
  const { identity = ANONYMOUS, key } = query;
  if (methods !== undefined && !methods.includes(query.method)) return false;
  if (tags !== undefined && !tags.some((tag) => query.tags.includes(tag))) return false;
  if (callers !== undefined && !callers.some((pattern) => isNamed(identity.name, pattern))) return false;
  if (roles !== undefined && !roles.some((role) => identity.roles.includes(role))) return false;
  if (keys !== undefined && !keys.includes(key)) return false;
  if (share !== undefined && (key === '' || pointOf(`${salt}\n${rule.name}`, key) * 100 >= share)) return false;
  if (headers === undefined) return true;
  return Object.entries(headers).every(([name, wanted]) => {
    const value = headerOf(query.headers, name);
    return value !== undefined && (wanted === '*' || value === wanted);
  });
}

function isNamed(name: string, pattern: string): boolean {
  return pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}

/** The value of a header in any spelling of its name. @param name in lower case */
function headerOf(headers: PoolQuery['headers'] = {}, name: string): string | undefined {
  const own = Object.hasOwn(headers, name) ? name : Object.keys(headers).find((one) => one.toLowerCase() === name);
  const value = own === undefined ? undefined : headers[own];
  return typeof value === 'object' ? value.join(', ') : value;
}

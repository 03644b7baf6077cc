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
  if (keys !== undefined && !hasItem(keys, key)) return false;
  if (share !== undefined && (key === '' || pointOf(`${salt}\n${rule.name}`, key) * 100 >= share)) return false;
  if (headers === undefined) return true;
  return Object.entries(headers).every(([name, wanted]) => {
    const value = headerOf(query.headers, name);
    return value !== undefined && (wanted === '*' || value === wanted);
  });
}

/** The condition of a rule that does not hold for a call, for people; '' if all hold. */
export function whyRuleDiffers(rule: RouteRule, query: PoolQuery, salt: string): string {
  const { callers, roles, headers = {}, tags, methods, keys, share } = rule;
  const { identity = ANONYMOUS, key, method } = query;
  const only = (conditions: Partial<RouteRule>): boolean =>
    ruleApplies({ name: rule.name, to: rule.to, ...conditions }, query, salt);
  if (methods !== undefined && !only({ methods })) return `its method is ${method || 'unknown'}, not ${or(methods)}`;
  if (tags !== undefined && !only({ tags })) return `it does not have the tag ${or(tags)}`;
  if (callers !== undefined && !only({ callers })) return `its caller is ${identity.name}, not ${or(callers)}`;
  if (roles !== undefined && !only({ roles })) return `its caller does not have the role ${or(roles)}`;
  if (keys !== undefined && !only({ keys })) return key === '' ? 'it has no key' : `its key is ${key}, not ${or(keys)}`;
  if (share !== undefined && !only({ share }))
    return key === '' ? 'it has no key' : `its key is not one of the ${share} % that the rule takes`;
  for (const [name, value] of Object.entries(headers)) {
    if (only({ headers: { [name]: value } })) continue;
    const found = headerOf(query.headers, name);
    return found === undefined ? `it does not have the header ${name}` : `its header ${name} is ${found}, not ${value}`;
  }
  return '';
}

/** Whether a list has an item. A rule may have thousands of keys, and this runs for every call. */
function hasItem(list: readonly string[], item: string): boolean {
  if (list.length <= SHORT_LIST) return list.includes(item);
  let items = ITEMS.get(list);
  if (items === undefined) ITEMS.set(list, (items = new Set(list)));
  return items.has(item);
}

/** At most five of them. */
function or(items: readonly string[]): string {
  return items.length > 5 ? `${items.slice(0, 5).join(', ')} or one of ${items.length - 5} more` : items.join(' or ');
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

const SHORT_LIST = 8;
/** The items of long lists of routes in use. */
const ITEMS = new WeakMap<readonly string[], ReadonlySet<string>>();

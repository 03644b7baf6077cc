// Checks a route before it is written: its form, and that its versions exist, so that a misspelled one takes no calls
// from the others.

import { refused } from './admin-guard.ts';

/** @throws ThriftException AdminRefused for a route that no service can have */
export function checkRoute(service: string, weights: Readonly<Record<string, number>>): void {
  // The name becomes part of a Consul key.
  if (!/^[A-Za-z_][\w.]{0,199}$/.test(service))
    throw refused('invalid', `"${service}" cannot be the name of a service, expected one such as Calculator`);
  const shares = Object.entries(weights);
  if (shares.length > VERSIONS_MAX)
    throw refused('invalid', `the route has ${shares.length} versions, limit is ${VERSIONS_MAX}`);
  const wrong = shares.find(([, share]) => share < 0);
  if (wrong !== undefined)
    throw refused('invalid', `the weight of version ${wrong[0]} is ${wrong[1]}, expected 0 or more`);
  if (shares.length > 0 && shares.every(([, share]) => share === 0))
    throw refused(
      'invalid',
      `the weights of ${service} are all 0, expected one above 0. Without weights, versions share the calls by their number of resources`,
    );
}

/** What a service has in the mesh. */
export interface KnownVersions {
  readonly versions: readonly string[];
  readonly isIndex: boolean;
}

/**
 * Checks that the versions of a route exist. A name that has none yet may have any route, because it may be written
 * before the first deployment.
 * @throws ThriftException AdminRefused that names the versions
 */
export function checkRouteVersions(
  service: string,
  weights: Readonly<Record<string, number>>,
  { versions, isIndex }: KnownVersions,
): void {
  const known = [...new Set(versions)].sort();
  const unknown = Object.keys(weights).filter((version) => !known.includes(version));
  if (unknown.length === 0 || known.length === 0) return;
  const [are, they] = unknown.length === 1 ? ['is', 'it'] : ['are', 'them'];
  const shown = known.length > NAMES_MAX ? [...known.slice(0, NAMES_MAX), '...'] : known;
  const [what, remedy] = isIndex ? ['index', `add ${they}`] : ['service', `deploy ${they}`];
  throw refused(
    'unknown_name',
    `${unknown.slice(0, NAMES_MAX).join(', ')} ${are} no ${unknown.length === 1 ? 'version' : 'versions'} of the ${what} ${service}, ` +
      `which has ${shown.join(', ')}; ${remedy} first, or force the route (--force) to write it before`,
  );
}

/** Limit of versions in one route. */
const VERSIONS_MAX = 1_000;
/** Versions in one message. */
const NAMES_MAX = 20;

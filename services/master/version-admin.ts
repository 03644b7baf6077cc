// The methods of the admin service about versions side by side, in the shapes of idl/versions.thrift.

import type { ObservedVersions, Route, Routes } from '../mesh/mod.ts';
import { inSlices } from '../verdict/mod.ts';
import { refused, type AdminMethod, type TokenArgs } from './admin-guard.ts';
import { compareVersions, type ComparedVersions } from './compare-versions.ts';

export interface VersionActions {
  readonly routes: () => Routes;
  /** What all processes have counted of a service. */
  readonly observe: (service: string) => Promise<ObservedVersions>;
  /** The versions of a service that run, or that managers are to run, as far as this process knows. */
  readonly versionsOf: (service: string) => readonly string[];
}

interface CompareArgs extends TokenArgs {
  readonly serviceName: string;
  readonly first: string;
  readonly second: string;
}

export function versionMethods({ routes, observe, versionsOf }: VersionActions): Readonly<Record<string, AdminMethod>> {
  return {
    compareVersions: {
      scope: 'read',
      act: async ({ serviceName, first, second }: CompareArgs) => {
        const versions = [...new Set(versionsOf(serviceName))].sort();
        const route = routes().get(serviceName);
        if (versions.length === 0 && route === undefined)
          throw refused('unknown_name', `No service ${serviceName} is deployed`);
        const compared = chooseVersions(serviceName, [first, second], route, versions);
        return await compareChosen(compared, await observe(serviceName));
      },
    },
  };
}

/** Returns a struct VersionComparison. Calls go on meanwhile. */
export function compareChosen(compared: ComparedVersions, observed: ObservedVersions): Promise<unknown> {
  return inSlices(compareVersions(compared, observed));
}

/**
 * Chooses the two versions of a service that are compared.
 * @param versions those that exist
 * @throws ThriftException AdminRefused when there are no two such versions
 */
export function chooseVersions(
  service: string,
  [first, second]: readonly [string, string],
  route: Route | undefined,
  versions: readonly string[],
): ComparedVersions {
  if (route === undefined || Object.keys(route.weights).length === 0) {
    throw refused(
      'invalid',
      `${service} has no route with weights, and only calls that weights have led are compared; ` +
        `set one first, such as: katamari route ${service} ${versions[0] ?? '1.0.0'}=90 ${versions[1] ?? '2.0.0'}=10`,
    );
  }
  const weighted = Object.keys(route.weights);
  const known = [...new Set([...weighted, ...versions])];
  const unknown = [first, second].find((version) => version !== '' && !known.includes(version));
  if (unknown !== undefined)
    throw refused('unknown_name', `${service} has no version ${unknown}; it has ${known.join(', ')}`);
  const byWeight = weighted
    .filter((version) => version !== first && version !== second)
    .sort((a, b) => (route.weights[b] ?? 0) - (route.weights[a] ?? 0));
  const one = first === '' ? byWeight.shift() : first;
  const other = second === '' ? byWeight.shift() : second;
  if (one === undefined || other === undefined || one === other)
    throw refused(
      'invalid',
      `${service} has no two versions with weights to compare: its route has ${weighted.join(', ')}`,
    );
  return { serviceName: service, first: one, second: other, splitIndex: route.splitIndex ?? 0 };
}

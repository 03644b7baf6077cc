// How commands name parts of a mesh: `Service`, `Service@version`, `Service@version/index`, `manager:Service@version/index`; and what they
// say when nothing has such a name.

import type { MeshStatus } from '../../../core/rpc/mod.ts';
import { ExitError, EXIT, didYouMean } from '../../config/mod.ts';
import { printable } from './terminal.ts';

/** '' for what was not said. With a resource, the others are ''. */
export interface TargetName {
  readonly service: string;
  readonly version: string;
  readonly resource: string;
}

export function parseTargetName(target: string): TargetName {
  if (target.includes('/')) return { service: '', version: '', resource: target };
  const at = target.indexOf('@');
  return at < 0
    ? { service: target, version: '', resource: '' }
    : { service: target.slice(0, at), version: target.slice(at + 1), resource: '' };
}

/** For commands that are about exactly one version. @throws CliError usage */
export function parseVersion(target: string): TargetName {
  const subject = parseTargetName(target);
  if (subject.resource === '' && subject.service !== '' && subject.version !== '') return subject;
  throw new ExitError(EXIT.usage, `Found ${JSON.stringify(target)}, expected Service@version such as Calculator@1.0.0`);
}

/** @param names of what there is */
export function unknownTarget(target: string, names: readonly string[]): ExitError {
  const there = [...new Set(names)].map(printable);
  const some = there.length > NAMES_MAX ? [...there.slice(0, NAMES_MAX), '...'] : there;
  const hint =
    didYouMean(target, names) || (there.length === 0 ? '; there are no pools' : `; there are ${some.join(', ')}`);
  return new ExitError(EXIT.failed, `Nothing in this mesh is called ${JSON.stringify(target)}${hint}`);
}

export function poolNames({ pools }: MeshStatus): string[] {
  return pools.flatMap(({ service, version }) => [service, `${service}@${version}`]);
}

const NAMES_MAX = 20;

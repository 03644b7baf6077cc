// How commands name parts of a mesh: `Service`, `Service@version`, `Service@version/index`, `manager:Service@version/index`; and what they
// say when nothing has such a name.

import type { MeshStatus } from '../../../core/rpc/mod.ts';
import { CliError, EXIT, didYouMean } from '../../config/mod.ts';
import { printable } from './terminal.ts';

/** '' for what was not said. With a resource, the others are ''. */
export interface Subject {
  readonly service: string;
  readonly version: string;
  readonly resource: string;
}

export function parseSubject(target: string): Subject {
  if (target.includes('/')) return { service: '', version: '', resource: target };
  const at = target.indexOf('@');
  return at < 0
    ? { service: target, version: '', resource: '' }
    : { service: target.slice(0, at), version: target.slice(at + 1), resource: '' };
}

/** For commands that are about exactly one version. @throws CliError usage */
export function parseVersion(target: string): Subject {
  const subject = parseSubject(target);
  if (subject.resource === '' && subject.service !== '' && subject.version !== '') return subject;
  throw new CliError(EXIT.usage, `Found ${JSON.stringify(target)}, expected Service@version such as Calculator@1.0.0`);
}

/** @param names of what there is */
export function unknownSubject(target: string, names: readonly string[]): CliError {
  const there = [...new Set(names)].map(printable);
  const some = there.length > NAMES_MAX ? [...there.slice(0, NAMES_MAX), '...'] : there;
  const hint =
    didYouMean(target, names) || (there.length === 0 ? '; there are no pools' : `; there are ${some.join(', ')}`);
  return new CliError(EXIT.failed, `Nothing in this mesh is called ${JSON.stringify(target)}${hint}`);
}

export function poolNames({ pools }: MeshStatus): string[] {
  return pools.flatMap(({ service, version }) => [service, `${service}@${version}`]);
}

const NAMES_MAX = 20;

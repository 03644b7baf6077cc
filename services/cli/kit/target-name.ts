// Parses the names that commands accept: `Service`, `Service@version`, `Service@version/index` and
// `manager:Service@version/index`. Creates the error for an unknown name.

import type { MeshStatus } from '../../../core/rpc/mod.ts';
import { ExitError, EXIT, didYouMean } from '../../config/mod.ts';
import { printable } from './terminal.ts';

/** Parts that are not given are ''. If `resource` is given, `service` and `version` are ''. */
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

/** Parses a name that must have a version. @throws ExitError with exit code `usage` */
export function parseVersion(target: string): TargetName {
  const parsed = parseTargetName(target);
  if (parsed.resource === '' && parsed.service !== '' && parsed.version !== '') return parsed;
  throw new ExitError(EXIT.usage, `Found ${JSON.stringify(target)}, expected Service@version such as Calculator@1.0.0`);
}

/**
 * Returns the error for an unknown name, with a suggestion.
 *
 * @param names the names that exist
 */
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

// Whether a version satisfies the version that a call or a command asks for.

import { satisfies, validRange } from 'semver';

/** Whether a text is an exact version, a SemVer range, or '' for any version. */
export function isVersionRange(text: string): boolean {
  return text === '' || validRange(text) !== null;
}

/** @param requested the exact version, a SemVer range, or '' for any version */
export function isVersionMatch(version: string, requested: string): boolean {
  if (requested === '' || requested === version) return true;
  return validRange(requested) !== null && satisfies(version, requested);
}

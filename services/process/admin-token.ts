// The root tokens of the admin service: from the configuration, or from the token file, which has one, or two during
// a rotation. The first start creates the file. A change of the file is in use at once.

import { ensureSecretFile, readSecretFile, type Config } from '../config/mod.ts';
import type { CredentialFiles } from './credential-files.ts';

/**
 * Returns a function that returns the root tokens; the first is the one to use.
 * @throws ExitError when the file is unsafe
 */
export function openAdminTokens({ admin }: Config, credentials: CredentialFiles): () => readonly [string, ...string[]] {
  if (admin.token !== '') {
    const fixed: [string] = [admin.token];
    return () => fixed;
  }
  let tokens = ensureSecretFile('admin.tokenFile', admin.tokenFile);
  const load = (): void => void (tokens = readSecretFile('admin.tokenFile', admin.tokenFile));
  credentials.add({ name: 'admin', files: [admin.tokenFile], load });
  return () => tokens;
}

// The token of the admin service: from the configuration, or from the token file. The first start creates that file,
// readable by its owner only.

import { ensureSecretFile, type Config } from '../config/mod.ts';

/** Returns the admin token; creates it if there is none. @throws ExitError when its file is unsafe */
export function ensureAdminToken({ admin }: Config): string {
  return admin.token === '' ? ensureSecretFile('admin.tokenFile', admin.tokenFile)[0] : admin.token;
}

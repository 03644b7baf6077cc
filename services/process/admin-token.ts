// The token of the admin service: from the configuration, or from the token file. The first start creates that file,
// readable by its owner only.

import { randomBytes } from 'node:crypto';
import type { Config } from '../config/mod.ts';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/** Returns the admin token; creates it, and the folder of its file, if there is none. */
export function ensureAdminToken({ admin }: Config): string {
  if (admin.token !== '') return admin.token;
  if (existsSync(admin.tokenFile)) {
    const found = readFileSync(admin.tokenFile, 'utf8').trim();
    if (found !== '') return found;
  }
  const token = randomBytes(24).toString('base64url');
  mkdirSync(path.dirname(admin.tokenFile), { recursive: true, mode: 0o700 });
  writeFileSync(admin.tokenFile, `${token}\n`, { mode: 0o600 });
  return token;
}

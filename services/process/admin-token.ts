// The token that guards the admin service: the configuration's, or the one in its file, made at the first start and
// readable for this user alone.

import { randomBytes } from 'node:crypto';
import type { Config } from '../config/mod.ts';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

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

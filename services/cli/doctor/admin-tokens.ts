// Checks of admin tokens that the running mesh knows: tokens without an end, and tokens whose scopes nobody uses. What
// a token was used for is in the audit log.

import { auditFiles, linesOf } from '../../audit/mod.ts';
import type { AdminScope, KnownToken } from '../../mesh/mod.ts';
import { ok, warn, type Finding } from './finding.ts';
import { listed } from './isolation.ts';

/** What the audit log tells about tokens. */
export interface TokenUses {
  /** Unix time in ms of the oldest line; earlier uses are not known. */
  readonly sinceMs: number;
  /** Scopes that the owner of a token needed for changes. Reading leaves no line. */
  readonly scopes: ReadonlyMap<string, ReadonlySet<AdminScope>>;
}

/** @param uses undefined if other processes also take changes, so that this log does not tell all of them */
export function checkAdminTokens(tokens: readonly KnownToken[], uses: TokenUses | undefined, nowMs: number): Finding[] {
  const subject = 'admin tokens';
  const valid = tokens.filter(({ expiresAtMs }) => expiresAtMs === undefined || expiresAtMs > nowMs);
  const endless = valid.filter(({ expiresAtMs }) => expiresAtMs === undefined).map(({ name }) => name);
  const found: Finding[] = [];
  if (endless.length > 0) {
    const verb = endless.length === 1 ? 'has' : 'have';
    const text = `${listed(endless)} ${verb} no end: a stolen one works until somebody notices`;
    const advice = 'replace each: katamari token create NAME --scopes SCOPES --expires 90d, katamari token revoke OLD';
    found.push(warn(subject, text, advice));
  }
  for (const { name, scopes, createdAtMs } of uses === undefined ? [] : valid) {
    if (nowMs - createdAtMs < UNUSED_AFTER_MS || createdAtMs < (uses?.sinceMs ?? 0)) continue;
    const unused = scopes.filter((scope) => scope !== 'read' && uses?.scopes.get(name)?.has(scope) !== true);
    if (unused.length === 0) continue;
    const text = `${name} has never used its scope ${unused.join(', ')} in ${Math.floor((nowMs - createdAtMs) / DAY_MS)} days: a stolen token can do more than its owner needs`;
    const rest = scopes.filter((scope) => !unused.includes(scope)).join(',') || 'read';
    found.push(warn(subject, text, `replace it by one with --scopes ${rest}`));
  }
  if (found.length > 0) return found;
  return [ok(subject, valid.length === 0 ? 'none beside the root token' : `${valid.length}, each with an end`)];
}

/** Reads what tokens were used for from the audit log of this process. Rejects with the error of the system. */
export async function tokenUsesIn(folder: string): Promise<TokenUses> {
  let sinceMs = Number.POSITIVE_INFINITY;
  const scopes = new Map<string, Set<AdminScope>>();
  for (const file of await auditFiles(folder)) {
    for await (const { bytes } of linesOf(file)) {
      const { at, who, action } = parse(bytes.toString('utf8'));
      const atMs = Date.parse(String(at));
      if (atMs < sinceMs) sinceMs = atMs;
      const scope = SCOPES_OF_CHANGES.get(String(action));
      if (scope === undefined || typeof who !== 'string') continue;
      const used = scopes.get(who) ?? new Set();
      if (used.size === 0) scopes.set(who, used);
      used.add(scope);
    }
  }
  return { sinceMs, scopes };
}

function parse(text: string): Readonly<Record<string, unknown>> {
  try {
    return (JSON.parse(text) ?? {}) as Readonly<Record<string, unknown>>;
  } catch {
    // What a crash cut off.
    return {};
  }
}

/**
 * Methods of the admin services that need more than the scope `read`, as the audit log names them. A test compares them
 * with docs/audit.md.
 */
export const SCOPES_OF_CHANGES: ReadonlyMap<string, AdminScope> = new Map<string, AdminScope>([
  ['restart', 'operate'],
  ['scale', 'operate'],
  ['drain', 'operate'],
  ['undrain', 'operate'],
  ['setRoute', 'operate'],
  ['startRollout', 'operate'],
  ['changeRollout', 'operate'],
  ['undoRoute', 'operate'],
  ['getMirrors', 'operate'],
  ['setSettings', 'operate'],
  ['setIndexReplicas', 'operate'],
  ['pinIndex', 'operate'],
  ['promoteIndex', 'operate'],
  ['verifyIndex', 'operate'],
  ['deploy', 'deploy'],
  ['undeploy', 'deploy'],
  ['inspectSource', 'deploy'],
  ['planIndex', 'deploy'],
  ['addIndex', 'deploy'],
  ['removeIndex', 'deploy'],
  ['setAccessPolicy', 'deploy'],
  ['createToken', 'deploy'],
  ['revokeToken', 'deploy'],
]);
const DAY_MS = 86_400_000;
/** Age from which a scope that was never used is told. */
const UNUSED_AFTER_MS = 30 * DAY_MS;

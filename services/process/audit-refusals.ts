// What callers and peers are refused, as lines of the audit log.

import type { HttpAccess } from '../../core/http/mod.ts';
import type { CallerIdentity } from '../../core/rpc/mod.ts';
import type { AuditLog } from '../audit/mod.ts';
import { httpAccessOf, type Config } from '../config/mod.ts';
import type { DenialReason } from '../mesh/mod.ts';

/** The router does not know the address of the caller, so `from` tells how it proved its name. */
export function auditDenial(
  audit: AuditLog,
  { name, how }: CallerIdentity,
  subject: string,
  reason: DenialReason,
): void {
  const isProved = how === 'mtls' || how === 'token' || how === 'jwt';
  const from = isProved ? `${how}:${name}` : how;
  audit.refused({ code: 'denied_call', who: isProved ? name : '', from, action: 'call', subject, reason });
}

/** What HTTP ports accept. Requests that they refuse are audited. */
export function auditedAccess(config: Config, audit: AuditLog): HttpAccess {
  return {
    ...httpAccessOf(config),
    onRefused: ({ from, request: subject, why: reason }) =>
      audit.refused({ code: 'bad_origin', from, action: 'request', subject, reason }),
  };
}

/** @param subject the link, or the request to the embedded Consul */
export function auditBadToken(audit: AuditLog, from: string, subject: string, reason: string): void {
  audit.refused({ code: 'wrong_token', from, action: 'request', subject, reason });
}

export function auditBadPeer(audit: AuditLog, from: string, reason: string): void {
  audit.refused({ code: 'bad_peer', from: from === '' ? 'a local process' : from, action: 'link', reason });
}

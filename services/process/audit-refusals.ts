// What callers and peers are refused, as lines of the audit log.

import type { HttpAccess } from '../../core/http/mod.ts';
import { isProved, type CallerIdentity } from '../../core/rpc/mod.ts';
import type { AuditLog } from '../audit/mod.ts';
import { httpAccessOf, type Config } from '../config/mod.ts';
import type { DenialReason } from '../mesh/mod.ts';

/** The router does not know the address of the caller, so `from` tells how it proved its name. */
export function auditDenial(audit: AuditLog, identity: CallerIdentity, subject: string, reason: DenialReason): void {
  const { name, how } = identity;
  const [who, from] = isProved(identity) ? [name, `${how}:${name}`] : ['', how];
  audit.refused({ code: 'denied_call', who, from, action: 'call', subject, reason });
}

/** What HTTP ports accept. Requests that they refuse are audited. */
export function auditedAccess(config: Config, audit: AuditLog): HttpAccess {
  return {
    ...httpAccessOf(config),
    onRefused: ({ from, request: subject, why: reason }) =>
      audit.refused({ code: 'bad_origin', from, action: 'request', subject, reason }),
  };
}

/** @param subject what the token was for: a caller, or a request to the embedded Consul */
export function auditBadToken(audit: AuditLog, from: string, subject: string, reason: string): void {
  audit.refused({ code: 'wrong_token', from, action: 'request', subject, reason });
}

export function auditBadPeer(audit: AuditLog, from: string, reason: string): void {
  audit.refused({ code: 'bad_peer', from: from === '' ? 'a local process' : from, action: 'link', reason });
}

// Exports of services/audit; other modules import only from here.

export { verifyChain, type Verdict } from './chain.ts';
export type { AuditEntry } from './entry.ts';
export { auditFiles, linesOf, readHead } from './files.ts';
export { AuditLog, type RefusalCode } from './log.ts';
export { isSecretName, redactChange } from './redact.ts';
export { type LogCheck, verifyLog } from './verify.ts';

// The `katamari_audit_*` metrics.

import type { MetricFamily } from '../../faceplates/stats/mod.ts';
import type { AuditLog } from '../audit/mod.ts';

export function auditFamilies(audit: AuditLog): readonly MetricFamily[] {
  const { lines, lost, suppressed, failures, refusals } = audit.counts();
  const plain = (value: number): MetricFamily['samples'] => [{ labels: {}, value }];
  const byCode = [...refusals].map(([code, value]) => ({ labels: { code }, value }));
  return [
    counter('lines_total', 'Lines written to the audit log.', plain(lines)),
    counter('lines_lost_total', 'Entries of the audit log that could not be written.', plain(lost)),
    counter('lines_suppressed_total', 'Refusals without a line, because there were too many.', plain(suppressed)),
    counter('write_failures_total', 'Failed attempts to write the audit log.', plain(failures)),
    counter('refusals_total', 'Refusals by code: wrong tokens, missing scopes, denied calls.', byCode),
  ];
}

function counter(name: string, help: string, samples: MetricFamily['samples']): MetricFamily {
  return { name: `katamari_audit_${name}`, type: 'counter', help, samples };
}

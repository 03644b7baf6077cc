// Reports documents in Consul whose signature is missing or wrong to the audit log: each version of each document once,
// although it is read again and again.

import { createHash } from 'node:crypto';
import type { AuditLog } from '../audit/mod.ts';
import type { DocumentSigner } from '../consul/mod.ts';
import { LRUCache } from 'lru-cache';

/** Returns a signer that also reports what it refuses. */
export function reportForged(signer: DocumentSigner, audit: AuditLog, consul: string): DocumentSigner {
  /** Hash of the reported value, by key. */
  const reported = new LRUCache<string, string>({ max: KEYS_MAX });
  return {
    ...signer,
    open: (key, value) => {
      const opened = signer.open(key, value);
      if (opened.problem === '') return opened;
      const hash = createHash('sha256').update(value).digest('hex');
      if (reported.get(key) === hash) return opened;
      reported.set(key, hash);
      const reason = opened.problem;
      audit.refused({ code: 'bad_signature', from: consul, action: 'read', subject: key, reason });
      return opened;
    },
  };
}

const KEYS_MAX = 1_000;

// Why a call has no answer and what its caller may do about it, as headers, where the transport carries them. An
// error is called here by its code in the table of errors; its words are in the TApplicationException.

import type { KatamariError } from '../../core/mod.ts';

export function headersOfError({ code, facts }: KatamariError): Readonly<Record<string, string>> {
  const headers: Record<string, string> = { 'katamari-error': code };
  if (facts.retryAfterMs !== undefined) headers['katamari-retry-after-ms'] = String(Math.ceil(facts.retryAfterMs));
  if (facts.notRun === true) headers['katamari-not-run'] = '1';
  if (facts.stage !== undefined) headers['katamari-stage'] = facts.stage;
  return headers;
}

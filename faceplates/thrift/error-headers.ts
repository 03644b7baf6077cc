// Headers of an error reply, for transports with headers: the error code, whether the call certainly did not run or
// must not be sent again, and when to retry. The message is in the TApplicationException.

import type { KatamariError } from '../../core/mod.ts';

export function headersOfError({ code, facts }: KatamariError): Readonly<Record<string, string>> {
  const headers: Record<string, string> = { 'katamari-error': code };
  if (facts.retryAfterMs !== undefined) headers['katamari-retry-after-ms'] = String(Math.ceil(facts.retryAfterMs));
  if (facts.notRun === true) headers['katamari-not-run'] = '1';
  if (facts.isSuspect === true) headers['katamari-suspect'] = '1';
  if (facts.stage !== undefined) headers['katamari-stage'] = facts.stage;
  if (facts.httpStatus === 401) headers['www-authenticate'] = 'Bearer realm="katamari"';
  return headers;
}

// What an answer says in headers, where its transport carries them: the version that did the work, or why there is none and what the caller may
// do about it. What an error is called here is its code in the table of errors; its words are in the TApplicationException.

import type { KatamariError } from '../../chassis-sdk/errors.ts';

type Headers = Readonly<Record<string, string>>;

/** @param version that answered; '' unknown */
export function headersOfAnswer(version: string, error: KatamariError | undefined): Headers | undefined {
  if (error !== undefined) return headersOfError(error);
  return version === '' ? undefined : { 'katamari-version': version };
}

export function headersOfError({ code, facts }: KatamariError): Headers {
  const headers: Record<string, string> = { 'katamari-error': code };
  if (facts.retryAfterMs !== undefined) headers['katamari-retry-after-ms'] = String(Math.ceil(facts.retryAfterMs));
  if (facts.notRun === true) headers['katamari-not-run'] = '1';
  if (facts.stage !== undefined) headers['katamari-stage'] = facts.stage;
  return headers;
}

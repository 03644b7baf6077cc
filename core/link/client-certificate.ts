// The identity in a client certificate: the SPIFFE id, else the first DNS name, else the first e-mail address, else
// the common name. TLS has verified the certificate before; a certificate that names nobody is refused.

import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { KatamariError } from '../mod.ts';
import type { PeerCertificateIdentity } from '../rpc/mod.ts';
import { knownIdentity } from './identities.ts';

/**
 * Returns the identity of the client of a connection; undefined without TLS or without a certificate.
 * @throws KatamariError denied for a certificate that was not verified, or that names nobody
 */
export function certificateIdentityOf(socket: Socket): PeerCertificateIdentity | undefined {
  if (!(socket instanceof TLSSocket)) return undefined;
  const certificate = socket.getPeerCertificate() as Partial<ReturnType<TLSSocket['getPeerCertificate']>> | undefined;
  if (certificate?.subject === undefined) return undefined;
  if (!socket.authorized) throw refused('was not signed by a CA of the clients of this port');
  const name = nameIn(certificate.subjectaltname ?? '', certificate.subject.CN);
  const untilMs = Date.parse(certificate.valid_to ?? '');
  return { identity: knownIdentity(name, [], 'mtls'), untilMs: Number.isNaN(untilMs) ? 0 : untilMs };
}

/** @param alternatives the subject alternative names as OpenSSL prints them: `URI:spiffe://a/b, DNS:c` */
function nameIn(alternatives: string, commonName: string | string[] | undefined): string {
  const names = namesIn(alternatives);
  const spiffe = names.filter(({ kind, text }) => kind === 'URI' && text.startsWith('spiffe://'));
  // X.509-SVID, section 2: exactly one URI.
  if (spiffe.length > 1) throw refused('has several SPIFFE ids');
  const dns = names.find(({ kind }) => kind === 'DNS');
  const email = names.find(({ kind }) => kind === 'email');
  const name = spiffe[0]?.text ?? dns?.text ?? email?.text ?? [commonName ?? ''].flat()[0] ?? '';
  if (!NAME.test(name)) throw refused('names nobody: expected a SPIFFE id, a DNS name, an e-mail address or a CN');
  // A common name is free text. It must not pass for a SPIFFE id.
  if (spiffe.length === 0 && name.includes('://')) throw refused('has a URI as its name that is not a SPIFFE id');
  return name;
}

/** Splits the list. Names with special characters are quoted as JSON, so that they cannot forge another entry. */
function namesIn(alternatives: string): { readonly kind: string; readonly text: string }[] {
  return [...alternatives.matchAll(ENTRY)].map(([, kind = '', quoted, plain = '']) => ({
    kind,
    text: quoted === undefined ? plain : String(JSON.parse(quoted)),
  }));
}

function refused(why: string): KatamariError {
  return new KatamariError('denied', `The client certificate ${why}`, { notRun: true, httpStatus: 401 });
}

const ENTRY = /(?:^|, )([A-Za-z ]+):(?:("(?:[^"\\]|\\.)*")|([^,]*))/g;
/** Printable text without a line break, as it appears in logs and in the policy. */
const NAME = /^[\x21-\x7e\u00a0-\ud7ff\ue000-\uffff]+(?: [\x21-\x7e\u00a0-\ud7ff\ue000-\uffff]+)*$/;

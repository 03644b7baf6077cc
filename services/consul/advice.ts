// What to do about a request to Consul that failed: the rule that a token lacks, the certificate that does not fit,
// the address where nothing or something else listens. Only words; nothing is tried here. The rules are those of
// deploy/consul-policy.hcl.

/**
 * What is wrong, where that can be told: nobody listens there, a right is missing, TLS does not come about, or
 * something else.
 */
export type ConsulTrouble = 'refused' | 'denied' | 'tls' | 'other';

interface ConsulFailure {
  /** Of HTTP; 0 when there was no answer. */
  readonly status: number;
  /** What Consul or the system said. */
  readonly why: string;
  /** The system's code of the error, '' for none. */
  readonly code: string;
  /** What was tried, as in `write katamari/main/leader`. */
  readonly what: string;
  readonly isTls: boolean;
  readonly hasToken: boolean;
}

/** What kind of trouble it is, and words to follow the reason. */
export function adviceFor(failure: ConsulFailure): { readonly trouble: ConsulTrouble; readonly hint: string } {
  const { status, why, code, what, isTls, hasToken } = failure;
  if (status === 403) return { trouble: 'denied', hint: `. ${describeLack(what, why, hasToken)}` };
  if (status === 400 && !isTls && /HTTP request to an HTTPS server/i.test(why))
    return { trouble: 'tls', hint: '. That port wants TLS: write https:// before the address (consul.address)' };
  if (status !== 0) return { trouble: 'other', hint: '' };
  if (isTls) {
    const words = `${code} ${why}`.replaceAll('_', ' ');
    const fault = TLS_FAULTS.find(({ pattern }) => pattern.test(words));
    if (fault !== undefined) return { trouble: 'tls', hint: `. ${fault.hint}` };
  }
  if (NOBODY.test(`${code} ${why}`)) return { trouble: 'refused', hint: '. Is Consul running there?' };
  return isTls && HUNG_UP.test(`${code} ${why}`)
    ? { trouble: 'tls', hint: `. ${NO_CERTIFICATE}` }
    : { trouble: 'other', hint: '. Is Consul running there?' };
}

/** The system's code of an error or of what caused it, '' for none. */
export function codeOf(error: unknown): string {
  for (let at = error as { code?: unknown; cause?: unknown } | undefined; at != null; at = at.cause as typeof at) {
    if (typeof at.code === 'string') return at.code;
  }
  return '';
}

/** Consul of later versions names the right itself; the rule is what has to be written, so it is said in any case. */
function describeLack(what: string, why: string, hasToken: boolean): string {
  const rule = ruleFor(what);
  // An unknown token is refused for anything, even for what anonymous callers may do.
  if (/ACL not found/i.test(why)) return 'Consul does not know this token: correct consul.token (CONSUL_HTTP_TOKEN)';
  const who = hasToken
    ? 'The token (consul.token or CONSUL_HTTP_TOKEN) lacks'
    : 'No token was given (consul.token or CONSUL_HTTP_TOKEN), and without one nobody has';
  return `${who} the rule ${rule}; deploy/consul-policy.hcl has all that are needed`;
}

/** The line of the policy that allows what was tried. */
function ruleFor(what: string): string {
  const [, verb = '', key = ''] = /^(read|watch|write|delete) (\S+)/.exec(what) ?? [];
  if (verb !== '') {
    const [, prefix = key] = /^(katamari\/[^/]+\/)/.exec(key) ?? [];
    return `key_prefix "${prefix}" { policy = "${verb === 'read' || verb === 'watch' ? 'read' : 'write'}" }`;
  }
  if (/session/.test(what)) return 'session_prefix "" { policy = "write" }';
  if (what.startsWith('ask the agent')) return 'agent_prefix "" { policy = "read" }';
  return 'service_prefix "katamari-" { policy = "write" }';
}

const NO_CERTIFICATE =
  'Consul may insist on a client certificate (verify_incoming): give one that its CA has signed (consul.certFile and consul.keyFile)';

/** In the words of the three runtimes, with blanks for underscores. */
const TLS_FAULTS: readonly { readonly pattern: RegExp; readonly hint: string }[] = [
  {
    pattern: /wrong version number|packet length too long|record layer failure|InvalidContentType|corrupt message/i,
    hint: 'What listens there does not speak TLS: write http:// before the address, or name its HTTPS port (consul.address)',
  },
  {
    pattern: /ALTNAME|does not match certificate|NotValidForName/i,
    hint: "Consul's certificate is for another name: use a name that it has in consul.address, or say which with CONSUL_TLS_SERVER_NAME",
  },
  {
    pattern: /cert has expired|cert not yet valid|certificate (has )?expired|invalid peer certificate: Expired/i,
    hint: "Consul's certificate is not valid now: renew it, or correct the clock of this machine",
  },
  {
    pattern: /alert.*(certificate required|bad certificate|number (42|116))|CertificateRequired|BadCertificate/i,
    hint: NO_CERTIFICATE,
  },
  {
    pattern: /alert.*(unknown ca|number 48)|alert: UnknownCA/i,
    hint: 'Consul does not trust our certificate: let its CA sign consul.certFile',
  },
  {
    pattern:
      /self[- ]signed|depth zero|cert signature failure|unable to (verify|get)|UnknownIssuer|signature failure|BadSignature/i,
    hint: "Consul's certificate was not signed by a CA known here: name the one that did (consul.caFile)",
  },
];
const NOBODY = /ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|ENOENT|Unable to connect/;
/** A server that wants a certificate and gets none may just hang up after the handshake. */
const HUNG_UP = /ECONNRESET|EPIPE|EPROTO|socket hang up|closed/i;

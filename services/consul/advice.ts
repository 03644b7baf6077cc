// Classifies a failed request to Consul and says what to do: which rule the token lacks, which certificate is wrong,
// or that nothing listens at the address. Sends no requests. The rules are those of deploy/consul-policy.hcl.

/**
 * Why a request failed: the connection was refused, the token lacks a permission, TLS failed, Consul does not have
 * the check of a new session yet, or something else.
 */
export type ConsulTrouble = 'refused' | 'denied' | 'tls' | 'check-missing' | 'other';

/** The permission that a request needs, by resource of Consul's ACL. */
export type ConsulRight =
  | { readonly resource: 'key'; readonly key: string; readonly access: 'read' | 'write' }
  | { readonly resource: 'session' | 'agent' | 'service' };

/** A request, for its error message. */
export interface ConsulAction {
  /** Text after "Cannot" in the message, for example `write katamari/main/leader`. */
  readonly text: string;
  readonly needs: ConsulRight;
}

interface ConsulFailure {
  /** HTTP status; 0 without a response. */
  readonly status: number;
  /** Error text from Consul or the operating system. */
  readonly why: string;
  /** Error code of the operating system; '' for none. */
  readonly code: string;
  readonly needs: ConsulRight;
  readonly isTls: boolean;
  readonly hasToken: boolean;
}

/** Returns the cause of a failure, and a hint to append to its message; '' for none. */
export function adviceFor(failure: ConsulFailure): { readonly trouble: ConsulTrouble; readonly hint: string } {
  const { status, why, code, needs, isTls, hasToken } = failure;
  if (status === 403) return { trouble: 'denied', hint: `. ${describeLack(needs, why, hasToken)}` };
  if (status === 400 && !isTls && /HTTP request to an HTTPS server/i.test(why))
    return { trouble: 'tls', hint: '. That port requires TLS: write https:// before the address (consul.address)' };
  // Consul sends no error codes, so match its text.
  if (status !== 0) return { trouble: /Missing check|critical state/.test(why) ? 'check-missing' : 'other', hint: '' };
  if (isTls) {
    const words = `${code} ${why}`.replaceAll('_', ' ');
    const fault = TLS_FAULTS.find(({ pattern }) => pattern.test(words));
    if (fault !== undefined) return { trouble: 'tls', hint: `. ${fault.hint}` };
  }
  if (UNREACHABLE.test(`${code} ${why}`)) return { trouble: 'refused', hint: '. Is Consul running there?' };
  return isTls && HUNG_UP.test(`${code} ${why}`)
    ? { trouble: 'tls', hint: `. ${NO_CERTIFICATE}` }
    : { trouble: 'other', hint: '. Is Consul running there?' };
}

/** Whether the connection was closed before the response, by the message of an error. */
export function isHangUp(message: string): boolean {
  return HUNG_UP.test(message);
}

/** Returns the first error code of an error or its causes; '' for none. */
export function codeOf(error: unknown): string {
  for (let at = error as { code?: unknown; cause?: unknown } | undefined; at != null; at = at.cause as typeof at) {
    if (typeof at.code === 'string') return at.code;
  }
  return '';
}

/** Returns the ACL rule to add. Later versions of Consul name the missing permission, but not the rule. */
function describeLack(needs: ConsulRight, why: string, hasToken: boolean): string {
  // Consul refuses an unknown token for any request, even one that anonymous callers may send.
  if (/ACL not found/i.test(why)) return 'Consul does not know this token: correct consul.token (CONSUL_HTTP_TOKEN)';
  const who = hasToken
    ? 'The token (consul.token or CONSUL_HTTP_TOKEN) lacks'
    : 'No token is configured (consul.token or CONSUL_HTTP_TOKEN), and anonymous callers lack';
  return `${who} the rule ${ruleFor(needs)}; deploy/consul-policy.hcl has all rules that are needed`;
}

/** Returns the line of an ACL policy that grants a permission. */
function ruleFor(needs: ConsulRight): string {
  switch (needs.resource) {
    case 'key': {
      const [, prefix = needs.key] = /^(katamari\/[^/]+\/)/.exec(needs.key) ?? [];
      return `key_prefix "${prefix}" { policy = "${needs.access}" }`;
    }
    case 'session':
      return 'session_prefix "" { policy = "write" }';
    case 'agent':
      return 'agent_prefix "" { policy = "read" }';
    case 'service':
      return 'service_prefix "katamari-" { policy = "write" }';
  }
}

const NO_CERTIFICATE =
  'Consul may require a client certificate (verify_incoming): configure one that its CA has signed (consul.certFile and consul.keyFile)';

/** Patterns for the error texts of all supported runtimes, in which underscores are replaced by spaces. */
const TLS_FAULTS: readonly { readonly pattern: RegExp; readonly hint: string }[] = [
  {
    pattern: /wrong version number|packet length too long|record layer failure|InvalidContentType|corrupt message/i,
    hint: 'The server there does not speak TLS: write http:// before the address, or name its HTTPS port (consul.address)',
  },
  {
    pattern: /ALTNAME|does not match certificate|NotValidForName/i,
    hint: "Consul's certificate is for another name: use one of its names in consul.address, or set CONSUL_TLS_SERVER_NAME",
  },
  {
    pattern: /cert has expired|cert not yet valid|certificate (has )?expired|invalid peer certificate: Expired/i,
    hint: "Consul's certificate has expired or is not valid yet: renew it, or correct the clock of this machine",
  },
  {
    pattern: /alert.*(certificate required|bad certificate|number (42|116))|CertificateRequired|BadCertificate/i,
    hint: NO_CERTIFICATE,
  },
  {
    pattern: /alert.*(unknown ca|number 48)|alert: UnknownCA/i,
    hint: 'Consul does not trust the client certificate: have its CA sign consul.certFile',
  },
  {
    pattern:
      /self[- ]signed|depth zero|cert signature failure|unable to (verify|get)|UnknownIssuer|signature failure|BadSignature/i,
    hint: "Consul's certificate is signed by an unknown CA: configure that CA (consul.caFile)",
  },
];
const UNREACHABLE = /ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|ENOENT|Unable to connect/;
/** A server that requires a certificate may also close the connection in this way, without an alert. */
const HUNG_UP = /ECONNRESET|EPIPE|EPROTO|socket hang up|closed/i;

// Masks secrets in documents of the audit log: values whose name looks like a secret (`DB_PASSWORD`, `apiKey`),
// values of such command-line flags (`--token abc`), passwords in URLs, and private keys. It masks too much rather
// than too little. A masked value that changed says so.

/** Returns both documents of a change with masked secrets. Undefined stays undefined. */
export function redactChange(before: unknown, after: unknown): { readonly before: unknown; readonly after: unknown } {
  return { before: redact(before, before), after: redact(after, before) };
}

/** @param old the value at the same place before the change */
function redact(value: unknown, old: unknown): unknown {
  if (typeof value === 'string') return redactText(value);
  if (Array.isArray(value)) return redactList(value as unknown[], Array.isArray(old) ? (old as unknown[]) : []);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => {
      const before = typeof old === 'object' && old !== null && Object.hasOwn(old, name) ? read(old, name) : undefined;
      if (isSecretName(name) && (typeof inner === 'string' || typeof inner === 'number')) {
        return [name, mask(inner, before)];
      }
      return [name, redact(inner, before)];
    }),
  );
}

/** In a command, the value of a secret flag is the text after `=`, or the next item. */
function redactList(list: readonly unknown[], old: readonly unknown[]): unknown[] {
  return list.map((item, index) => {
    const flag = list[index - 1];
    if (typeof item !== 'string') return redact(item, old[index]);
    if (typeof flag === 'string' && FLAG.test(flag) && isSecretName(flag) && !item.startsWith('-'))
      return mask(item, old[index]);
    const [, name, secret] = ASSIGNMENT.exec(item) ?? [];
    if (name === undefined || secret === undefined || !isSecretName(name)) return redactText(item);
    return `${name}=${mask(item, old[index])}`;
  });
}

function redactText(text: string): string {
  return text.replace(URL_PASSWORD, `$1${MASK}@`).replace(PRIVATE_KEY, MASK);
}

function mask(value: unknown, old: unknown): string {
  return old === undefined || old === value ? MASK : `${MASK} (changed)`;
}

function read(from: object, name: string): unknown {
  return (from as Readonly<Record<string, unknown>>)[name];
}

/** Whether a variable, flag or field of this name holds a secret, judged by the words of the name. */
export function isSecretName(name: string): boolean {
  const words = name
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .toLowerCase()
    .split(/[^a-z0-9]+/);
  return SECRET_PARTS.test(words.join('')) || words.some((word) => SECRET_WORDS.has(word));
}

const MASK = '***';
const SECRET_PARTS =
  /passw|passphrase|secret|token|credential|apikey|accesskey|privatekey|signingkey|encryptionkey|connectionstring/;
const SECRET_WORDS: ReadonlySet<string> = new Set([
  'pass',
  'pwd',
  'pw',
  'key',
  'keys',
  'creds',
  'auth',
  'authorization',
  'bearer',
  'cookie',
  'jwt',
  'dsn',
  'otp',
  'pin',
  'salt',
  'seed',
]);
const FLAG = /^--?[A-Za-z][\w-]*$/;
const ASSIGNMENT = /^(--?[A-Za-z][\w-]*|[A-Za-z_]\w*)=(.*)$/s;
/** The password in `scheme://user:password@host`. */
const URL_PASSWORD = /\b([a-z][a-z0-9+.-]{0,30}:\/\/[^\s/:@]{0,256}:)[^\s/@]{1,1024}@/gi;
const PRIVATE_KEY = /-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?/g;

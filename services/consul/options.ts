// Where a Consul is and how to reach it: the options of the client, from CONSUL_* variables or from the caller, and
// the checks of its address and files.

import { readFileSync } from 'node:fs';

export interface ConsulClientOptions {
  /** `HOST:PORT`, `http://HOST:PORT`, `https://HOST:PORT` or `unix:///PATH`. */
  readonly address?: string;
  readonly token?: string;
  readonly datacenter?: string;
  readonly isTls?: boolean;
  /** False accepts any certificate; for tests only. */
  readonly verifiesTls?: boolean;
  /** PEM files. */
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
  /** Name expected in the server's certificate when it is not the host's. */
  readonly serverName?: string;
  /** `user:password` for a proxy in front of Consul. */
  readonly basicAuth?: string;
  /** Timeout of requests that are not blocking queries. */
  readonly timeoutMs?: number;
  /** Signs values before they are written, and checks them when they are read. */
  readonly signer?: DocumentSigner;
}

/** Signs the values of some keys. */
export interface DocumentSigner {
  /** Keys and prefixes of keys whose values are signed. */
  readonly places: readonly string[];
  /** Whether the value of a key is signed. */
  readonly signs: (key: string) => boolean;
  /** Returns the value to write. */
  readonly sign: (key: string, text: string) => string;
  readonly open: (key: string, value: string) => OpenedDocument;
}

/** A value without its signature. */
export interface OpenedDocument {
  /** '' if the signature does not match. */
  readonly text: string;
  /** Why the value must not be used; '' if it may. */
  readonly problem: string;
  /** Whether the value was signed with a secret that is about to be retired. */
  readonly isOutdated: boolean;
}

/** Reads CONSUL_* variables as Consul's own command does. `notes` name variables that are set but not supported. */
export function consulOptionsOf(env: Readonly<Record<string, string | undefined>>): {
  options: ConsulClientOptions;
  notes: string[];
} {
  const notes: string[] = [];
  const text = (name: string): string | undefined => (env[name] === '' ? undefined : env[name]);
  const tokenFile = text('CONSUL_HTTP_TOKEN_FILE');
  const token =
    text('CONSUL_HTTP_TOKEN') ??
    (tokenFile === undefined ? undefined : readPem('CONSUL_HTTP_TOKEN_FILE', tokenFile).trim());
  const isTls = flagOf(text('CONSUL_HTTP_SSL'), 'CONSUL_HTTP_SSL');
  const verifiesTls = flagOf(text('CONSUL_HTTP_SSL_VERIFY'), 'CONSUL_HTTP_SSL_VERIFY');
  if (text('CONSUL_NAMESPACE') !== undefined) {
    notes.push(
      'CONSUL_NAMESPACE is set but not supported: namespaces are a feature of Consul Enterprise. Give each mesh its own name instead',
    );
  }
  if (text('CONSUL_CAPATH') !== undefined)
    notes.push('CONSUL_CAPATH is set but not supported. Name one file with CONSUL_CACERT instead');
  const options = {
    address: text('CONSUL_HTTP_ADDR'),
    token,
    isTls,
    verifiesTls,
    caFile: text('CONSUL_CACERT'),
    certFile: text('CONSUL_CLIENT_CERT'),
    keyFile: text('CONSUL_CLIENT_KEY'),
    serverName: text('CONSUL_TLS_SERVER_NAME'),
    basicAuth: text('CONSUL_HTTP_AUTH'),
  };
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  return { options: Object.fromEntries(given) as ConsulClientOptions, notes };
}

/** Parses the address of the options. @throws Error that lists the valid forms */
export function parseTarget(options: ConsulClientOptions): { text: string; isTls: boolean; settings: object } {
  const given = options.address ?? '127.0.0.1:8500';
  const wrong = (): Error =>
    new Error(
      `Cannot use "${given}" as the address of Consul: expected HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:///PATH`,
    );
  if (given.startsWith('unix://')) {
    const socketPath = given.slice('unix://'.length);
    if (!socketPath.startsWith('/')) throw wrong();
    return { text: given, isTls: false, settings: { socketPath } };
  }
  const text = /^https?:\/\//.test(given) ? given : `${options.isTls ? 'https' : 'http'}://${given}`;
  if (!URL.canParse(text)) throw wrong();
  const url = new URL(text);
  if (url.hostname === '' || (url.pathname !== '/' && url.pathname !== '') || url.search !== '') throw wrong();
  const isTls = url.protocol === 'https:' || options.isTls === true;
  const port = url.port === '' ? (/^https?:/.test(given) ? (isTls ? 443 : 80) : 8500) : Number(url.port);
  return { text: `${url.hostname}:${port}`, isTls, settings: { host: url.hostname, port } };
}

function flagOf(text: string | undefined, name: string): boolean | undefined {
  if (text === undefined) return undefined;
  if (/^(1|t|true)$/i.test(text)) return true;
  if (/^(0|f|false)$/i.test(text)) return false;
  throw new Error(`Cannot use ${name}="${text}": expected true or false`);
}

/** Reads a file that an option names. @throws Error with `what` and the path */
export function readPem(what: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new Error(`Cannot read ${what} from ${path}: ${(error as Error).message}`, { cause: error });
  }
}

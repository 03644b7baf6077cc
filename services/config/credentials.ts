// Derives from the configuration the credentials of the link, of the Thrift port and for Consul, and the address that
// other machines use to reach this process.

import { readFileSync } from 'node:fs';
import { checkCertificates, type LinkSecurity } from '../../core/link/mod.ts';
import type { ThriftTls } from '../../faceplates/thrift/mod.ts';
import type { Config } from './config.ts';
import { ExitError, EXIT } from './exit-error.ts';
import { ensureSecretFile, readSecretFile } from './secret-file.ts';
import { networkInterfaces } from 'node:os';

/**
 * Returns the credentials of the link. Creates the secret if there is none.
 * @throws ExitError when a file cannot be read or the secret is weak
 */
export function linkSecurityOf({ link }: Config): LinkSecurity {
  const secrets = link.secret === '' ? ensureSecretFile('link.secretFile', link.secretFile) : [link.secret];
  const tls =
    link.caFile === ''
      ? undefined
      : {
          ca: read('link.caFile', link.caFile),
          cert: read('link.certFile', link.certFile),
          key: read('link.keyFile', link.keyFile),
        };
  return { secrets, tls };
}

/**
 * Returns the token for Consul; '' for none. Creates the token of the embedded agent if there is none.
 * @throws ExitError when its file cannot be read or is unsafe
 */
export function consulTokenOf({ consul }: Config): string {
  if (consul.token !== '' || consul.tokenFile === '') return consul.token;
  const read = consul.embedded ? ensureSecretFile : readSecretFile;
  return read('consul.tokenFile', consul.tokenFile)[0];
}

/**
 * Returns the TLS credentials of the Thrift port; undefined when no certificate is configured.
 * @throws ExitError when a file cannot be read, the key does not match the certificate, or the certificate expired
 */
export function thriftTlsOf({ thrift: { tls } }: Config): ThriftTls | undefined {
  if (tls.certFile === '') return undefined;
  const cert = read('thrift.tls.certFile', tls.certFile);
  const key = read('thrift.tls.keyFile', tls.keyFile);
  const ca = tls.caFile === '' ? '' : read('thrift.tls.caFile', tls.caFile);
  try {
    checkCertificates({ cert, key, ca }, THRIFT_PORT);
  } catch (error) {
    throw new ExitError(EXIT.badConfiguration, `thrift.tls: ${(error as Error).message}`, error);
  }
  return { cert, key, ca, isRequired: tls.required };
}

/**
 * Returns the address that other machines use to reach this process: `advertise`, else `host`. If `host` is a
 * wildcard, returns the first external address of this machine.
 */
export function advertisedHost({ advertise, host }: Pick<Config, 'advertise' | 'host'>): string {
  if (advertise !== '') return advertise;
  if (host !== '0.0.0.0' && host !== '::') return host;
  const family = host === '::' ? 'IPv6' : 'IPv4';
  const found = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find((one) => !one.internal && one.family === family && !one.address.startsWith('fe80'));
  return found?.address ?? (family === 'IPv6' ? '::1' : '127.0.0.1');
}

function read(key: string, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new ExitError(EXIT.badConfiguration, `${key}: cannot read ${file}: ${(error as Error).message}`, error);
  }
}

const THRIFT_PORT = {
  name: 'the Thrift port',
  expected: 'a certificate in certFile, its private key in keyFile and, optionally, the CA of the clients in caFile',
};

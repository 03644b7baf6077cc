// Derives from the configuration the credentials of the link, of the ports for clients and for Consul, and the address
// that other machines use to reach this process.

import { readFileSync } from 'node:fs';
import { checkCertificates, type LinkSecurity, type ServerTls } from '../../core/link/mod.ts';
import { httpReadsClientCertificates, runtimeName } from '../../core/mod.ts';
import type { Config, TlsFiles } from './config.ts';
import { ExitError, EXIT } from './exit-error.ts';
import { ensureSecretFile, readSecretFile } from './secret-file.ts';
import { networkInterfaces } from 'node:os';

/** Creates the secrets of this process that do not exist yet. @throws ExitError when a file cannot be used */
export function createSecrets({ link, consul }: Config): void {
  if (link.secret === '') ensureSecretFile('link.secretFile', link.secretFile);
  if (consul.embedded && consul.token === '') ensureSecretFile('consul.tokenFile', consul.tokenFile);
}

/**
 * Returns the credentials of the link.
 * @throws ExitError when a file cannot be read, the secret is weak, or the certificates are invalid
 */
export function linkSecurityOf({ link }: Config): LinkSecurity {
  const secrets = link.secret === '' ? readSecretFile('link.secretFile', link.secretFile) : [link.secret];
  if (link.caFile === '') return { secrets, tls: undefined };
  const tls = {
    ca: read('link.caFile', link.caFile),
    cert: read('link.certFile', link.certFile),
    key: read('link.keyFile', link.keyFile),
  };
  try {
    checkCertificates(tls);
  } catch (error) {
    throw new ExitError(EXIT.badConfiguration, `link: ${(error as Error).message}`, error);
  }
  return { secrets, tls };
}

/**
 * Returns the tokens for Consul: the first is sent, and the embedded agent accepts all. None for a Consul without ACLs.
 * @throws ExitError when the file cannot be read or is unsafe
 */
export function consulTokensOf({ consul }: Config): readonly string[] {
  if (consul.token !== '') return [consul.token];
  return consul.tokenFile === '' ? [] : readSecretFile('consul.tokenFile', consul.tokenFile);
}

/**
 * Returns the TLS credentials of a port for clients; undefined when no certificate is configured.
 * @throws ExitError when a file cannot be read, the key does not match the certificate, the certificate expired, or
 * this runtime cannot do it
 */
export function portTlsOf(port: TlsPort, tls: TlsFiles): ServerTls | undefined {
  if (tls.certFile === '') return undefined;
  const cert = read(`${port}.tls.certFile`, tls.certFile);
  const key = read(`${port}.tls.keyFile`, tls.keyFile);
  const ca = tls.caFile === '' ? '' : read(`${port}.tls.caFile`, tls.caFile);
  if (ca !== '' && port !== 'thrift' && !httpReadsClientCertificates()) {
    throw new ExitError(
      EXIT.badConfiguration,
      `${port}.tls.caFile: ${runtimeName()} does not tell an HTTP server who its client is; use bearer tokens on this port, the Thrift port, or another runtime`,
    );
  }
  try {
    const expected =
      'a certificate in certFile, its private key in keyFile and, optionally, the CA of the clients in caFile';
    checkCertificates({ cert, key, ca }, { name: PORTS[port], expected });
  } catch (error) {
    throw new ExitError(EXIT.badConfiguration, `${port}.tls: ${(error as Error).message}`, error);
  }
  return { cert, key, ca, isCertificateOptional: tls.isCertificateOptional };
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

/** A port for clients, as the configuration names it. */
export type TlsPort = keyof typeof PORTS;

const PORTS = {
  thrift: 'the Thrift port',
  jsonRpc: 'the JSON-RPC port',
  web: 'the web port',
  stats: 'the stats port',
} as const;

// Certificates for tests, made by openssl: a CA and the certificates it signs, in their own folder.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { toolPath } from './tools.ts';

/** Paths of PEM files. */
export interface CertificateFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

export interface TestAuthority {
  readonly caFile: string;
  /**
   * A certificate for servers and clients; `names` as openssl writes them, such as `IP:127.0.0.1` or `DNS:localhost`.
   */
  sign(name: string, names?: readonly string[]): CertificateFiles;
  /** Removes all files. */
  close(): void;
}

export function makeAuthority(name: string): TestAuthority {
  const folder = mkdtempSync(path.join(tmpdir(), 'katamari-certificates-'));
  const at = (file: string): string => path.join(folder, file);
  const openssl = (args: readonly string[]): void =>
    void execFileSync(toolPath('openssl'), [...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const own = ['-keyout', at('ca.key'), '-out', at('ca.pem'), '-days', '2', '-subj', `/CN=${name}`];
  openssl(['req', '-x509', ...newKey, ...own, '-addext', 'keyUsage=critical,keyCertSign,cRLSign']);
  return {
    caFile: at('ca.pem'),
    sign(subject, names = ['IP:127.0.0.1', 'DNS:localhost']) {
      const files = { certFile: at(`${subject}.pem`), keyFile: at(`${subject}.key`) };
      const request = at(`${subject}.csr`);
      const extensions = at(`${subject}.ext`);
      writeFileSync(
        extensions,
        `subjectAltName=${names.join(',')}\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n`,
      );
      openssl(['req', ...newKey, '-keyout', files.keyFile, '-out', request, '-subj', `/CN=${subject}`]);
      const signed = ['-out', files.certFile, '-days', '2', '-extfile', extensions];
      openssl([
        'x509',
        '-req',
        '-in',
        request,
        '-CA',
        at('ca.pem'),
        '-CAkey',
        at('ca.key'),
        '-CAcreateserial',
        ...signed,
      ]);
      return files;
    },
    close: () => rmSync(folder, { recursive: true, force: true }),
  };
}

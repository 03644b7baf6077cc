// Certificate, key and CA of a port for clients as they are now: the files can be replaced while the process runs.

import type { ServerTls } from '../../core/link/mod.ts';
import type { ThriftTls } from '../../faceplates/thrift/mod.ts';
import { portTlsOf, type Config, type TlsPort } from '../config/mod.ts';
import type { CredentialFiles } from './credential-files.ts';

/** @returns undefined when the port has no certificate. @throws ExitError, see portTlsOf */
export function portCredentials(config: Config, port: TlsPort, files: CredentialFiles): ThriftTls | undefined {
  return config[port].tls.certFile === '' ? undefined : new PortCredentials(config, port, files);
}

class PortCredentials implements ThriftTls {
  readonly isCertificateOptional: boolean;
  readonly isRequired: boolean;
  #current!: ServerTls;
  readonly #onRenewed = new Set<() => void>();

  constructor(config: Config, port: TlsPort, files: CredentialFiles) {
    const { tls } = config[port];
    this.isCertificateOptional = tls.isCertificateOptional;
    this.isRequired = port === 'thrift' && config.thrift.tls.required;
    files.add({
      name: port,
      files: [tls.certFile, tls.keyFile, tls.caFile],
      load: () => {
        const before = this.#current;
        this.#current = portTlsOf(port, tls) as ServerTls;
        try {
          for (const act of this.#onRenewed) act();
        } catch (error) {
          this.#current = before;
          throw error;
        }
      },
    });
  }

  get cert(): string {
    return this.#current.cert;
  }

  get key(): string {
    return this.#current.key;
  }

  get ca(): string {
    return this.#current.ca;
  }

  readonly onRenewed = (act: () => void): void => {
    this.#onRenewed.add(act);
  };
}

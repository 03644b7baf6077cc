// The credentials of the link as they are now: the secret and the certificates can be replaced while the process runs.

import type { LinkSecurity } from '../../core/link/mod.ts';
import { linkSecurityOf, type Config } from '../config/mod.ts';
import type { CredentialFiles } from './credential-files.ts';

export class LinkCredentials implements LinkSecurity {
  #current!: LinkSecurity;
  readonly #onRenewed = new Set<() => void>();

  /** @throws ExitError when a file cannot be read or is unsafe */
  constructor(config: Config, files: CredentialFiles) {
    const { secret, secretFile, caFile, certFile, keyFile } = config.link;
    files.add({
      name: 'link',
      files: [secret === '' ? secretFile : '', caFile, certFile, keyFile],
      load: () => {
        this.#current = linkSecurityOf(config);
        for (const act of this.#onRenewed) act();
      },
    });
  }

  get secrets(): LinkSecurity['secrets'] {
    return this.#current.secrets;
  }

  get tls(): LinkSecurity['tls'] {
    return this.#current.tls;
  }

  /** Calls `act` after each change. */
  onRenewed(act: () => void): void {
    this.#onRenewed.add(act);
  }
}

// `katamari consul-token` prints the token of the embedded Consul, for `consul`, curl and other clients.

import { consulTokensOf, ExitError, EXIT, type ExitCode } from '../../config/mod.ts';
import { loadFor, type CliContext, type ConfigOptions } from '../kit/context.ts';
import { existsSync } from 'node:fs';

export function runConsulToken(context: CliContext, options: ConfigOptions): ExitCode {
  const { config } = loadFor(context, options);
  const { embedded, address, token, tokenFile } = config.consul;
  if (!embedded)
    throw new ExitError(EXIT.usage, `This mesh uses the Consul at ${address}, whose operator gives out its tokens`);
  if (token === '' && !existsSync(tokenFile))
    throw new ExitError(EXIT.failed, `${tokenFile} does not exist yet: \`katamari up\` creates it at its first start`);
  context.terminal.write(`${consulTokensOf(config)[0]}\n`);
  return EXIT.done;
}

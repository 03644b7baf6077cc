// The placeholders in the command and the environment of a deployment (deployment.ts).

import { parseLinkAddress } from '../../core/link/mod.ts';

/** Replaces the placeholders in a word by the address at which the chassis is to listen, and by its parts. */
export function fillPlaceholders(word: string, address: string): string {
  const where = parseLinkAddress(address);
  return word
    .replaceAll('{listen}', address)
    .replaceAll('{path}', 'path' in where ? where.path : '')
    .replaceAll('{host}', 'path' in where ? '' : where.host)
    .replaceAll('{port}', 'path' in where ? '' : String(where.port));
}

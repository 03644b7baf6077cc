// During a rotation of the mesh's secret, the leader signs the documents in Consul again with the new secret. When the
// old one is deleted, none depends on it.

import type { ConsulClient } from '../consul/mod.ts';

/**
 * Writes each valid document whose signature is of an older secret again. A document that changes meanwhile is left to
 * the writer of the change, who signs with the new secret. Returns the number of documents written.
 * @throws ConsulError
 */
export async function signAgain(client: ConsulClient, signal: AbortSignal): Promise<number> {
  let written = 0;
  for (const place of client.signedPlaces) {
    const { entries } = await client.list(place, { signal });
    for (const { key, value, problem, isOutdated, modifyIndex } of entries) {
      if (problem !== '' || !isOutdated) continue;
      if (await client.put(key, value, { cas: modifyIndex, signal })) written++;
    }
  }
  return written;
}

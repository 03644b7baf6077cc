// Admin calls during the chaos test: faceplates are targets too, and Consul may be down, so every call is tried at one
// faceplate after the other.

import { sleep } from '../../../core/mod.ts';
import type { Cluster } from '../cluster/cluster.ts';
import { jsonRpc } from '../mesh/mesh.ts';
import { until } from '../tools/wait.ts';

/** An answer, or why there is none. */
export type AdminAnswer =
  | { readonly isOk: true; readonly result: unknown }
  | { readonly isOk: false; readonly why: string };

export class ChaosAdmin {
  readonly #cluster: Cluster;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** Calls `Katamari.drain` and the like until a faceplate does it. @throws Error with the last refusal */
  async ask(method: string, params: Readonly<Record<string, unknown>>): Promise<unknown> {
    let why = 'nothing';
    const { result } = await until(
      () => `${method} to be taken: ${why}`,
      async () => {
        const answer = await this.try(method, params);
        if (answer.isOk) return answer;
        why = answer.why;
        return undefined;
      },
      TAKEN_MS,
    );
    return result;
  }

  /** One round through the faceplates. */
  async try(method: string, params: Readonly<Record<string, unknown>>): Promise<AdminAnswer> {
    let why = 'no faceplate runs';
    for (const { addresses, isRunning } of this.#cluster.faceplates) {
      if (!isRunning) continue;
      const asked = jsonRpc(`${addresses.jsonRpc}/rpc`, method, { token: this.#cluster.adminToken, ...params });
      const patience = sleep(ADMIN_MS).then(() => undefined);
      const answer = await Promise.race([asked, patience]).catch((error: Error) => error);
      if (answer instanceof Error) why = answer.message;
      else if (answer === undefined) why = 'no answer in time';
      else if (answer.error === undefined) return { isOk: true, result: answer.result };
      else why = answer.error.message;
    }
    return { isOk: false, why };
  }
}

const ADMIN_MS = 10_000;
const TAKEN_MS = 90_000;

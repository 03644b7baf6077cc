// The master role of a process: stands for election, and leads while elected.

import type { SessionStats } from '../consul/mod.ts';
import { Election, Leader } from '../master/mod.ts';
import type { ProcessBase } from './process-base.ts';

export class MasterRole {
  readonly #election: Election;

  private constructor(election: Election) {
    this.#election = election;
  }

  /** @param statsAddress `http://host:port`; Consul looks at it to see that this process lives */
  static start(base: ProcessBase, statsAddress: string): MasterRole {
    const { client, config, events, clock, advertised } = base;
    const { mesh, name, machine, master, dataDir } = config;
    const port = Number(/:(\d+)$/.exec(statsAddress)?.[1]);
    const election = new Election({
      client,
      mesh,
      name,
      rank: master.rank,
      machine,
      stats: { host: advertised, port },
      events,
      clock,
    });
    const leader = new Leader({
      client,
      mesh,
      name,
      dataDir,
      election,
      events,
      clock,
      onError: base.reachability.failed,
    });
    void election.start();
    leader.start();
    base.opened({
      phase: 'master',
      close: async () => {
        await leader.close();
        await election.close();
      },
    });
    return new MasterRole(election);
  }

  get leader(): { readonly name: string; readonly term: number } | undefined {
    return this.#election.leader;
  }

  sessionStats(): SessionStats | undefined {
    return this.#election.stats().session;
  }
}

// The master role of a process: stands for election and leads while elected.

import { mustNotFail, type Address } from '../../core/mod.ts';
import { Election, Leader } from '../master/mod.ts';
import type { ObservedVersions } from '../mesh/mod.ts';
import type { ProcessBase } from './process-base.ts';

/**
 * Starts the election and, while this process is elected, the work of the leader.
 * @param stats advertised address of the stats faceplate; Consul's health check of the master connects to it
 */
export function startMasterRole(base: ProcessBase, stats: Address): void {
  const { client, config, events, audit, clock, components, observer, consulMetrics, reachability, status, security } =
    base;
  const { mesh, name, machine, master, dataDir } = config;
  const isConsulHere = config.consul.embedded;
  const election = new Election({ client, mesh, name, rank: master.rank, machine, stats, events, clock, isConsulHere });
  const onError = reachability.failed;
  // No other master keeps a backup of the data of an embedded Consul, which keeps them on disk.
  const backups = isConsulHere ? { othersMs: 0 } : {};
  const observe = (service: string): Promise<ObservedVersions> => observer.observe(service);
  const common = { client, mesh, name, events, audit, clock, onError };
  const leader = new Leader({ ...common, dataDir, election, observe, ...backups });
  mustNotFail('the election', election.start());
  leader.start();
  security.onRenewed(() => leader.renewSignatures());
  components.register({
    stage: 'master',
    close: async () => {
      await leader.close();
      await election.close();
    },
  });
  status.reportLeader(() => election.leader);
  status.reportRollouts(() => leader.rollouts());
  consulMetrics.addSession(() => election.stats().session);
}

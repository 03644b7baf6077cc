// What mirrors of routes have found in this process and in the managers that it can reach.

import { ManagerClient, mergeMirrorReports, type MirrorReport } from '../mesh/mod.ts';
import type { ProcessBase } from './process-base.ts';

/** @param service '' for all */
export async function gatherMirrors({ fleet, clock, router }: ProcessBase, service: string): Promise<MirrorReport> {
  const ofPeers = fleet.peers.map((peer) =>
    new ManagerClient(peer, clock).mirrors(service).catch(() => ({ ...NOTHING, missing: [peer.name] })),
  );
  return mergeMirrorReports([router.mirrorReport(service), ...(await Promise.all(ofPeers))]);
}

const NOTHING: MirrorReport = { counts: [], paths: [], differences: [], missing: [] };

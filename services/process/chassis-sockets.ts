// The sockets on which the chassis of this manager call other services: one for chassis that run as the user of the
// mesh, and one for each other user, who alone can enter its folder.

import { formatLinkAddress, startLinkServer, type LinkServer } from '../../core/link/mod.ts';
import { reportDefect } from '../../core/mod.ts';
import { CHASSIS_CALLER, isAdminService, withCall, type Send } from '../../core/rpc/mod.ts';
import { withStats } from '../mesh/mod.ts';
import type { Identity } from '../resource-manager/mod.ts';
import { withMeshService } from './mesh-service.ts';
import type { ProcessBase } from './process-base.ts';
import { chownSync, mkdirSync } from 'node:fs';
import path from 'node:path';

export class ChassisSockets {
  readonly #base: ProcessBase;
  readonly #folder: string;
  /** By user id. */
  readonly #ofUsers = new Map<number, string>();

  private constructor(base: ProcessBase, folder: string) {
    this.#base = base;
    this.#folder = folder;
  }

  /** @param folder the folder of the sockets of this manager */
  static async open(base: ProcessBase, folder: string): Promise<ChassisSockets> {
    const sockets = new ChassisSockets(base, folder);
    const server = await sockets.#listen(sockets.#addressIn('.'));
    base.components.register(
      { stage: 'inside', drain: () => server.drain(), close: () => server.close() },
      { name: 'inside', address: server.address, connections: () => server.connections() },
    );
    return sockets;
  }

  /** Returns the address for chassis of a user; undefined is the user of the mesh. Opens its socket at first use. */
  addressFor(owner: Identity | undefined): string {
    if (owner === undefined) return this.#addressIn('.');
    const known = this.#ofUsers.get(owner.uid);
    if (known !== undefined) return known;
    const folder = `m${owner.uid}`;
    mkdirSync(path.join(this.#folder, folder), { mode: 0o700 });
    chownSync(path.join(this.#folder, folder), owner.uid, owner.gid);
    const address = this.#addressIn(folder);
    this.#ofUsers.set(owner.uid, address);
    // It listens long before a process that starts now can connect.
    const opened = this.#listen(address).then((server) => {
      chownSync(path.join(this.#folder, folder, SOCKET), owner.uid, owner.gid);
      return server;
    });
    opened.catch((error: unknown) => {
      this.#ofUsers.delete(owner.uid);
      reportDefect(error);
    });
    const end = (how: 'drain' | 'close') => (): Promise<void> =>
      opened.then(
        (server) => server[how](),
        () => undefined,
      );
    this.#base.components.register({ stage: 'inside', drain: end('drain'), close: end('close') });
    return address;
  }

  #addressIn(folder: string): string {
    return formatLinkAddress({ path: path.join(this.#folder, folder, SOCKET) });
  }

  #listen(address: string): Promise<LinkServer> {
    const { router, shared, config, callStats, ledger, clock } = this.#base;
    const { limits } = config;
    const timeoutMs = (): number => shared.timeoutMs;
    return startLinkServer(address, {
      timeoutMsMax: timeoutMs,
      send: withoutClaims(withMeshService(router, withStats(router.send, callStats, 'inside', router, clock))),
      limits: { ...limits, pipelineMax: Math.max(limits.pipelineMax, CALLS_MAX) },
      ledger,
      timeoutMs,
      caller: CHASSIS,
      identity: CHASSIS_CALLER,
      flushAt: 'immediate',
    });
  }
}

/** A chassis can claim any caller in its calls. The admin service records and limits callers, so it is not told. */
function withoutClaims(send: Send): Send {
  return (call, sink) => {
    const isAdmin = isAdminService(call.service) || call.service === '';
    send(isAdmin ? withCall(call, { caller: CHASSIS }) : call, sink);
  };
}

const CHASSIS = 'a chassis';
const SOCKET = 'mesh.sock';
/** Concurrent calls of one chassis into the mesh. */
const CALLS_MAX = 1_024;

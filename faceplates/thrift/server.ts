// The Thrift faceplate: one TCP port on which ordinary Thrift clients call the mesh. It accepts connections up to its
// limit, sweeps over
import { formatAddress, systemClock, type Clock, type FaceplateLimits } from '../../core/mod.ts';
import type { MeshAccess, StatsTable } from '../../core/rpc/mod.ts';
import type { Faceplate } from '../kit/mod.ts';
import { type ConnectionHost, pipelineLimitsOf, ThriftConnection } from './connection.ts';
import { MethodTargets } from './method-targets.ts';
import { tooManyConnections } from './refusals.ts';
import { TlsListener, type ThriftTls } from './tls-door.ts';

// them with one timer, and ends them; what a connection does is in connection.ts. It knows no service: names go to
// the mesh as they come.

import { createServer, type AddressInfo, type Socket } from 'node:net';

export interface ThriftFaceplateOptions {
  readonly mesh: MeshAccess;
  readonly book: StatsTable;
  readonly limits: FaceplateLimits;
  readonly host: string;
  /** 0 for any free port. */
  readonly port: number;
  /** Service of calls that name none; without it the one service that has the method is meant. */
  readonly defaultService?: string;
  /** TLS on the same port; without it none is spoken. */
  readonly tls?: ThriftTls;
  readonly clock?: Clock;
}

/** The running faceplate. */
export interface ThriftFaceplate extends Faceplate {
  readonly port: number;
  /**
   * Takes no new connection and lets calls that have begun end, each connection after its last answer; later ones are
   * refused with `draining`. Idle connections have a moment for one more call: Thrift cannot say "no more on this
   * connection", so one that is closed with a call on its way loses it. Resolves when all are gone, at the latest
   * when every deadline has passed.
   */
  drain(): Promise<void>;
}

/** Listens. @throws the error of node:net when the address cannot be had. */
export async function startThriftFaceplate(options: ThriftFaceplateOptions): Promise<ThriftFaceplate> {
  const { mesh, book, limits, host, port, defaultService = '', clock = systemClock } = options;
  const connections = new Set<ThriftConnection>();
  let onewaysUnderWay = 0;
  let onChange: (() => void) | undefined;
  const door =
    options.tls === undefined
      ? undefined
      : new TlsListener({ tls: options.tls, handshakeMs: limits.requestMs, onSecure: (socket) => admit(socket, true) });
  const shared: ConnectionHost = {
    startTls: door === undefined ? undefined : (socket, begun) => door.enter(socket, begun),
    isTlsRequired: door?.isRequired ?? false,
    mesh,
    limits,
    pipelineLimits: pipelineLimitsOf(limits),
    clock,
    targets: new MethodTargets({ mesh, book, defaultService }),
    onewayStarted() {
      onewaysUnderWay++;
    },
    onewayEnded() {
      onewaysUnderWay--;
      onChange?.();
    },
    onClose(connection) {
      connections.delete(connection);
      onChange?.();
    },
  };

  const admit = (socket: Socket, isSecure: boolean): void => {
    const taken = connections.size + (door?.size ?? 0);
    // Those that are told why they are refused take places as well; when these are full too, nothing is said.
    if (taken >= limits.connectionsMax + REFUSALS_MAX) {
      socket.destroy();
      return;
    }
    const connection = new ThriftConnection(socket, shared, isSecure);
    connections.add(connection);
    if (taken >= limits.connectionsMax) connection.refuse(tooManyConnections(limits.connectionsMax));
  };
  const server = createServer((socket) => admit(socket, false));
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, backlog: BACKLOG }, () => {
      server.off('error', reject);
      resolve();
    });
  });
  // A connection that cannot be accepted (no file descriptor left) is tried again by the kernel; it is no reason to
  // end.
  server.on('error', () => {});

  const sweepMs = Math.min(SWEEP_MS_MAX, Math.max(10, Math.min(limits.idleMs, limits.requestMs) / 4));
  let stopSweeping: (() => void) | undefined;
  const sweep = (): void => {
    const nowMs = clock.nowMs();
    for (const connection of connections) connection.sweep(nowMs);
    stopSweeping = clock.after(sweepMs, sweep);
  };
  stopSweeping = clock.after(sweepMs, sweep);

  let closed: Promise<void> | undefined;
  const stopListening = (): Promise<void> => (closed ??= new Promise((resolve) => server.close(() => resolve())));
  const close = async (): Promise<void> => {
    const stopped = stopListening();
    for (const connection of connections) connection.close();
    door?.close();
    stopSweeping?.();
    onChange?.();
    await stopped;
  };
  /** Resolves when nothing is left, and after so long all the same. */
  const whenGone = (withinMs: number): Promise<void> =>
    new Promise((resolve) => {
      const takeBack = clock.after(withinMs, resolve);
      onChange = () => {
        if (connections.size > 0 || onewaysUnderWay > 0) return;
        takeBack();
        resolve();
      };
      onChange();
    });
  const drain = async (): Promise<void> => {
    const stopped = stopListening();
    // What the kernel has received already counts as begun.
    await new Promise((resolve) => setImmediate(resolve));
    for (const connection of connections) connection.beginGracefulClose();
    await whenGone(LAST_CALL_MS);
    for (const connection of connections) connection.drain();
    await whenGone(mesh.timeoutMs() + FLUSH_MS);
    await close();
    await stopped;
  };

  const bound = server.address() as AddressInfo;
  const address = formatAddress({ host: bound.address, port: bound.port });
  return { address, port: bound.port, connections: () => connections.size, drain, close };
}

/** Connections over the limit that are told so at one time. */
const REFUSALS_MAX = 1_000;
/** Connections that the kernel may hold ready for us. */
const BACKLOG = 4_096;
const SWEEP_MS_MAX = 1_000;
/** What an idle connection has for one more call when a drain begins. */
const LAST_CALL_MS = 250;
/** What a drain allows, beyond the last deadline, for answers to be read. */
const FLUSH_MS = 2_000;

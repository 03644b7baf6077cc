// The Thrift faceplate: a TCP port on which ordinary Thrift clients call the mesh. It accepts connections up to its
// limit, sweeps them with one timer, and drains; connection.ts handles one connection. It knows no service: method
// names go to the mesh unchanged.
import { formatAddress, systemClock, type Clock, type FaceplateLimits } from '../../core/mod.ts';
import type { MeshAccess, StatsTable } from '../../core/rpc/mod.ts';
import type { Faceplate } from '../kit/mod.ts';
import { type ConnectionHost, pipelineLimitsOf, ThriftConnection } from './connection.ts';
import { MethodTargets } from './method-targets.ts';
import { tooManyConnections } from './refusals.ts';
import { TlsListener, type ThriftTls } from './tls-listener.ts';

import { createServer, type AddressInfo, type Socket } from 'node:net';

export interface ThriftFaceplateOptions {
  readonly mesh: MeshAccess;
  readonly book: StatsTable;
  readonly limits: FaceplateLimits;
  readonly host: string;
  /** 0 means any free port. */
  readonly port: number;
  /** Service of calls that name none; without it, the only service that has the method. */
  readonly defaultService?: string;
  /** TLS on the same port; default none. */
  readonly tls?: ThriftTls;
  readonly clock?: Clock;
}

/** A running Thrift faceplate. */
export interface ThriftFaceplate extends Faceplate {
  readonly port: number;
  /**
   * Accepts no more connections and finishes the calls that have begun; each connection closes after its last reply,
   * and later calls are refused with `draining`. Idle connections may send one more call for a moment: Thrift has no
   * message for "no more calls on this connection", so a call that is on its way when the connection closes is lost.
   * Resolves when all connections have closed, at the latest when every deadline has passed.
   */
  drain(): Promise<void>;
}

/** Starts listening. Rejects with the error of node:net (`EADDRINUSE`) when it cannot. */
export async function startThriftFaceplate(options: ThriftFaceplateOptions): Promise<ThriftFaceplate> {
  const { mesh, book, limits, host, port, defaultService = '', clock = systemClock } = options;
  const connections = new Set<ThriftConnection>();
  let onewaysUnderWay = 0;
  let onChange: (() => void) | undefined;
  const tlsListener =
    options.tls === undefined
      ? undefined
      : new TlsListener({ tls: options.tls, handshakeMs: limits.requestMs, onSecure: (socket) => admit(socket, true) });
  const shared: ConnectionHost = {
    startTls: tlsListener === undefined ? undefined : (socket, begun) => tlsListener.enter(socket, begun),
    isTlsRequired: tlsListener?.isRequired ?? false,
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
    const taken = connections.size + (tlsListener?.size ?? 0);
    // Connections that are told why they are refused take places too. When these are full as well, a connection is
    // closed without a word.
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
  // The kernel offers a connection again that could not be accepted (no file descriptor left); the server goes on.
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
    tlsListener?.close();
    stopSweeping?.();
    onChange?.();
    await stopped;
  };
  /** Resolves when no connection and no oneway call is left, at the latest after `withinMs`. */
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

/** Connections over the limit that may be told so at one time. */
const REFUSALS_MAX = 1_000;
/** Connections that the kernel holds until they are accepted. */
const BACKLOG = 4_096;
const SWEEP_MS_MAX = 1_000;
/** How long an idle connection may send one more call when a drain begins, in ms. */
const LAST_CALL_MS = 250;
/** How long a drain waits, beyond the last deadline, for replies to be read, in ms. */
const FLUSH_MS = 2_000;

// The Thrift faceplate: a TCP port on which ordinary Thrift clients call the mesh. OrderedServer accepts, limits,
// sweeps and drains the connections; connection.ts handles one connection. The faceplate knows no service: method
// names go to the mesh unchanged.
import { HttpGuard, type HttpAccess } from '../../core/http/mod.ts';
import { OrderedServer, TlsListener, type ServerTls } from '../../core/link/mod.ts';
import { ByteLedger, formatAddress, systemClock, type Clock, type FaceplateLimits } from '../../core/mod.ts';
import type { MeshAccess, StatsTable } from '../../core/rpc/mod.ts';
import type { Faceplate } from '../kit/mod.ts';
import { type ConnectionHost, pipelineLimitsOf, ThriftConnection } from './connection.ts';
import { MethodTargets } from './method-targets.ts';
import { tooManyConnections } from './refusals.ts';

/** TLS of the Thrift port. */
export interface ThriftTls extends ServerTls {
  /** Refuses clients that do not speak TLS. */
  readonly isRequired: boolean;
}

export interface ThriftFaceplateOptions {
  readonly mesh: MeshAccess;
  readonly callStats: StatsTable;
  readonly limits: FaceplateLimits;
  readonly host: string;
  /** 0 means any free port. */
  readonly port: number;
  /** Service of calls that name none; without it, the only service that has the method. */
  readonly defaultService?: string;
  /** TLS on the same port; default none. */
  readonly tls?: ThriftTls;
  /** Host names and origins of requests of Thrift over HTTP. */
  readonly access?: HttpAccess;
  readonly clock?: Clock;
  /** The ledger of the process; without it, the sums in `limits` bound this port alone. */
  readonly ledger?: ByteLedger;
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
  const { mesh, callStats, limits, host, port, defaultService = '', tls, clock = systemClock } = options;
  const ledger = options.ledger ?? new ByteLedger(limits);
  const tlsListener =
    tls === undefined
      ? undefined
      : new TlsListener({
          tls,
          handshakeMs: limits.requestMs,
          onSecure: (socket) => server.admit(socket, () => new ThriftConnection(socket, shared, true)),
        });
  const guard = new HttpGuard(options.access, { postsAreCalls: true });
  const shared: ConnectionHost = {
    guard,
    startTls: tlsListener === undefined ? undefined : (socket, begun) => tlsListener.enter(socket, begun),
    isTlsRequired: tls?.isRequired ?? false,
    mesh,
    limits,
    pipelineLimits: pipelineLimitsOf(limits),
    clock,
    ledger,
    targets: new MethodTargets({ mesh, callStats, defaultService }),
    onewayStarted: () => server.detachedCallBegins(),
    onewayEnded: () => server.detachedCallEnds(),
    onClose: (connection) => server.onClose(connection),
  };
  const server: OrderedServer<ThriftConnection> = new OrderedServer({
    limits,
    clock,
    open: (socket) => new ThriftConnection(socket, shared),
    tooMany: tooManyConnections,
    timeoutMs: () => mesh.timeoutMs(),
    handshakes: () => tlsListener?.size ?? 0,
  });
  const bound = await server.listen({ host, port });
  return {
    address: formatAddress(bound),
    port: bound.port,
    connections: () => server.size,
    async drain() {
      await server.drain();
      tlsListener?.close();
    },
    async close() {
      tlsListener?.close();
      await server.close();
    },
  };
}

// A Thrift faceplate in front of the Exchange service, with limits of the test's choice. `end()` closes everything.
import { exchange, type Exchange } from '../../kit/wire/exchange.ts';
import { DEFAULT_LIMITS, type ByteLedger, type Clock, type FaceplateLimits } from '../../../core/mod.ts';
import type { HttpAccess } from '../../../core/http/mod.ts';
import { StatsTable } from '../../../core/rpc/mod.ts';
import { startThriftFaceplate, type ThriftTls } from '../../../faceplates/thrift/mod.ts';
import type { ThriftFaceplate } from '../../../faceplates/thrift/server.ts';
import { callBytes, rawThrift, type RawThrift } from '../../kit/wire/raw-thrift.ts';

export interface Fixture {
  readonly behind: Exchange;
  readonly callStats: StatsTable;
  readonly faceplate: ThriftFaceplate;
  readonly connect: (framed?: boolean, tls?: Parameters<typeof rawThrift>[2]) => Promise<RawThrift>;
  /** The bytes of a call to Exchange. */
  readonly bytes: (method: string, args: Record<string, unknown>, options?: Parameters<typeof callBytes>[3]) => Buffer;
  end(): Promise<void>;
}

export async function startFixture(
  options: {
    limits?: Partial<FaceplateLimits>;
    clock?: Clock;
    defaultService?: string;
    behind?: Exchange;
    tls?: ThriftTls;
    access?: HttpAccess;
    ledger?: ByteLedger;
  } = {},
): Promise<Fixture> {
  const { behind = exchange(), limits, ...rest } = options;
  const callStats = new StatsTable();
  const clients: RawThrift[] = [];
  const faceplate = await startThriftFaceplate({
    mesh: behind.mesh,
    callStats,
    limits: { ...DEFAULT_LIMITS, ...limits },
    host: '127.0.0.1',
    port: 0,
    ...rest,
  });
  return {
    behind,
    callStats,
    faceplate,
    async connect(framed = true, tls) {
      const client = await rawThrift(faceplate.port, framed, tls);
      clients.push(client);
      return client;
    },
    bytes: (method, args, more) => callBytes(behind.interface, method, args, more),
    async end() {
      for (const client of clients) client.destroy();
      await faceplate.close();
    },
  };
}

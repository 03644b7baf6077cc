// Fills a real Consul with many pools. Their managers exist only as records, with one shared port that answers every
// call. This loads the membership that a faceplate must track; no client calls these pools.

import { parseIdl } from '../core/idl/mod.ts';
import { startLinkServer } from '../core/link/mod.ts';
import { DEFAULT_LIMITS } from '../core/mod.ts';
import { EMPTY_STRUCT, NO_REPLY_CONTEXT } from '../core/rpc/mod.ts';
import type { Interface } from '../core/thrift/mod.ts';
import { consulClient } from '../services/consul/mod.ts';
import { EventLog, keysOf, Presence, type PoolRecord } from '../services/mesh/mod.ts';

import { startRealConsul } from '../test/kit/consul/consul.ts';

export interface Crowd {
  /** URL of the Consul server. */
  readonly consul: string;
  [Symbol.asyncDispose](): Promise<void>;
}

export async function startCrowd(pools: number): Promise<Crowd> {
  const consul = await startRealConsul();
  const link = await startLinkServer('tcp:127.0.0.1:0', {
    send: (_call, sink) => sink.reply({ isException: false, body: EMPTY_STRUCT, context: NO_REPLY_CONTEXT }),
    limits: DEFAULT_LIMITS,
    timeoutMs: () => 10_000,
    caller: 'bench',
  });
  const port = Number(link.address.split(':').at(-1));
  const keys = keysOf('bench');
  const client = consulClient({ address: consul.address });
  const presences: Presence[] = [];
  for (let first = 0; first < pools; first += POOLS_PER_MANAGER) {
    const records: PoolRecord[] = [];
    for (let n = first; n < Math.min(pools, first + POOLS_PER_MANAGER); n++) {
      const service = `Crowd${n}`;
      const source = { main: 'crowd.thrift', files: { 'crowd.thrift': `service ${service} { i32 crowded() }` } };
      const { id } = parseIdl(source).services.get(service) as Interface;
      await client.put(keys.idl + id, JSON.stringify(source));
      const version = '1.0.0';
      records.push({
        id: `${service}@${version}`,
        service,
        version,
        roles: [],
        tags: [],
        more: {},
        interfaceId: id,
        alive: 1,
      });
    }
    const name = `crowd-${first}`;
    const presence = new Presence({
      client: consulClient({ address: consul.address }),
      mesh: 'bench',
      name,
      roles: ['manager'],
      listeners: [{ service: 'katamari-manager', host: '127.0.0.1', port }],
      events: new EventLog(name),
      onError: () => undefined,
    });
    const address = `127.0.0.1:${port}`;
    const record = { address, machine: name, capacity: 1, isDraining: false, stats: '', pools: records };
    presence.keep(keys.managers + name, () => record);
    presences.push(presence);
  }
  return {
    consul: `http://${consul.address}`,
    async [Symbol.asyncDispose]() {
      await Promise.all(presences.map((presence) => presence.close()));
      await link.close();
      await consul.close();
    },
  };
}

const POOLS_PER_MANAGER = 100;

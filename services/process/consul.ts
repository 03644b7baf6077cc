// This process's Consul: the embedded agent, or the client to a real one as the configuration and CONSUL_* say; and
// the figures of its use.
import { urlOf } from '../../core/mod.ts';
import type { MetricFamily } from '../../faceplates/stats/mod.ts';
import type { Config } from '../config/mod.ts';
import { startConsulAgent } from '../consul-agent/mod.ts';
import { consulClient, consulOptionsOf, type ConsulClient } from '../consul/mod.ts';
import type { EventLog } from '../mesh/mod.ts';
import path from 'node:path';

export interface OpenedConsul {
  readonly client: ConsulClient;
  /** For people. */
  readonly address: string;
  /** Ends the embedded agent; nothing when there is none. */
  close(): Promise<void>;
}

export async function openConsul(config: Config, events: EventLog): Promise<OpenedConsul> {
  const { consul, ports, dataDir } = config;
  if (!consul.embedded) {
    const { options, notes } = consulOptionsOf(process.env);
    for (const note of notes) events.add('consul_lost', consul.address, note);
    const { address, token, caFile, certFile, keyFile } = consul;
    const given = Object.fromEntries(
      Object.entries({ address, token, caFile, certFile, keyFile }).filter(([, value]) => value !== ''),
    );
    return { client: consulClient({ ...options, ...given }), address, close: () => Promise.resolve() };
  }
  const agent = await startConsulAgent({
    host: '127.0.0.1',
    port: ports.consul,
    dataDir: path.join(dataDir, 'consul'),
    onNote: (text) => events.add('consul_lost', 'embedded agent', text),
  });
  const address = urlOf({ host: agent.address, port: agent.port });
  return { client: consulClient({ address }), address, close: () => agent.close() };
}

/** What the metrics tell of it. */
export interface ConsulUse {
  readonly requests: number;
  readonly errors: number;
  /** Since Consul last answered each watch, in ms. */
  readonly watchAgesMs: readonly number[];
  /** Of the sessions of this process. */
  readonly sessions: readonly { readonly isHeld: boolean; readonly renewals: number; readonly losses: number }[];
}

export function consulFigures({ requests, errors, watchAgesMs, sessions }: ConsulUse): Iterable<MetricFamily> {
  const one = (name: string, type: 'counter' | 'gauge', help: string, value: number): MetricFamily => ({
    name: `katamari_consul_${name}`,
    help,
    type,
    samples: [{ labels: {}, value }],
  });
  const oldestMs = Math.max(0, ...watchAgesMs.filter(Number.isFinite));
  const isHeld = sessions.length > 0 && sessions.every((session) => session.isHeld);
  const sum = (of: 'renewals' | 'losses'): number => sessions.reduce((total, session) => total + session[of], 0);
  return [
    one('requests_total', 'counter', 'Requests sent to Consul.', requests),
    one('errors_total', 'counter', 'Requests to Consul that failed.', errors),
    one('watch_age_seconds', 'gauge', 'Age of the oldest answer that what is known rests on.', oldestMs / 1000),
    one('session_held', 'gauge', 'Whether the sessions of this process stand: 1 or 0.', isHeld ? 1 : 0),
    one('session_renewals_total', 'counter', 'Renewals of sessions.', sum('renewals')),
    one('session_losses_total', 'counter', 'Times a session was lost and made anew.', sum('losses')),
  ];
}

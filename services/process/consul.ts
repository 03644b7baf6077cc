// Opens Consul for this process: starts the embedded agent, or creates a client of a real agent from the
// configuration and CONSUL_* variables. Collects the metrics of Consul.

import { urlOf } from '../../core/mod.ts';
import type { MetricFamily } from '../../faceplates/stats/mod.ts';
import { startConsulAgent } from '../consul-agent/mod.ts';
import { consulTokensOf } from '../config/mod.ts';
import { consulClient, consulOptionsOf, type ConsulClient, type SessionStats, type WatchStats } from '../consul/mod.ts';
import { documentSigner } from '../mesh/mod.ts';
import { auditBadToken, auditedAccess } from './audit-refusals.ts';
import { reportForged } from './forged-documents.ts';
import type { ProcessContext } from './process-context.ts';
import path from 'node:path';

export interface OpenConsul {
  readonly client: ConsulClient;
  /** Address that `katamari up` and events show. */
  readonly address: string;
}

/** Starts the embedded agent if there is one, and creates the client. */
export async function openConsul({
  config,
  clock,
  events,
  audit,
  components,
  security,
  credentials,
}: ProcessContext): Promise<OpenConsul> {
  const { consul, ports, dataDir, mesh } = config;
  const from = consul.embedded ? 'the embedded Consul' : `Consul ${consul.address}`;
  const signer = reportForged(
    documentSigner(mesh, () => security.secrets),
    audit,
    from,
  );
  let tokens: readonly string[] = [];
  let tokensBefore: readonly string[] = [];
  let changedAtMs = 0;
  let client: ConsulClient | undefined;
  credentials.add({
    name: 'consul',
    files: [consul.token === '' ? consul.tokenFile : '', consul.caFile, consul.certFile, consul.keyFile],
    load: () => {
      tokensBefore = tokens;
      changedAtMs = clock.nowMs();
      tokens = consulTokensOf(config);
      client?.renew(tokens[0] ?? '');
    },
  });
  const [token = ''] = tokens;
  if (!consul.embedded) {
    const { options, notes } = consulOptionsOf(process.env);
    for (const note of notes) events.add('consul_lost', consul.address, note);
    const { address, caFile, certFile, keyFile } = consul;
    const given = Object.fromEntries(
      Object.entries({ address, token, caFile, certFile, keyFile }).filter(([, value]) => value !== ''),
    );
    client = consulClient({ ...options, ...given, signer });
    return { client, address };
  }
  const access = auditedAccess(config, audit);
  const agent = await startConsulAgent({
    host: '127.0.0.1',
    port: ports.consul,
    // Requests that are under way with the old token are not refused.
    tokens: () => (clock.nowMs() - changedAtMs < OLD_TOKEN_MS ? [...tokens, ...tokensBefore] : tokens),
    dataDir: path.join(dataDir, 'consul'),
    hosts: access.hosts,
    onBadOrigin: access.onRefused,
    onBadToken: (client, request, why) => auditBadToken(audit, client, request, why),
    onNote: (text) => events.add('consul_lost', 'embedded agent', text),
  });
  components.register({ stage: 'consul', close: () => agent.close() });
  const address = urlOf({ host: agent.address, port: agent.port });
  client = consulClient({ address, token, signer });
  return { client, address };
}

/** The `katamari_consul_*` metrics, read from the sessions and watches of this process. */
export class ConsulMetrics {
  readonly #client: ConsulClient;
  readonly #sessions: (() => SessionStats | undefined)[] = [];
  readonly #watches: (() => readonly (WatchStats | undefined)[])[] = [];

  constructor(client: ConsulClient) {
    this.#client = client;
  }

  /** Includes a session; `read` returns undefined while there is none. */
  addSession(read: () => SessionStats | undefined): void {
    this.#sessions.push(read);
  }

  addWatches(read: () => readonly (WatchStats | undefined)[]): void {
    this.#watches.push(read);
  }

  families(): readonly MetricFamily[] {
    const { requests, errors } = this.#client.stats();
    const sessions = this.#sessions.map((read) => read()).filter((session) => session !== undefined);
    const agesMs = this.#watches.flatMap((read) => read()).map((watch) => watch?.ageMs ?? 0);
    const oldestMs = Math.max(0, ...agesMs.filter(Number.isFinite));
    const isHeld = sessions.length > 0 && sessions.every((session) => session.isHeld);
    const sum = (of: 'renewals' | 'losses'): number => sessions.reduce((total, session) => total + session[of], 0);
    return [
      family('requests_total', 'counter', 'Requests sent to Consul.', requests),
      family('errors_total', 'counter', 'Requests to Consul that failed.', errors),
      family('watch_age_seconds', 'gauge', 'Time since the last answer to the stalest watch.', oldestMs / 1000),
      family('session_held', 'gauge', 'Whether this process holds all of its sessions: 1 or 0.', isHeld ? 1 : 0),
      family('session_renewals_total', 'counter', 'Session renewals.', sum('renewals')),
      family('session_losses_total', 'counter', 'Sessions that were lost and created again.', sum('losses')),
    ];
  }
}

function family(name: string, type: 'counter' | 'gauge', help: string, value: number): MetricFamily {
  return { name: `katamari_consul_${name}`, help, type, samples: [{ labels: {}, value }] };
}

/** How long the embedded agent accepts the token that was replaced. */
const OLD_TOKEN_MS = 2_000;

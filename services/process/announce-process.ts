// Registers this process in Consul: a session, a record for each of its roles, and a Consul service for each of its
// listeners.

import { formatAddress, urlOf, type Address } from '../../core/mod.ts';
import { keysOf, Presence, type FaceplateRecord, type ListenAddress } from '../mesh/mod.ts';
import type { FaceplateRole } from './faceplate-role.ts';
import type { ManagerRole } from './manager-role.ts';
import type { ProcessBase } from './process-base.ts';

/**
 * The session depends on a health check of a port that stays open until the end: the link of a manager, else stats.
 * The ports for clients close earlier, and leave Consul before they close.
 * @param stats advertised address of the stats faceplate
 */
export function announceProcess(
  base: ProcessBase,
  manager: ManagerRole | undefined,
  faceplate: FaceplateRole | undefined,
  stats: Address,
): Presence {
  const { client, config, events, components, offers, reachability, roles, consulMetrics } = base;
  const statsListener = { service: 'katamari-stats', ...stats };
  const faceplates = faceplateListeners(base.advertised, faceplate);
  const presence = new Presence({
    client,
    mesh: config.mesh,
    name: config.name,
    roles,
    listeners:
      manager === undefined
        ? [statsListener, ...faceplates]
        : [{ service: 'katamari-manager', ...manager.advertisedLink }, ...faceplates, statsListener],
    events,
    onError: reachability.failed,
    isLeaving: () => components.isDraining,
    isConsulHere: config.consul.embedded,
  });
  components.register({ stage: 'presence', close: () => presence.close() });
  const keys = keysOf(config.mesh);
  const statsUrl = urlOf(stats, config.stats.tls.certFile !== '');
  if (manager !== undefined) presence.keep(keys.managers + config.name, () => manager.record(statsUrl));
  manager?.announceHoldings(presence);
  if (faceplate !== undefined) {
    const record = faceplateRecord(base, faceplate, statsUrl);
    presence.keep(keys.faceplates + config.name, () => record);
  }
  reachability.onBack(() => presence.onConsulBack());
  offers.onChange(() => presence.changed());
  consulMetrics.addSession(() => presence.stats());
  return presence;
}

function faceplateListeners(host: string, faceplate: FaceplateRole | undefined): readonly ListenAddress[] {
  const addresses = [...(faceplate?.addresses ?? [])];
  return addresses.map(([name, { port }]) => ({ service: `katamari-${name}`, host, port }));
}

function faceplateRecord(base: ProcessBase, { addresses }: FaceplateRole, stats: string): FaceplateRecord {
  const { config, advertised: host } = base;
  const write = (name: string, format: (address: Address) => string): string => {
    const address = addresses.get(name);
    return address === undefined ? '' : format({ host, port: address.port });
  };
  return {
    machine: config.machine,
    thrift: write('thrift', formatAddress),
    jsonRpc: write('json-rpc', (address) => urlOf(address, config.jsonRpc.tls.certFile !== '')),
    web: write('web', (address) => urlOf(address, config.web.tls.certFile !== '')),
    added: Object.fromEntries(config.faceplates.map(({ name }) => [name, write(name, formatAddress)])),
    stats,
  };
}

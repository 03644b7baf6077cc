// Joins the mesh: reads its settings, routes and managers from Consul and follows their changes. If Consul does not
// answer in time, the process starts with the snapshot that it wrote before.

import { PolicyStore } from '../access/mod.ts';
import { VERSION } from '../config/mod.ts';
import { Gatherer } from '../gather/mod.ts';
import {
  Fleet,
  ManifestCache,
  Reachability,
  SharedState,
  SnapshotFile,
  type Snapshot,
  VersionReports,
} from '../mesh/mod.ts';
import { ConsulMetrics, type OpenConsul } from './consul.ts';
import type { ProcessBase } from './process-base.ts';
import type { ProcessContext } from './process-context.ts';
import { StatusReporter } from './status-reporter.ts';
import { VersionObserver } from './version-observer.ts';
import path from 'node:path';

/** Resolves once the managers of the mesh and their interfaces are known, at the latest after CONSUL_WAIT_MS. */
export async function joinMesh(context: ProcessContext, consul: OpenConsul): Promise<ProcessBase> {
  const { config, events, clock, router, access, roles, offers, components, security } = context;
  const { mesh, timeoutMs, dataDir, limits } = config;
  const routes = new Map(Object.entries(config.routes));
  const { client } = consul;
  const reachability = new Reachability(consul.address, events);
  const shared = new SharedState({ client, mesh, events, reachability, initial: { timeoutMs, routes } });
  components.register({ stage: 'consul', close: () => shared.close() });
  const policy = new PolicyStore({
    client,
    mesh,
    dataDir,
    events,
    reachability,
    clock,
    apply: (rules, quotas) => {
      router.setPolicy(rules);
      access.quotas.set(quotas);
    },
  });
  components.register({ stage: 'consul', close: () => policy.close() });
  const fleet = new Fleet({
    client,
    mesh,
    self: roles.includes('manager') ? config.name : '',
    events,
    clock,
    security,
    limits,
    connects: roles.includes('faceplate') ? 'at once' : 'on demand',
    onChange: () => offers.changed(),
    onAnswer: reachability.answered,
    onError: reachability.failed,
  });
  components.register({ stage: 'fleet', close: () => fleet.close() });
  const manifests = new ManifestCache({ client, mesh, folder: path.join(dataDir, 'manifests') });
  const gatherer = new Gatherer({
    client,
    mesh,
    self: config.name,
    manifests,
    events,
    reachability,
    clock,
    peers: () => fleet.peers,
    onChange: () => offers.changed(),
    mayCall: (identity, pool, method) => router.mayCall(identity, pool, method),
    version: VERSION,
    choose: (query) => router.choose(query),
  });
  components.register({ stage: 'fleet', close: () => gatherer.close() });
  offers.addSource(() => fleet.offers());
  offers.addDerived((pools) => gatherer.offers(pools));
  offers.addDesired(() => gatherer.deployed());
  offers.addRunning(() => fleet.deployed());
  offers.addDesired(() => shared.deployed);
  reachability.onBack(() => {
    // Consul may have come back empty, without the interfaces that this process has published.
    fleet.interfaces.forgetPublished();
    offers.changed();
  });
  const snapshotFile = new SnapshotFile({ dataDir, events, clock, take: () => takeSnapshot(fleet, shared, gatherer) });
  components.register({ stage: 'presence', close: () => snapshotFile.close() });
  offers.onChange(() => snapshotFile.changed());

  const versions = new VersionReports({ clock, own: (service) => router.versionReports(config.name, service) });
  const observer = new VersionObserver({ name: config.name, clock, peers: () => fleet.peers, own: versions.read });
  components.register({ stage: 'fleet', drain: () => observer.drain(), close: () => observer.close() });
  if (!roles.includes('manager')) observer.start();

  const snapshot = await snapshotFile.read();
  for (const [id, { service, source }] of Object.entries(snapshot?.interfaces ?? {})) {
    fleet.interfaces.addSource({ id, service }, source);
  }
  const started = Promise.all([
    shared.start(
      (changed) => {
        router.setRoutes(changed);
        snapshotFile.changed();
      },
      () => offers.changed(),
    ),
    fleet.start(),
    policy.start(),
    gatherer.start(),
  ]).then(() => true);
  // Wait for the interfaces too. Without them, the faceplates would refuse calls to pools that exist.
  const known = started.then(() => fleet.whenInterfacesKnown());
  const timedOut = new Promise<void>((resolve) => clock.after(CONSUL_WAIT_MS, resolve));
  await Promise.race([known, timedOut]);
  const hasAnswered = await Promise.race([started, Promise.resolve(false)]);
  if (snapshot !== undefined && (!hasAnswered || fleet.records.size === 0)) {
    if (!hasAnswered) shared.loadSnapshot({ ...snapshot, routes: new Map(Object.entries(snapshot.routes)) });
    // A Consul that lost its data lists no managers until they register again. Their links still work.
    fleet.loadSnapshot(new Map(Object.entries(snapshot.managers)));
    gatherer.loadSnapshot(new Map(Object.entries(snapshot.indices ?? {})));
    const why = hasAnswered ? 'lists no manager' : 'does not answer';
    // An embedded Consul lists none whenever the mesh starts again.
    if (!hasAnswered || !config.consul.embedded)
      events.add('consul_lost', config.consul.address, `${why}; started with the snapshot of ${snapshot.takenAt}`);
  }
  snapshotFile.enable();
  const consulMetrics = new ConsulMetrics(client);
  consulMetrics.addWatches(() => [...shared.stats(), fleet.stats(), policy.stats(), gatherer.stats()]);
  const status = new StatusReporter(context, shared);
  return {
    ...context,
    client,
    consulMetrics,
    reachability,
    shared,
    fleet,
    gatherer,
    manifests,
    policy,
    status,
    versions,
    observer,
  };
}

function takeSnapshot(fleet: Fleet, shared: SharedState, gatherer: Gatherer): Snapshot {
  const managers = Object.fromEntries(fleet.records);
  const pools = Object.values(managers).flatMap((record) => record.pools);
  const interfaces = pools.flatMap(({ interfaceId, service }) => {
    const known = fleet.interfaces.get({ id: interfaceId, service });
    return known === undefined ? [] : [[interfaceId, { service, source: known.source }] as const];
  });
  const { timeoutMs, routes } = shared;
  return {
    managers,
    interfaces: Object.fromEntries(interfaces),
    timeoutMs,
    routes: Object.fromEntries(routes),
    indices: Object.fromEntries(gatherer.records),
    takenAt: new Date().toISOString(),
  };
}

/** How long a start waits for Consul before it uses the snapshot. */
const CONSUL_WAIT_MS = 2_000;

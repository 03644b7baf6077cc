// Compares what Consul has of the processes of a cluster with what it should have: every service, session and key of
// each process, held and exactly once.
import type { Role } from './process.ts';
import type { Cluster } from './cluster.ts';
import { keysOf } from '../../../services/mesh/mod.ts';
import { until } from '../tools/wait.ts';

/**
 * One line for each entry that is missing, duplicated or unowned; empty when every running process is registered once
 * with all its entries. @throws Error while Consul does not answer
 */
export async function registrationFaults(cluster: Cluster): Promise<string[]> {
  const { prefix, managers, masters, faceplates, leader } = keysOf('test');
  const [services, sessions, keys] = await Promise.all([
    servicesOf(cluster),
    ask<readonly RawSession[]>(cluster, '/v1/session/list?consistent'),
    ask<readonly RawKey[] | null>(cluster, `/v1/kv/${prefix}?recurse&consistent`),
  ]);
  const running = cluster.processes.filter(({ isRunning }) => isRunning);
  const held = new Map((keys ?? []).map(({ Key, Session = '' }) => [Key, Session]));
  const folders = { manager: managers, master: masters, faceplate: faceplates };
  const living = [managers, masters, faceplates].flatMap((folder) =>
    [...held.keys()].filter((key) => key.startsWith(folder)),
  );
  const isHeld = (key: string): boolean => sessions.some(({ ID }) => ID === held.get(key));
  return [
    ...compared(
      'service',
      running.flatMap(({ name, role }) => SERVICES[role].map((service) => `${service}:${name}`)),
      services,
    ),
    ...compared(
      'session',
      running.flatMap(({ name, role }) => SESSIONS[role].map((service) => `${name} on ${service}:${name}`)),
      sessions.map(({ Name, Checks, ServiceChecks }) => `${plain(Name)} on ${checkOf(Checks, ServiceChecks)}`),
    ),
    ...compared(
      'key',
      running.map(({ name, role }) => `${folders[role]}${name}`),
      living,
    ),
    ...[leader, ...living].filter((key) => !isHeld(key)).map((key) => `key ${key} is held by no session`),
  ];
}

/** Waits until everything is registered exactly once. Returns how long that took, in ms. */
export async function untilRegistered(cluster: Cluster, withinMs: number): Promise<number> {
  const since = performance.now();
  let seen: readonly string[] = [];
  try {
    await until(
      'all processes to be registered once',
      async () => {
        seen = await registrationFaults(cluster).catch((error: Error) => [error.message]);
        return seen.length === 0;
      },
      withinMs,
    );
  } catch (error) {
    throw new Error(`${(error as Error).message}:\n${seen.join('\n')}`, { cause: error });
  }
  return performance.now() - since;
}

interface RawSession {
  readonly ID: string;
  readonly Name: string;
  readonly Checks: readonly string[] | null;
  readonly ServiceChecks: readonly { readonly ID: string }[] | null;
}

interface RawKey {
  readonly Key: string;
  readonly Session?: string;
}

/** Ids of the passing services of the mesh. A service that is registered at two agents occurs twice. */
async function servicesOf(cluster: Cluster): Promise<string[]> {
  const names = Object.keys(await ask<Record<string, unknown>>(cluster, '/v1/catalog/services?consistent'));
  const lists = await Promise.all(
    names
      .filter((name) => name.startsWith('katamari-'))
      .map((name) =>
        ask<readonly { Service: { ID: string }; Checks: readonly { Status: string }[] }[]>(
          cluster,
          `/v1/health/service/${name}?consistent`,
        ),
      ),
  );
  return lists
    .flat()
    .map(
      ({ Service, Checks }) =>
        `${plain(Service.ID)}${Checks.every(({ Status }) => Status === 'passing') ? '' : ' (not well)'}`,
    );
}

function checkOf(checks: RawSession['Checks'], serviceChecks: RawSession['ServiceChecks']): string {
  const ids = [...(checks ?? []), ...(serviceChecks ?? []).map(({ ID }) => ID)];
  return ids.map((id) => plain(id.replace(/^service:/, ''))).join(' and ');
}

/** Removes the mesh name from ids and names; there is only one mesh here. */
function plain(id: string): string {
  return id.replace(/(^|:)test:/, '$1');
}

function compared(what: string, wanted: readonly string[], found: readonly string[]): string[] {
  const count = (one: string): number => found.filter((other) => other === one).length;
  return [
    ...wanted.filter((one) => count(one) !== 1).map((one) => `${what} ${one} is there ${count(one)} times`),
    ...found.filter((one) => !wanted.includes(one)).map((one) => `${what} ${one} has no owner`),
  ];
}

async function ask<T>(cluster: Cluster, path: string): Promise<T> {
  const response = await cluster.consul.ask(path);
  if (response.ok) return (await response.json()) as T;
  if (response.status === 404) return null as T;
  throw new Error(`Consul answers ${response.status} to ${path}: ${(await response.text()).slice(0, 200)}`);
}

/** The services that a process of each role has in Consul. */
const SERVICES: Readonly<Record<Role, readonly string[]>> = {
  master: ['katamari-stats', 'katamari-master'],
  manager: ['katamari-manager', 'katamari-stats'],
  faceplate: ['katamari-thrift', 'katamari-json-rpc', 'katamari-stats'],
};
/** Services whose check controls a session. */
const SESSIONS: Readonly<Record<Role, readonly string[]>> = {
  master: ['katamari-stats', 'katamari-master'],
  manager: ['katamari-manager'],
  faceplate: ['katamari-stats'],
};

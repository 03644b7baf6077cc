// The admin service `Katamari` of idl/katamari.thrift, which `katamari status`, `deploy`, `drain`, `restart` and
// other commands call. Every method needs the admin token. The faceplates serve it like any other service. This file
// checks and converts arguments; the deployment store and the given actions do the work. It refuses to change
// deployments that come from a manager's configuration file, and names the manager.

import { parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import { KatamariError, type Clock } from '../../core/mod.ts';
import { sendOf, dispatchOf, serveHandlers, type MeshStatus } from '../../core/rpc/mod.ts';
import { ThriftException } from '../../core/thrift/mod.ts';
import { ConsulError } from '../consul/mod.ts';
import { deploymentId, thriftStatus, type EventLog, type Offer, type Route, type Routes } from '../mesh/mod.ts';
import { deploymentOf, OUTCOMES, thriftDeployment, type ThriftDeployment } from './admin-shapes.ts';
import type { DeploymentStore } from './deployment-store.ts';
import { timingSafeEqual, createHash } from 'node:crypto';

export interface AdminActions {
  /** Returns the status of the whole mesh: all known processes and the pools of every manager. */
  readonly status: () => Promise<MeshStatus>;
  readonly events: EventLog;
  readonly deployments: DeploymentStore;
  /**
   * Restarts a version on all its managers, one manager after the other. Resolves to the number of replaced
   * resources.
   */
  readonly roll: (service: string, version: string) => Promise<number>;
  /** Replaces one resource of one manager. */
  readonly restart: (resource: string, manager: string) => Promise<void>;
  readonly settings: () => { readonly timeoutMs: number };
  /** Sets the global timeout. Undefined restores the value of the configuration. */
  readonly setTimeoutMs: (timeoutMs: number | undefined) => Promise<void>;
  readonly routes: () => Routes;
  readonly setRoute: (service: string, route: Route) => Promise<void>;
}

export interface AdminOptions {
  readonly actions: AdminActions;
  readonly token: string;
  /** Version of Katamari, which is also the version of the service. */
  readonly version: string;
  readonly manager: string;
  readonly clock: Clock;
}

interface TokenArgs {
  readonly token: string;
}

interface VersionArgs extends TokenArgs {
  readonly serviceName: string;
  readonly version: string;
}

/** Returns the admin service as a pool with one resource: this process. */
export function adminOffer(options: AdminOptions): Offer {
  const source = readIdlFile(new URL('../../idl/katamari.thrift', import.meta.url));
  const iface = parseIdl(source).services.get('Katamari');
  if (iface === undefined) throw new KatamariError('internal', 'idl/katamari.thrift has no service Katamari');
  const serve = serveHandlers<undefined>({
    interface: iface,
    i64: 'number',
    contextOf: () => undefined,
    handlers: handlersOf(options),
  });
  const dispatch = dispatchOf(serve);
  return {
    id: `Katamari@${options.version}`,
    details: { service: 'Katamari', version: options.version, roles: [], tags: [], more: {} },
    interface: iface,
    manager: options.manager,
    isReachable: true,
    send: sendOf((call) => withDeadline(dispatch(call), call.deadlineMs - options.clock.nowMs(), options.clock)),
    free: 1,
    alive: 1,
    queued: 0,
  };
}

function handlersOf({ actions, token }: AdminOptions): Record<string, (args: never) => unknown> {
  const requireToken =
    <Args extends TokenArgs>(act: (args: Args) => unknown) =>
    async (args: Args): Promise<unknown> => {
      if (!isSame(args.token, token)) {
        throw refused(
          'the token is wrong; use the content of the file admin-token in the data directory, or admin.token of the configuration',
        );
      }
      try {
        return await act(args);
      } catch (error) {
        throw asRefusal(error);
      }
    };
  const { deployments } = actions;
  return {
    status: requireToken(async () => thriftStatus(await actions.status())),
    events: requireToken(({ afterSeq, waitMs }: TokenArgs & { afterSeq: number; waitMs: number }) =>
      actions.events.next(afterSeq, waitMs),
    ),
    restart: requireToken(async ({ serviceName, version, resource }: VersionArgs & { resource: string }) => {
      if (resource === '') return await actions.roll(serviceName, version);
      const one = findResource(await actions.status(), resource);
      await actions.restart(one.name, one.manager);
      return 1;
    }),
    deploy: requireToken(async ({ deployment }: TokenArgs & { deployment: ThriftDeployment }) => {
      const requested = deploymentOf(deployment);
      if (requested instanceof Error) throw refused(`the deployment is invalid: ${requested.message}`);
      return OUTCOMES[await deployments.put(requested)];
    }),
    scale: requireToken(async ({ serviceName, version, count }: VersionArgs & { count: number }) => {
      try {
        return thriftDeployment(await deployments.scale(serviceName, version, count));
      } catch (error) {
        throw (await configuredElsewhere(actions, serviceName, version)) ?? error;
      }
    }),
    undeploy: requireToken(async ({ serviceName, version }: VersionArgs) => {
      if (await deployments.remove(serviceName, version)) return;
      const known = (await deployments.list()).map(deploymentId).join(', ') || 'none';
      throw (
        (await configuredElsewhere(actions, serviceName, version)) ??
        refused(`${serviceName}@${version} is not a deployment of the mesh; deployments are ${known}`)
      );
    }),
    getDeployments: requireToken(async () => (await deployments.list()).map(thriftDeployment)),
    drain: requireToken(({ manager }: TokenArgs & { manager: string }) => deployments.drain(manager)),
    undrain: requireToken(({ manager }: TokenArgs & { manager: string }) => deployments.undrain(manager)),
    getDrained: requireToken(() => deployments.drained()),
    getSettings: requireToken(() => actions.settings()),
    setSettings: requireToken(async ({ settings }: TokenArgs & { settings: { timeoutMs?: number } }) => {
      const { timeoutMs } = settings;
      if (timeoutMs !== undefined && (timeoutMs < 1 || timeoutMs > TIMEOUT_MS_MAX))
        throw refused(`timeoutMs is ${timeoutMs}, expected 1 to ${TIMEOUT_MS_MAX}`);
      await actions.setTimeoutMs(timeoutMs);
      return actions.settings();
    }),
    getRoutes: requireToken(() =>
      [...actions.routes()].map(([serviceName, { weights }]) => ({ serviceName, weights })),
    ),
    setRoute: requireToken(
      async ({ route }: TokenArgs & { route: { serviceName: string; weights: ReadonlyMap<string, number> } }) => {
        const weights = Object.fromEntries(route.weights);
        checkRoute(route.serviceName, weights);
        await actions.setRoute(route.serviceName, { weights });
      },
    ),
  };
}

/**
 * Finds a resource by name, with or without a manager. @throws KatamariError `no_pool` if no resource has the name,
 * `bad_request` if several managers have one
 */
function findResource({ pools }: MeshStatus, requested: string): { readonly name: string; readonly manager: string } {
  const [, onManager, name = ''] = /^(?:([^:@/]+):)?(.*)$/s.exec(requested) ?? [];
  const managers = pools
    .filter((pool) => pool.resources.some((resource) => resource.name === name))
    .map(({ manager }) => manager);
  const [first, second] = onManager === undefined ? managers : managers.filter((one) => one === onManager);
  if (first === undefined) {
    const where = managers.length === 0 ? '' : `; managers with a ${name} are ${managers.join(', ')}`;
    throw new KatamariError(
      'no_pool',
      `No resource is called "${requested}"${where || '; names look like Service@1.0.0/1, see katamari status -v'}`,
    );
  }
  if (second !== undefined) {
    throw new KatamariError(
      'bad_request',
      `Managers ${managers.join(', ')} each have a ${name}; name one of them, such as ${first}:${name}`,
    );
  }
  return { name, manager: first };
}

/**
 * Returns a refusal that names the managers, if the version runs from their configuration files and is not a
 * deployment of the mesh. Otherwise returns undefined.
 */
async function configuredElsewhere(
  { status, deployments }: AdminActions,
  service: string,
  version: string,
): Promise<ThriftException | undefined> {
  const id = deploymentId({ service, version });
  if ((await deployments.list()).some((one) => deploymentId(one) === id)) return undefined;
  const { pools } = await status();
  const managers = new Set(
    pools.filter((pool) => pool.service === service && pool.version === version).map(({ manager }) => manager),
  );
  if (managers.size === 0) return undefined;
  const names = [...managers].join(', ');
  const [subject, runs] = managers.size === 1 ? [`manager ${names}`, 'runs'] : [`managers ${names}`, 'run'];
  return refused(
    `${id} is not a deployment of the mesh: ${subject} ${runs} it from a configuration file. Change it there and restart ` +
      `${managers.size === 1 ? 'that manager' : 'those managers'}, or remove it there and use katamari deploy`,
  );
}

function checkRoute(service: string, weights: Readonly<Record<string, number>>): void {
  // The name becomes part of a Consul key.
  if (!/^[A-Za-z_][\w.]{0,199}$/.test(service))
    throw refused(`"${service}" cannot be the name of a service, expected one such as Calculator`);
  const shares = Object.entries(weights);
  if (shares.length > VERSIONS_MAX) throw refused(`the route has ${shares.length} versions, limit is ${VERSIONS_MAX}`);
  const wrong = shares.find(([, share]) => share < 0);
  if (wrong !== undefined) throw refused(`the weight of version ${wrong[0]} is ${wrong[1]}, expected 0 or more`);
  if (shares.length > 0 && shares.every(([, share]) => share === 0))
    throw refused(
      `the weights of ${service} are all 0, expected one above 0. Without weights, versions share the calls by their number of resources`,
    );
}

/** Converts errors that an operator can fix to AdminRefused. Other errors are defects and pass through. */
function asRefusal(error: unknown): unknown {
  if (error instanceof KatamariError) return refused(error.message);
  if (error instanceof ConsulError)
    return refused(`Consul failed (${error.message}). Check the current state with katamari status and try again`);
  return error;
}

function refused(why: string): ThriftException {
  return new ThriftException('AdminRefused', { why });
}

/** Compares SHA-256 digests in constant time, so that timing reveals neither length nor content. */
function isSame(some: string, other: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(some), digest(other));
}

/** Rejects with `timeout` at the deadline of the caller. The work continues. */
function withDeadline<T>(work: Promise<T>, leftMs: number, clock: Clock): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = clock.after(Math.max(0, leftMs), () =>
      reject(new KatamariError('timeout', 'The work continues, see katamari events', { stage: 'service' })),
    );
    work.then(resolve, reject).finally(stop);
  });
}

/** Limit of versions in one route. */
const VERSIONS_MAX = 1_000;
const TIMEOUT_MS_MAX = 3_600_000;

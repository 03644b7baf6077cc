// The admin service `Katamari` of idl/katamari.thrift, behind a token: what `katamari status`, `deploy`, `drain`,
// `restart` and the rest call.
import { parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import { KatamariError, type Clock } from '../../core/mod.ts';
import { sendOf, dispatchOf, serveHandlers, type MeshStatus } from '../../core/rpc/mod.ts';
import { ThriftException } from '../../core/thrift/mod.ts';
import { ConsulError } from '../consul/mod.ts';
import { deploymentId, thriftStatus, type EventLog, type Offer, type Route } from '../mesh/mod.ts';
import { deploymentOf, OUTCOMES, thriftDeployment, type ThriftDeployment } from './admin-shapes.ts';
import type { DeploymentStore } from './deployment-store.ts';

// Served through the same faceplates as every other service. It checks and translates; what is done is done by the
// store and the actions it is given. Deployments that stand in the configuration of a manager are none of its
// business, and it says so.

import { timingSafeEqual, createHash } from 'node:crypto';

export interface AdminActions {
  /** Of the whole mesh: a pool of each manager, every process that is known. */
  readonly status: () => Promise<MeshStatus>;
  readonly events: EventLog;
  readonly deployments: DeploymentStore;
  /**
   * Rolling restart on every manager that has it, one manager after the other. Resolves to the number of resources
   * that were replaced.
   */
  readonly roll: (service: string, version: string) => Promise<number>;
  /** Replaces one resource of one manager. */
  readonly restart: (resource: string, manager: string) => Promise<void>;
  readonly settings: () => { readonly timeoutMs: number };
  /** undefined: back to what the configuration says. */
  readonly setTimeoutMs: (timeoutMs: number | undefined) => Promise<void>;
  readonly routes: () => Readonly<Record<string, Route>>;
  readonly setRoute: (service: string, route: Route) => Promise<void>;
}

export interface AdminOptions {
  readonly actions: AdminActions;
  readonly token: string;
  /** Version of the mesh, which is the service's version. */
  readonly version: string;
  readonly manager: string;
  readonly clock: Clock;
}

interface WithToken {
  readonly token: string;
}

interface OfVersion extends WithToken {
  readonly serviceName: string;
  readonly version: string;
}

/** The admin service as a pool of its own with one resource: this process. */
export function adminOffer(options: AdminOptions): Offer {
  const source = readIdlFile(new URL('../../idl/katamari.thrift', import.meta.url));
  const found = parseIdl(source).services.get('Katamari');
  if (found === undefined) throw new KatamariError('internal', 'idl/katamari.thrift has no service Katamari');
  const serve = serveHandlers<undefined>({
    interface: found,
    i64: 'number',
    contextOf: () => undefined,
    handlers: handlersOf(options),
  });
  const dispatch = dispatchOf(serve);
  return {
    id: `Katamari@${options.version}`,
    details: { service: 'Katamari', version: options.version, roles: [], tags: [], more: {} },
    interface: found,
    manager: options.manager,
    isReachable: true,
    send: sendOf((call) => withDeadline(dispatch(call), call.deadlineMs - options.clock.nowMs(), options.clock)),
    free: 1,
    alive: 1,
    queued: 0,
  };
}

function handlersOf({ actions, token }: AdminOptions): Record<string, (args: never) => unknown> {
  const behindToken =
    <Args extends WithToken>(act: (args: Args) => unknown) =>
    async (args: Args): Promise<unknown> => {
      if (!isSame(args.token, token)) {
        throw refused(
          'the token is wrong; it is in the file admin-token of the data directory, or what the configuration says under admin.token',
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
    status: behindToken(async () => thriftStatus(await actions.status())),
    events: behindToken(({ afterSeq, waitMs }: WithToken & { afterSeq: number; waitMs: number }) =>
      actions.events.next(afterSeq, waitMs),
    ),
    restart: behindToken(async ({ serviceName, version, resource }: OfVersion & { resource: string }) => {
      if (resource === '') return await actions.roll(serviceName, version);
      const one = findResource(await actions.status(), resource);
      await actions.restart(one.name, one.manager);
      return 1;
    }),
    deploy: behindToken(async ({ deployment }: WithToken & { deployment: ThriftDeployment }) => {
      const wanted = deploymentOf(deployment);
      if (wanted instanceof Error) throw refused(`that is no deployment: ${wanted.message}`);
      return OUTCOMES[await deployments.put(wanted)];
    }),
    scale: behindToken(async ({ serviceName, version, count }: OfVersion & { count: number }) => {
      try {
        return thriftDeployment(await deployments.scale(serviceName, version, count));
      } catch (error) {
        throw (await whoRunsIt(actions, serviceName, version)) ?? error;
      }
    }),
    undeploy: behindToken(async ({ serviceName, version }: OfVersion) => {
      if (await deployments.remove(serviceName, version)) return;
      const there = (await deployments.list()).map(deploymentId).join(', ') || 'none';
      throw (
        (await whoRunsIt(actions, serviceName, version)) ??
        refused(`${serviceName}@${version} is no deployment of the mesh; those are ${there}`)
      );
    }),
    getDeployments: behindToken(async () => (await deployments.list()).map(thriftDeployment)),
    drain: behindToken(({ manager }: WithToken & { manager: string }) => deployments.drain(manager)),
    undrain: behindToken(({ manager }: WithToken & { manager: string }) => deployments.undrain(manager)),
    getDrained: behindToken(() => deployments.drained()),
    getSettings: behindToken(() => actions.settings()),
    setSettings: behindToken(async ({ settings }: WithToken & { settings: { timeoutMs?: number } }) => {
      const { timeoutMs } = settings;
      if (timeoutMs !== undefined && (timeoutMs < 1 || timeoutMs > TIMEOUT_MS_MAX))
        throw refused(`timeoutMs is ${timeoutMs}, expected 1 to ${TIMEOUT_MS_MAX}`);
      await actions.setTimeoutMs(timeoutMs);
      return actions.settings();
    }),
    getRoutes: behindToken(() =>
      Object.entries(actions.routes()).map(([serviceName, { weights }]) => ({ serviceName, weights })),
    ),
    setRoute: behindToken(
      async ({ route }: WithToken & { route: { serviceName: string; weights: ReadonlyMap<string, number> } }) => {
        const weights = Object.fromEntries(route.weights);
        checkRoute(route.serviceName, weights);
        await actions.setRoute(route.serviceName, { weights });
      },
    ),
  };
}

/** @throws KatamariError when no resource has the name, or several managers have one of it */
function findResource({ pools }: MeshStatus, wanted: string): { readonly name: string; readonly manager: string } {
  const [, onManager, name = ''] = /^(?:([^:@/]+):)?(.*)$/s.exec(wanted) ?? [];
  const managers = pools
    .filter((pool) => pool.resources.some((resource) => resource.name === name))
    .map(({ manager }) => manager);
  const [first, second] = onManager === undefined ? managers : managers.filter((one) => one === onManager);
  if (first === undefined) {
    const where = managers.length === 0 ? '' : `; managers with a ${name} are ${managers.join(', ')}`;
    throw new KatamariError(
      'no_pool',
      `No resource is called "${wanted}"${where || '; names look like Service@1.0.0/1, see katamari status -v'}`,
    );
  }
  if (second !== undefined) {
    throw new KatamariError(
      'bad_request',
      `Managers ${managers.join(', ')} each have a ${name}; say which one, such as ${first}:${name}`,
    );
  }
  return { name, manager: first };
}

/** A refusal for what runs in the mesh and is no deployment of it: then the configuration of a manager says so. */
async function whoRunsIt(
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
    `${id} is no deployment of the mesh: ${subject} ${runs} it by a configuration file; change or remove it there and start ` +
      `${managers.size === 1 ? 'that manager' : 'those managers'} anew, or take it out there and give it to the mesh with katamari deploy`,
  );
}

function checkRoute(service: string, weights: Readonly<Record<string, number>>): void {
  // It becomes part of a key.
  if (!/^[A-Za-z_][\w.]{0,199}$/.test(service))
    throw refused(`"${service}" cannot be the name of a service, expected one such as Calculator`);
  const shares = Object.entries(weights);
  if (shares.length > VERSIONS_MAX) throw refused(`the route has ${shares.length} versions, limit is ${VERSIONS_MAX}`);
  const wrong = shares.find(([, share]) => share < 0);
  if (wrong !== undefined) throw refused(`the weight of version ${wrong[0]} is ${wrong[1]}, expected 0 or more`);
  if (shares.length > 0 && shares.every(([, share]) => share === 0))
    throw refused(`the weights of ${service} are all 0, expected one above 0; no weights at all give it equal shares`);
}

/** What a person can do something about is refused with words; the rest is a defect. */
function asRefusal(error: unknown): unknown {
  if (error instanceof KatamariError) return refused(error.message);
  if (error instanceof ConsulError)
    return refused(`Consul did not do it (${error.message}); look with katamari status what holds, and try again`);
  return error;
}

function refused(why: string): ThriftException {
  return new ThriftException('AdminRefused', { why });
}

/** Compares digests, so that neither length nor first difference shows in the time it takes. */
function isSame(some: string, other: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(some), digest(other));
}

/** What an admin call does goes on when its caller stops waiting. */
function withDeadline<T>(work: Promise<T>, leftMs: number, clock: Clock): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = clock.after(Math.max(0, leftMs), () =>
      reject(new KatamariError('timeout', 'The work goes on, see katamari events', { stage: 'service' })),
    );
    work.then(resolve, reject).finally(stop);
  });
}

/** Of one service in a route. */
const VERSIONS_MAX = 1_000;
const TIMEOUT_MS_MAX = 3_600_000;

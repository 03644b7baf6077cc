// The admin service `Katamari` of idl/katamari.thrift, which `katamari status`, `deploy`, `drain`, `restart` and
// other commands call. Every method needs an admin token with its scope (admin-guard.ts). The faceplates serve it
// like any other service. This file checks and converts arguments; the stores and the given actions do the work. It
// refuses to change deployments that come from a manager's configuration file, and names the manager.

import { parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import { KatamariError, type Clock } from '../../core/mod.ts';
import { sendOf, dispatchOf, serveHandlers, type MeshStatus } from '../../core/rpc/mod.ts';
import type { Interface, ThriftException } from '../../core/thrift/mod.ts';
import type { AuditLog } from '../audit/mod.ts';
import {
  ADMIN_SCOPES,
  deploymentId,
  isTokenName,
  thriftStatus,
  type EventLog,
  type KnownToken,
  type ManagerRecord,
  type Offer,
  type TokenStore,
} from '../mesh/mod.ts';
import { AdminGuard, refused, type AdminContext, type AdminMethod, type TokenArgs } from './admin-guard.ts';
import { accessHandlers, type AccessActions, type ExplainedAccess } from './access-handlers.ts';
import { deploymentOf, OUTCOMES, thriftDeployment, type ThriftDeployment } from './admin-shapes.ts';
import type { DeploymentStore } from './deployment-store.ts';
import type { IndexActions } from './index-actions.ts';
import { indexMethods } from './index-admin.ts';
import { verificationMethods } from './index-verification.ts';
import { rolloutMethods } from './rollout-admin.ts';
import type { RolloutStore } from './rollout-store.ts';
import { routeMethods, type RouteActions } from './route-admin.ts';
import type { KnownVersions } from './route-check.ts';
import { versionMethods, type VersionActions } from './version-admin.ts';

export interface AdminActions extends RouteActions, VersionActions {
  /** Returns the status of the whole mesh: all known processes and the pools of every manager. */
  readonly status: () => Promise<MeshStatus>;
  readonly events: EventLog;
  readonly deployments: DeploymentStore;
  /**
   * Restarts a version on all its managers, one manager after the other. Resolves to the number of replaced
   * resources. `by` says who asked for it.
   */
  readonly roll: (service: string, version: string, by: string) => Promise<number>;
  /** Replaces one resource of one manager. */
  readonly restart: (resource: string, manager: string, by: string) => Promise<void>;
  readonly settings: () => { readonly timeoutMs: number };
  /** Sets the global timeout. Undefined restores the value of the configuration. */
  readonly setTimeoutMs: (timeoutMs: number | undefined) => Promise<void>;
  /** The interfaces of the pools of a service. */
  readonly interfacesOf: (service: string) => readonly Interface[];
  /** The interface of a version that has a pool. */
  readonly interfaceOf: (service: string, version: string) => Interface | undefined;
  readonly rollouts: RolloutStore;
  readonly access: AccessActions;
  readonly indices: IndexActions;
}

export interface AdminOptions {
  readonly actions: AdminActions;
  /** The root tokens, which have all scopes. */
  readonly rootTokens: () => readonly string[];
  readonly tokens: TokenStore;
  readonly audit: AuditLog;
  /** Version of Katamari, which is also the version of the service. */
  readonly version: string;
  readonly manager: string;
  readonly clock: Clock;
}

interface VersionArgs extends TokenArgs {
  readonly serviceName: string;
  readonly version: string;
}

interface RestartArgs extends VersionArgs {
  readonly resource: string;
}

interface DeployArgs extends TokenArgs {
  readonly deployment: ThriftDeployment;
}

interface ManagerArgs extends TokenArgs {
  readonly manager: string;
}

interface PolicyArgs extends TokenArgs {
  readonly text: string;
  readonly expectedVersion: number;
}

interface NewTokenArgs extends TokenArgs {
  readonly name: string;
  readonly scopes: readonly string[];
  readonly roles: readonly string[];
  readonly expiresInMs?: number;
}

/** Returns the admin services as pools with one resource: this process. They share the limit of wrong tokens. */
export function adminOffers(options: AdminOptions): readonly Offer[] {
  const { rootTokens, tokens, audit, clock } = options;
  const guard = new AdminGuard({ rootTokens, tokens, audit, clock });
  return [
    guardedOffer(options, guard, { file: 'katamari.thrift', service: 'Katamari', methods: methodsOf(options) }),
    guardedOffer(options, guard, {
      file: 'indices.thrift',
      service: 'KatamariIndices',
      methods: { ...indexMethods(options.actions.indices), ...verificationMethods(options.actions.indices) },
    }),
    guardedOffer(options, guard, {
      file: 'versions.thrift',
      service: 'KatamariVersions',
      methods: { ...versionMethods(options.actions), ...rolloutMethodsOf(options.actions) },
    }),
  ];
}

function rolloutMethodsOf(actions: AdminActions): Readonly<Record<string, AdminMethod>> {
  const managers = (): Iterable<ManagerRecord> => actions.indices.managers().values();
  return rolloutMethods({ ...actions, managers }, (service) => knownVersions(actions, service));
}

interface GuardedService {
  /** Its IDL file. */
  readonly file: string;
  readonly service: string;
  readonly methods: Readonly<Record<string, AdminMethod>>;
}

function guardedOffer(options: AdminOptions, guard: AdminGuard, { file, service, methods }: GuardedService): Offer {
  const iface = parseIdl(readIdlFile(new URL(`../../idl/${file}`, import.meta.url))).services.get(service);
  if (iface === undefined) throw new KatamariError('internal', `idl/${file} has no service ${service}`);
  const serve = serveHandlers<AdminContext>({
    interface: iface,
    i64: 'number',
    contextOf: ({ caller }) => ({ from: caller }),
    handlers: Object.fromEntries(Object.entries(methods).map(([name, method]) => [name, guard.handler(name, method)])),
  });
  const dispatch = dispatchOf(serve);
  return {
    id: `${service}@${options.version}`,
    details: { service, version: options.version, roles: [], tags: [], more: {} },
    interface: iface,
    manager: options.manager,
    isReachable: true,
    isOpen: true,
    send: sendOf((call) => withDeadline(dispatch(call), call.deadlineMs - options.clock.nowMs(), options.clock)),
    free: 1,
    alive: 1,
    queued: 0,
  };
}

/**
 * The methods with the scope of the token that each needs. A method with a `subject` changes something, and has a
 * line in the audit log; it notes the documents before and after.
 */
function methodsOf(options: AdminOptions): Readonly<Record<string, AdminMethod>> {
  const { actions, tokens } = options;
  const { deployments } = actions;
  const access = accessHandlers(actions.access);
  return {
    status: { scope: 'read', act: async () => thriftStatus(await actions.status()) },
    events: {
      scope: 'read',
      act: ({ afterSeq, waitMs }: TokenArgs & { afterSeq: number; waitMs: number }) =>
        actions.events.next(afterSeq, waitMs),
    },
    restart: {
      scope: 'operate',
      isLong: true,
      subject: (args: RestartArgs) => args.resource || idOf(args),
      act: async ({ serviceName, version, resource }: RestartArgs, { caller, from, note }) => {
        const by = `token ${caller.name}, ${from}`;
        let replaced = 1;
        if (resource === '') replaced = await actions.roll(serviceName, version, by);
        else {
          const one = findResource(await actions.status(), resource);
          await actions.restart(one.name, one.manager, by);
        }
        note(undefined, { replaced });
        return replaced;
      },
    },
    deploy: {
      scope: 'deploy',
      subject: ({ deployment }: DeployArgs) => idOf(deployment),
      act: async ({ deployment }: DeployArgs, { note }) => {
        const requested = deploymentOf(deployment);
        if (requested instanceof Error) throw refused('invalid', `the deployment is invalid: ${requested.message}`);
        const indices = await actions.indices.store.list();
        if (indices.some(({ name }) => name === requested.service))
          throw refused(
            'invalid',
            `${requested.service} is the name of an index, which is a service too; use another one`,
          );
        return OUTCOMES[await deployments.put(requested, note)];
      },
    },
    scale: {
      scope: 'operate',
      subject: idOf,
      act: async ({ serviceName, version, count }: VersionArgs & { count: number }, { note }) => {
        try {
          return thriftDeployment(await deployments.scale(serviceName, version, count, note));
        } catch (error) {
          throw (await configuredElsewhere(actions, serviceName, version)) ?? error;
        }
      },
    },
    undeploy: {
      scope: 'deploy',
      subject: idOf,
      act: async ({ serviceName, version }: VersionArgs, { note }) => {
        if (await deployments.remove(serviceName, version, note)) return;
        const known = (await deployments.list()).map(deploymentId).join(', ') || 'none';
        throw (
          (await configuredElsewhere(actions, serviceName, version)) ??
          refused('unknown_name', `${serviceName}@${version} is not a deployment of the mesh; deployments are ${known}`)
        );
      },
    },
    getDeployments: { scope: 'read', act: async () => (await deployments.list()).map(thriftDeployment) },
    drain: {
      scope: 'operate',
      subject: ({ manager }: ManagerArgs) => manager,
      act: ({ manager }: ManagerArgs, { note }) => deployments.drain(manager, note),
    },
    undrain: {
      scope: 'operate',
      subject: ({ manager }: ManagerArgs) => manager,
      act: ({ manager }: ManagerArgs, { note }) => deployments.undrain(manager, note),
    },
    getDrained: { scope: 'read', act: () => deployments.drained() },
    getSettings: { scope: 'read', act: () => actions.settings() },
    setSettings: {
      scope: 'operate',
      subject: () => 'settings',
      act: async ({ settings }: TokenArgs & { settings: { timeoutMs?: number } }, { note }) => {
        const { timeoutMs } = settings;
        const before = actions.settings();
        note(before, settings);
        if (timeoutMs !== undefined && (timeoutMs < 1 || timeoutMs > TIMEOUT_MS_MAX))
          throw refused('invalid', `timeoutMs is ${timeoutMs}, expected 1 to ${TIMEOUT_MS_MAX}`);
        await actions.setTimeoutMs(timeoutMs);
        note(before, actions.settings());
        return actions.settings();
      },
    },
    ...routeMethods(actions, (service) => knownVersions(actions, service)),
    getAccessPolicy: { scope: 'read', act: () => access.policy() },
    setAccessPolicy: {
      scope: 'deploy',
      subject: () => 'access',
      act: async ({ text, expectedVersion }: PolicyArgs, { caller, from, note }) => {
        const before = access.policy().text;
        note(before, text);
        const set = await access.setPolicy(text, expectedVersion, `${caller.name} (${from})`);
        note(before, set.text);
        return set;
      },
    },
    getAccessHistory: { scope: 'read', act: () => access.history() },
    explainAccess: { scope: 'read', act: (asked: TokenArgs & ExplainedAccess) => access.explain(asked) },
    createToken: {
      scope: 'deploy',
      subject: ({ name }: NewTokenArgs) => name,
      act: async (args: NewTokenArgs, { caller, note }) => {
        const wanted = newTokenOf(args, caller, Date.now());
        note(null, wanted);
        return await tokens.create(wanted);
      },
    },
    getTokens: { scope: 'read', act: () => tokens.list() },
    revokeToken: {
      scope: 'deploy',
      subject: ({ name }: TokenArgs & { name: string }) => name,
      act: async ({ name }: TokenArgs & { name: string }, { caller, note }) => {
        const revoked = isTokenName(name) ? await tokens.revoke(name, caller.name) : undefined;
        if (revoked === undefined) throw await unknownToken(name, tokens);
        note(revoked, null);
      },
    },
  };
}

/** Checks a new token against the one that creates it, which must have all that it gives. @throws ThriftException */
function newTokenOf(
  { name, scopes, roles, expiresInMs }: NewTokenArgs,
  caller: KnownToken,
  nowMs: number,
): Omit<KnownToken, 'createdAtMs'> {
  if (!isTokenName(name)) {
    throw refused(
      'invalid',
      `"${name}" cannot be the name of a token, expected letters, digits, ".", "_" and "-", at most 63; some names are taken, such as admin and leader`,
    );
  }
  const unknown = scopes.filter((scope) => !(ADMIN_SCOPES as readonly string[]).includes(scope));
  if (unknown.length > 0 || scopes.length === 0) {
    throw refused('invalid', `the scopes are "${scopes.join(',')}", expected some of ${ADMIN_SCOPES.join(', ')}`);
  }
  const lacking = ADMIN_SCOPES.filter((scope) => !caller.scopes.includes(scope));
  if (lacking.length > 0) {
    throw refused(
      'missing_scope',
      `only a token with all scopes may create tokens, and the token ${caller.name} lacks ${lacking.join(', ')}; use the root token`,
    );
  }
  const wrongRole = roles.find((role) => !/^[\w.:/-]{1,200}$/.test(role));
  if (wrongRole !== undefined || roles.length > ROLES_MAX) {
    throw refused(
      'invalid',
      `the roles are "${roles.join(',')}", expected at most ${ROLES_MAX} names of letters, digits, ".", "_", "-", ":" and "/"`,
    );
  }
  const ungiven = caller.createdBy === '' ? [] : roles.filter((role) => !caller.roles.includes(role));
  if (ungiven.length > 0) {
    throw refused(
      'missing_scope',
      `the token ${caller.name} cannot give the roles ${ungiven.join(', ')}, which it does not have; use the root token`,
    );
  }
  if (expiresInMs !== undefined && (expiresInMs < 1 || expiresInMs > EXPIRES_MS_MAX)) {
    throw refused('invalid', `expiresInMs is ${expiresInMs}, expected 1 to ${EXPIRES_MS_MAX}`);
  }
  const asked = expiresInMs === undefined ? undefined : nowMs + expiresInMs;
  if (asked !== undefined && caller.expiresAtMs !== undefined && asked > caller.expiresAtMs) {
    throw refused(
      'missing_scope',
      `the token ${caller.name} expires at ${new Date(caller.expiresAtMs).toISOString()} and cannot create one that lives longer`,
    );
  }
  const expiresAtMs = asked ?? caller.expiresAtMs;
  return {
    name,
    scopes: ADMIN_SCOPES.filter((scope) => scopes.includes(scope)),
    roles: [...new Set(roles)],
    createdBy: caller.name,
    ...(expiresAtMs === undefined ? {} : { expiresAtMs }),
  };
}

async function unknownToken(name: string, tokens: TokenStore): Promise<ThriftException> {
  if (name === 'admin') {
    const how =
      'To replace it, change admin.token of the configuration or remove the file admin-token, and restart all processes';
    return refused('invalid', `admin is the root token, which is not stored in the mesh. ${how}`);
  }
  const known = (await tokens.list()).map((token) => token.name);
  const shown = known.length > NAMES_MAX ? [...known.slice(0, NAMES_MAX), '...'] : known;
  return refused('unknown_name', `There is no token "${name}"; tokens are ${shown.join(', ') || 'none'}`);
}

function idOf({ serviceName, version }: Pick<VersionArgs, 'serviceName' | 'version'>): string {
  return version === '' ? serviceName : deploymentId({ service: serviceName, version });
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
    'unknown_name',
    `${id} is not a deployment of the mesh: ${subject} ${runs} it from a configuration file. Change it there and restart ` +
      `${managers.size === 1 ? 'that manager' : 'those managers'}, or remove it there and use katamari deploy`,
  );
}

/** The versions of a service or of an index that exist. @throws ConsulError */
async function knownVersions(
  { deployments, indices, versionsOf, interfacesOf }: AdminActions,
  name: string,
): Promise<KnownVersions> {
  const [deployed, records] = await Promise.all([deployments.list(), indices.store.list()]);
  const added = records.filter((one) => one.name === name).map(({ version }) => version);
  const own = deployed.filter(({ service }) => service === name).map(({ version }) => version);
  const versions = [...added, ...own, ...versionsOf(name)];
  return { versions, interfaces: interfacesOf(name), isIndex: added.length > 0 };
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

const TIMEOUT_MS_MAX = 3_600_000;
/** Roles of one token. */
const ROLES_MAX = 100;
/** Ten years. */
const EXPIRES_MS_MAX = 315_360_000_000;
/** Names in one message. */
const NAMES_MAX = 20;

// The service `katamari.Mesh`: describes the interface of a service to chassis and clients before their first call, and
// counts what callers report about the versions of an experiment.

import { decodeStruct, encodeStruct } from '../../core/idl/mod.ts';
import { KatamariError } from '../../core/mod.ts';
import {
  EMPTY_STRUCT,
  meshInterface,
  NO_DETAILS,
  NO_REPLY_CONTEXT,
  NONE,
  sendOf,
  type Call,
  type CallerIdentity,
  type PoolView,
  type Reply,
  type Send,
} from '../../core/rpc/mod.ts';
import { VERSION } from '../config/mod.ts';
import { bestVersion, isVersionMatch, type Offer, type Router } from '../mesh/mod.ts';

/** Returns a Send that answers calls to `katamari.Mesh` and passes all others to `send`. */
export function withMeshService(router: Router, send: Send): Send {
  const own = meshServiceOf(router);
  return (call, sink) => (call.service === MESH_SERVICE ? own : send)(call, sink);
}

/** The service as a pool, by which JSON-RPC finds it. @param manager name of this process */
export function meshOffer(router: Router, manager: string): Offer {
  return {
    id: `${MESH_SERVICE}@${VERSION}`,
    details: { service: MESH_SERVICE, version: VERSION, roles: NONE, tags: NONE, more: {} },
    interface: meshInterface(),
    manager,
    isReachable: true,
    // It asks the policy about the services of its arguments.
    isOpen: true,
    send: meshServiceOf(router),
    free: 1,
    alive: 1,
    queued: 0,
  };
}

function meshServiceOf(router: Router): Send {
  const { methods } = meshInterface();
  return sendOf(async (call: Call): Promise<Reply> => {
    const method = methods.get(call.method);
    if (method === undefined) {
      const known = [...methods.keys()].join(', ');
      throw new KatamariError('no_pool', `katamari.Mesh has no method "${call.method}"; it has ${known}`, NOT_RUN);
    }
    if (call.identity.how === 'unauthenticated') {
      const why = `An anonymous caller may not use katamari.Mesh from another machine: send a bearer token or a client certificate`;
      throw new KatamariError('denied', why, { ...NOT_RUN, httpStatus: 401 });
    }
    const args = decodeStruct(method.args, call.args);
    if (method.name === 'outcome') {
      recordOutcome(router, call.identity, args as unknown as ReportedOutcome);
      return { isException: false, body: EMPTY_STRUCT, context: NO_REPLY_CONTEXT };
    }
    const success = await describe(router, call, args as unknown as DescribeArgs);
    return { isException: false, body: encodeStruct(method.result, { success }), context: NO_REPLY_CONTEXT };
  });
}

interface DescribeArgs {
  readonly serviceName: string;
  readonly version: string;
}

async function describe(router: Router, call: Call, { serviceName, version }: DescribeArgs): Promise<unknown> {
  const { identity } = call;
  let found = findPool(router, identity, serviceName, version);
  while (found === undefined) {
    await untilPoolsChange(router, call, serviceName, version);
    found = findPool(router, identity, serviceName, version);
  }
  const { source, service: idlService } = found.interface;
  const { main: idlMain, files: idlFiles } = source;
  const described = { serviceName, version: found.details.version, idlMain, idlFiles };
  return idlService === serviceName ? described : { ...described, idlService };
}

interface ReportedOutcome {
  readonly experiment: string;
  readonly key: string;
  readonly metric: string;
  readonly value: number;
}

/** @throws KatamariError bad_request that says what is wrong */
function recordOutcome(router: Router, identity: CallerIdentity, { experiment, key, metric, value }: ReportedOutcome) {
  if (!METRIC_NAME.test(metric)) {
    throw wrongOutcome(`metric is ${shown(metric)}, expected 1 to 64 letters, digits, "_", "." or "-"`);
  }
  if (!Number.isFinite(value)) throw wrongOutcome(`value is ${value}, expected a number`);
  if (key === '' || key.length > KEY_CHARS_MAX)
    throw wrongOutcome(`key has ${key.length} characters, expected 1 to ${KEY_CHARS_MAX}`);
  const pools = router.pools();
  const isVisible = (service: string): boolean =>
    pools.some((pool) => pool.details.service === service && router.isVisible(identity, pool));
  const experiments = router.experiments();
  const services = (experiments.get(experiment) ?? []).filter(isVisible);
  if (services.length === 0) {
    const known = [...experiments].flatMap(([name, own]) => (own.some(isVisible) ? [name] : []));
    const are = known.length === 0 ? 'there is none' : `known are ${known.slice(0, NAMES_SHOWN_MAX).join(', ')}`;
    throw wrongOutcome(`experiment is ${shown(experiment)}, which no route has: ${are}`);
  }
  for (const service of services) {
    if (!router.addOutcome(service, key, metric, value))
      throw wrongOutcome(`metric is ${shown(metric)}, and the experiment ${experiment} has too many others already`);
  }
}

function wrongOutcome(why: string): KatamariError {
  return new KatamariError('bad_request', `Cannot count this outcome: ${why}`, NOT_RUN);
}

function shown(text: string): string {
  return JSON.stringify(text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}...` : text);
}

function findPool(router: Router, identity: CallerIdentity, service: string, version: string): PoolView | undefined {
  const matching = router
    .pools()
    .filter(({ details }) => details.service === service && isVersionMatch(details.version, version))
    .filter((pool) => router.isVisible(identity, pool));
  return bestVersion(matching, version);
}

/**
 * Waits until the pools have changed.
 * @throws KatamariError no_pool when the service is not deployed; timeout or overloaded when it has no copy in time
 */
function untilPoolsChange(router: Router, call: Call, service: string, version: string): Promise<void> {
  const { deadlineMs, signal, doNotQueue, identity } = call;
  const query = { service, version, method: '', roles: NONE, tags: NONE, details: NO_DETAILS, key: '', identity };
  return new Promise((resume, fail) => {
    if (router.waitForCopy(query, { deadlineMs, signal, doNotQueue, resume, fail })) return;
    fail(new KatamariError('no_pool', `No pool offers ${service}${version === '' ? '' : `@${version}`}`, NOT_RUN));
  });
}

const MESH_SERVICE = 'katamari.Mesh';
const METRIC_NAME = /^[\w.-]{1,64}$/;
const KEY_CHARS_MAX = 1_024;
const NAMES_SHOWN_MAX = 10;
const SHOWN_CHARS = 100;
const NOT_RUN = { notRun: true } as const;

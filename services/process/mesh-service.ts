// The service `katamari.Mesh`: describes the interface of a service to chassis and clients before their first call.

import { decodeStruct, encodeStruct } from '../../core/idl/mod.ts';
import { KatamariError } from '../../core/mod.ts';
import {
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
import type { Method } from '../../core/thrift/mod.ts';
import { bestVersion, isVersionMatch, type Router } from '../mesh/mod.ts';

/** Returns a Send that answers calls to `katamari.Mesh` and passes all others to `send`. */
export function withMeshService(router: Router, send: Send): Send {
  const method = meshInterface().methods.get('describe') as Method;
  const describe = async (call: Call): Promise<Reply> => {
    if (call.method !== method.name) {
      throw new KatamariError(
        'no_pool',
        `katamari.Mesh has no method "${call.method}"; it has ${method.name}`,
        NOT_RUN,
      );
    }
    const { serviceName, version } = decodeStruct(method.args, call.args) as { serviceName: string; version: string };
    const { identity } = call;
    if (identity.how === 'unauthenticated') {
      const why =
        'An anonymous caller may not ask for interfaces from another machine: send a bearer token or a client certificate';
      throw new KatamariError('denied', why, { ...NOT_RUN, httpStatus: 401 });
    }
    let found = findPool(router, identity, serviceName, version);
    while (found === undefined) {
      await untilPoolsChange(router, call, serviceName, version);
      found = findPool(router, identity, serviceName, version);
    }
    const { source, service: idlService } = found.interface;
    const { main: idlMain, files: idlFiles } = source;
    const described = { serviceName, version: found.details.version, idlMain, idlFiles };
    const success = idlService === serviceName ? described : { ...described, idlService };
    return { isException: false, body: encodeStruct(method.result, { success }), context: NO_REPLY_CONTEXT };
  };
  const own = sendOf(describe);
  return (call, sink) => (call.service === MESH_SERVICE ? own : send)(call, sink);
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
const NOT_RUN = { notRun: true } as const;

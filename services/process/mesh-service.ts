// The service `katamari.Mesh`: describes the interface of a service to chassis and clients before their first call.

import { decodeStruct, encodeStruct } from '../../core/idl/mod.ts';
import { KatamariError } from '../../core/mod.ts';
import { meshInterface, NO_REPLY_CONTEXT, sendOf, type Call, type Reply, type Send } from '../../core/rpc/mod.ts';
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
    const matching = router
      .pools()
      .filter(({ details }) => details.service === serviceName && isVersionMatch(details.version, version))
      .filter((pool) => router.isVisible(identity, pool));
    const found = bestVersion(matching, version);
    if (found === undefined) {
      const asked = `${serviceName}${version === '' ? '' : `@${version}`}`;
      throw new KatamariError('no_pool', `No pool offers ${asked}`, NOT_RUN);
    }
    const { main: idlMain, files: idlFiles } = found.interface.source;
    const success = { serviceName, version: found.details.version, idlMain, idlFiles };
    return { isException: false, body: encodeStruct(method.result, { success }), context: NO_REPLY_CONTEXT };
  };
  const own = sendOf(describe);
  return (call, sink) => (call.service === MESH_SERVICE ? own : send)(call, sink);
}

const MESH_SERVICE = 'katamari.Mesh';
const NOT_RUN = { notRun: true } as const;

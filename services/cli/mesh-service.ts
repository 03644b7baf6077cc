// The service `katamari.Mesh`, which chassis ask how another service looks before they call it.

import {
  KatamariError,
  meshInterface,
  serveHandlers,
  type Call,
  type Dispatch,
  type Reply,
} from '../../chassis-sdk/internal.ts';
import type { Router } from '../mesh/internal.ts';

/** Answers `katamari.Mesh`, hands everything else on. */
export function withMeshService(router: Router, dispatch: Dispatch): Dispatch {
  const describe = serveHandlers<undefined>({
    interface: meshInterface(),
    i64: 'number',
    contextOf: () => undefined,
    handlers: {
      describe: ({ serviceName: service, version }: { serviceName: string; version: string }) => {
        const found = router
          .pools()
          .find(({ details }) => details.service === service && (version === '' || details.version === version));
        if (found === undefined)
          throw new KatamariError('no_pool', `No pool offers ${service}${version === '' ? '' : `@${version}`}`);
        return {
          serviceName: service,
          version: found.details.version,
          idlMain: found.interface.source.main,
          idlFiles: found.interface.source.files,
        };
      },
    },
  });
  return (call: Call): Promise<Reply> => (call.service === 'katamari.Mesh' ? describe(call) : dispatch(call));
}

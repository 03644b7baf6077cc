// The host names and origins that HTTP ports of this process accept, from the configuration.

import type { HttpAccess } from '../../core/http/mod.ts';
import type { Config } from './config.ts';

/** Includes the names under which the configuration itself makes this process known. */
export function httpAccessOf({ http, host, advertise, consul }: Config): HttpAccess {
  // `katamari-json-rpc.service.consul` and the like. The domain is none of the public DNS, so no web site has a name
  // in it.
  const consulNames = consul.embedded ? [] : ['*.consul'];
  return {
    hosts: [...http.hosts, host, advertise, ...consulNames].filter((name) => name !== ''),
    origins: http.origins,
  };
}

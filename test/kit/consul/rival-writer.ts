// A Consul client beside which another client writes: right after a key was read, and before it is written.

import type { ConsulClient } from '../../../services/consul/mod.ts';

/** @param write runs after each `get`, with the number of it, from 1 */
export function withRival(client: ConsulClient, write: (count: number) => Promise<unknown>): ConsulClient {
  let count = 0;
  const get: ConsulClient['get'] = async (key, signal) => {
    const entry = await client.get(key, signal);
    await write(++count);
    return entry;
  };
  return new Proxy(client, {
    get(target, name): unknown {
      const found: unknown = Reflect.get(target, name, target);
      if (name === 'get') return get;
      return typeof found === 'function' ? (found.bind(target) as unknown) : found;
    },
  });
}

// A MeshAccess with one real service behind it, test/fixtures/idl/exchange.thrift. Its handlers run through the codec
// in this process. It obeys deadlines and signals like the real dispatch, and records the calls that reached the
// handlers.
import { parseIdl, readIdlFile } from '../../../core/idl/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import {
  dispatchOf,
  serveHandlers,
  type Call,
  type PoolDetails,
  type MeshAccess,
  type PoolView,
  type Reply,
  sendOf,
} from '../../../core/rpc/mod.ts';
import { ThriftException, type Interface } from '../../../core/thrift/mod.ts';

import { fileURLToPath } from 'node:url';
export const EXCHANGE_IDL: string = fileURLToPath(new URL('../../fixtures/idl/exchange.thrift', import.meta.url));

export interface Item {
  readonly id: number;
  readonly text: string;
  readonly numbers?: readonly bigint[];
  readonly children?: ReadonlyMap<string, Item>;
}

/** What a handler was called with. */
export interface Handled {
  readonly method: string;
  readonly args: Readonly<Record<string, unknown>>;
}

export interface Exchange {
  readonly mesh: MeshAccess;
  readonly interface: Interface;
  /** Calls that reached the mesh, newest last. */
  readonly calls: Call[];
  /** Those of `calls` whose handler ran. */
  readonly handled: Handled[];
  /** Keys of the `hold` calls in progress. */
  held(): string[];
  release(key: string): void;
  setTimeoutMs(timeoutMs: number): void;
  /** Adds or removes the pools. */
  setIsOffered(isOffered: boolean): void;
}

/** @param options.remembers false for long runs: `calls` then stays empty, and handlers report to `onHandled` only */
export function exchange(options: { remembers?: boolean; onHandled?: (handled: Handled) => void } = {}): Exchange {
  const { remembers = true, onHandled } = options;
  const found = parseIdl(readIdlFile(EXCHANGE_IDL)).services.get('Exchange') as Interface;
  const calls: Call[] = [];
  const handled: Handled[] = [];
  /** `hold` calls in progress, with the function that releases each. */
  const holding = new Map<Call, { readonly key: string; readonly letGo: () => void }>();
  let [timeoutMs, isOffered] = [10_000, true];

  const handle = (method: string, args: Handled['args']): void => {
    if (remembers) handled.push({ method, args });
    onHandled?.({ method, args });
  };
  const handlers = {
    add: ({ a, b }: { a: number; b: number }) => (a + b) | 0,
    echo: ({ text }: { text: string }) => text,
    turn: ({ item }: { item: Item }) => item,
    refuse: ({ why }: { why: string }) => {
      throw new ThriftException('Refused', { why, code: 7 });
    },
    fail: ({ why }: { why: string }) => {
      throw new Error(why);
    },
    hold: ({ key }: { key: string }, call: Call) =>
      new Promise((resolve) => holding.set(call, { key, letGo: () => resolve(key) })),
    note: () => {},
  };
  const serve = dispatchOf(
    serveHandlers<Call>({
      interface: found,
      handlers: Object.fromEntries(
        Object.entries(handlers).map(([method, handler]) => [
          method,
          (args: never, call: Call) => {
            handle(method, args);
            return handler(args, call);
          },
        ]),
      ),
      i64: 'bigint',
      contextOf: (call) => call,
    }),
  );

  const pools: PoolView[] = ['1.0.0', '2.0.0'].map((version) => ({
    id: `Exchange@${version}`,
    details: { service: 'Exchange', version, roles: [], tags: [], more: {} } satisfies PoolDetails,
    interface: found,
    free: 1,
    alive: 1,
    queued: 0,
  }));
  const choose = ({ service, method, version }: Pick<Call, 'service' | 'method' | 'version'>): PoolView => {
    const pool = isOffered
      ? pools.find(
          ({ details }) =>
            (service === '' || service === details.service) &&
            (version === '' || version === details.version) &&
            found.methods.has(method),
        )
      : undefined;
    if (pool === undefined) {
      throw new KatamariError('no_pool', `No pool offers ${service}@${version}.${method}`, {
        unknownMethod: !found.methods.has(method),
      });
    }
    return pool;
  };

  const dispatch = async (call: Call): Promise<Reply> => {
    if (remembers) calls.push(call);
    const { version } = choose(call).details;
    const reply = await within(call, serve(call)).finally(() => holding.delete(call));
    return { ...reply, context: { ...reply.context, version, queueUs: 1, serviceUs: 1 } };
  };
  return {
    mesh: {
      dispatch,
      send: sendOf(dispatch),
      directory: { mayCall: () => true, pools: () => (isOffered ? pools : []), choose, waitForCopy: () => false },
      timeoutMs: () => timeoutMs,
    },
    interface: found,
    calls,
    handled,
    held: () => [...holding.values()].map(({ key }) => key),
    release(key) {
      for (const { key: held, letGo } of holding.values()) if (held === key) letGo();
    },
    setTimeoutMs: (ms) => {
      timeoutMs = ms;
    },
    setIsOffered: (is) => {
      isOffered = is;
    },
  };
}

/** Resolves to the reply. Rejects with `timeout` at the deadline and with `cancelled` when the caller goes away. */
function within(call: Call, reply: Promise<Reply>): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      clearTimeout(timer);
      call.signal?.removeEventListener('abort', onAbort);
    };
    const onAbort = (): void => {
      end();
      reject(new KatamariError('cancelled', 'The caller has gone'));
    };
    const timer = setTimeout(
      () => {
        end();
        reject(new KatamariError('timeout', `${call.method} took longer than it may`, { stage: 'service' }));
      },
      Math.min(Math.max(0, call.deadlineMs - performance.now()), 2 ** 31 - 1),
    );
    call.signal?.addEventListener('abort', onAbort, { once: true });
    reply.then(resolve, reject).finally(end);
  });
}

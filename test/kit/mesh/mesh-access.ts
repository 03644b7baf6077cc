// A MeshAccess for faceplate tests: the real router in front of real handlers, which are called through the codec.
// Each resource runs one call at a time, and a call waits in the queue until its deadline at the latest. There are no
// processes and no sockets.
import { parseIdl, readIdlFile } from '../../../core/idl/mod.ts';
import { KatamariError, systemClock } from '../../../core/mod.ts';
import {
  sendOf,
  dispatchOf,
  serveHandlers,
  StatsTable,
  type Call,
  type Dispatch,
  type Handlers,
  type MeshAccess,
  type Reply,
} from '../../../core/rpc/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import { Router, type Offer } from '../../../services/mesh/mod.ts';

import { fileURLToPath } from 'node:url';

export interface PoolText {
  readonly idl: string;
  readonly service: string;
  readonly version?: string;
  readonly roles?: readonly string[];
  readonly tags?: readonly string[];
  readonly handlers: Handlers<Call>;
  /** Number of concurrent calls; the default is 1. */
  readonly resources?: number;
  readonly queueMax?: number;
}

export interface TestMeshAccess extends MeshAccess {
  readonly router: Router;
  readonly callStats: StatsTable;
  /** Calls that reached a handler, in order. */
  readonly ran: Call[];
  setTimeoutMs(timeoutMs: number): void;
  setPools(pools: readonly PoolText[]): void;
}

/** Path of a file in test/fixtures/idl. */
export function idlFixture(name: string): string {
  return fileURLToPath(new URL(`../../fixtures/idl/${name}`, import.meta.url));
}

export function testMeshAccess(pools: readonly PoolText[], timeoutMs = 10_000): TestMeshAccess {
  const router = new Router({ clock: systemClock });
  const ran: Call[] = [];
  let globalTimeoutMs = timeoutMs;
  const setPools = (texts: readonly PoolText[]): void => router.setOffers(texts.map((text) => offerOf(text, ran)));
  setPools(pools);
  return {
    dispatch: router.dispatch,
    send: router.send,
    directory: router,
    timeoutMs: () => globalTimeoutMs,
    router,
    callStats: new StatsTable(),
    ran,
    setTimeoutMs(next) {
      globalTimeoutMs = next;
    },
    setPools,
  };
}

function offerOf(text: PoolText, ran: Call[]): Offer {
  const { idl, service, version = '1.0.0', roles = [], tags = [], handlers, resources = 1, queueMax = 1_000 } = text;
  const face = parseIdl(readIdlFile(idl)).services.get(service) as Interface;
  const work = dispatchOf(serveHandlers<Call>({ interface: face, handlers, i64: 'bigint', contextOf: (call) => call }));
  const pool = new LinePool(
    async (call) => {
      ran.push(call);
      return work(call);
    },
    version,
    resources,
    queueMax,
  );
  return {
    id: `${service}@${version}`,
    manager: 'test',
    details: { service, version, roles, tags, more: {} },
    interface: face,
    isReachable: true,
    get free() {
      return pool.free;
    },
    alive: resources,
    get queued() {
      return pool.waiting.length;
    },
    send: sendOf(pool.dispatch),
  };
}

/** A FIFO queue. A call leaves it at its deadline or when its caller cancels. */
class LinePool {
  readonly waiting: (() => void)[] = [];
  free: number;
  readonly #work: Dispatch;
  readonly #version: string;
  readonly #queueMax: number;

  constructor(work: Dispatch, version: string, resources: number, queueMax: number) {
    this.#work = work;
    this.#version = version;
    this.free = resources;
    this.#queueMax = queueMax;
  }

  readonly dispatch: Dispatch = (call) =>
    new Promise<Reply>((resolve, reject) => {
      const cameMs = performance.now();
      let stage: 'queue' | 'service' = 'queue';
      const leave = (error: KatamariError): void => {
        clearTimeout(timer);
        call.signal?.removeEventListener('abort', onAbort);
        const place = this.waiting.indexOf(begin);
        if (place >= 0) this.waiting.splice(place, 1);
        reject(error);
      };
      const onAbort = (): void => leave(new KatamariError('cancelled', 'The caller has gone'));
      const begin = (): void => {
        this.free--;
        stage = 'service';
        const begunMs = performance.now();
        void this.#work(call)
          .then((reply) => {
            const queueUs = Math.round((begunMs - cameMs) * 1_000);
            const serviceUs = Math.round((performance.now() - begunMs) * 1_000);
            resolve({ ...reply, context: { ...reply.context, version: this.#version, queueUs, serviceUs } });
          }, reject)
          .finally(() => {
            clearTimeout(timer);
            call.signal?.removeEventListener('abort', onAbort);
            this.free++;
            this.waiting.shift()?.();
          });
      };
      const timer = setTimeout(
        () =>
          leave(
            new KatamariError('timeout', `The deadline passed in the ${stage}`, { stage, notRun: stage === 'queue' }),
          ),
        Math.max(0, call.deadlineMs - cameMs),
      );
      call.signal?.addEventListener('abort', onAbort);
      if (this.free > 0) begin();
      else if (this.waiting.length < this.#queueMax) this.waiting.push(begin);
      else
        leave(
          new KatamariError('overloaded', `The queue is full: ${this.#queueMax} calls are waiting`, {
            retryAfterMs: 1_200,
            notRun: true,
          }),
        );
    });
}

// A plain Thrift server as a chassis: its deployment says what it is, and its health is a method of its own, when the deployment names one. Most
import { decodeResult } from '../../core/idl/mod.ts';
import { PlainLink, type ReplySink } from '../../core/link/mod.ts';
import { DEFAULT_LIMITS, type KatamariError } from '../../core/mod.ts';
import { createCall, EMPTY_STRUCT, type Call, type Reply } from '../../core/rpc/mod.ts';
import { readApplicationException, type Interface, type Method } from '../../core/thrift/mod.ts';
import { whyNoHealthCheck } from '../mesh/mod.ts';
import type { ReadyChassis, ReadinessOptions } from './introduced.ts';
import type { ResourceLink } from './resource.ts';

// servers work on one call a connection at a time, so there is a connection for each place; with one place that is the only one it gets.

import type { Socket } from 'node:net';

/** @param connect makes one connection more @throws Error saying what is wrong with it; nothing is left open then. */
export async function awaitPlainServer(
  options: ReadinessOptions,
  offered: Interface,
  connect: () => Promise<Socket>,
): Promise<ReadyChassis> {
  const { expected } = options;
  const { service, version, roles, tags, more, transport, protocol } = expected;
  const healthMethod = healthMethodOf(offered, expected.healthCheck);
  const places = expected.concurrency ?? 1;
  const links = new PlainLinks(options.onLinkClosed);
  try {
    for (let n = 0; n < places; n++) {
      const limits = { frameBytesMax: options.frameBytesMax, nestingMax: DEFAULT_LIMITS.nestingMax };
      const manner = { transport, protocol };
      const onClose = (error: KatamariError): void => links.onClosed(error);
      const socket = await connect();
      links.add(new PlainLink(socket, { peer: options.name, manner, limits, interface: offered, onClose }));
    }
    const isWell = healthMethod === undefined ? undefined : (): Promise<void> => links.check(healthMethod);
    return {
      details: { service, version, roles, tags, more },
      interface: offered,
      places,
      ahead: 0,
      link: links,
      isWell,
    };
  } catch (error) {
    links.close();
    throw error;
  }
}

/** The connections of one server. When one ends, all do: its process cannot be trusted any more. */
class PlainLinks implements ResourceLink {
  readonly #links: PlainLink[] = [];
  readonly #onClose: (error: KatamariError) => void;
  #isOpen = true;

  constructor(onClose: (error: KatamariError) => void) {
    this.#onClose = onClose;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  add(link: PlainLink): void {
    this.#links.push(link);
  }

  /** A connection on which nothing is under way, if there is one: a health check may hold one up. */
  send(call: Call, sink: ReplySink): number {
    let chosen = this.#links[0] as PlainLink;
    for (const link of this.#links) if (link.underWay < chosen.underWay) chosen = link;
    chosen.send(call, sink);
    return 0;
  }

  /** What was sent cannot be taken back, and nothing is sent ahead. */
  cancel(): boolean {
    return false;
  }

  /** Asks on every connection: each may have a thread of its own behind it. @throws Error when one is not well */
  async check(method: Method): Promise<void> {
    // Whoever asks keeps the time.
    const deadlineMs = Number.POSITIVE_INFINITY;
    const call = createCall({ service: method.declaredBy, method: method.name, args: EMPTY_STRUCT, deadlineMs });
    await Promise.all(
      this.#links.map(async (link) => {
        const reply = await new Promise<Reply>((resolve, reject) => link.send(call, { reply: resolve, fail: reject }));
        throwUnlessWell(method, reply);
      }),
    );
  }

  close(why?: string): void {
    for (const link of this.#links) link.close(why);
  }

  onClosed(error: KatamariError): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.close('lost another of its connections');
    this.#onClose(error);
  }
}

function throwUnlessWell(method: Method, { isException, body }: Reply): void {
  if (isException) throw new Error(`its health check ${method.name} failed: ${readApplicationException(body).message}`);
  const result = decodeResult(method, body);
  if (!result.ok) throw new Error(`its health check ${method.name} answered with exception ${result.exception}`);
}

/** @throws Error when the method cannot be a health check */
function healthMethodOf(offered: Interface, name: string): Method | undefined {
  if (name === '') return undefined;
  const why = whyNoHealthCheck(offered, name);
  if (why !== undefined) throw new Error(`its deployment has healthCheck ${name}, but ${why}`);
  return offered.methods.get(name);
}

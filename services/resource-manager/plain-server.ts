// A plain Thrift server as a chassis. Its deployment describes it; its health check is a method of its interface, if
// the deployment names one. Most servers run one call at a time per connection, so the number of connections is the
// `concurrency` of the deployment.

import { decodeResult } from '../../core/idl/mod.ts';
import { PlainLink, type ReplySink } from '../../core/link/mod.ts';
import { DEFAULT_LIMITS, type KatamariError } from '../../core/mod.ts';
import { createCall, EMPTY_STRUCT, type Call, type Reply } from '../../core/rpc/mod.ts';
import { readApplicationException, type Interface, type Method } from '../../core/thrift/mod.ts';
import { whyNoHealthCheck } from '../mesh/mod.ts';
import { PermanentFault } from './permanent-fault.ts';
import type { ReadyChassis, ReadinessOptions } from './ready-chassis.ts';
import type { ResourceLink } from './resource.ts';

import type { Socket } from 'node:net';

/** @param connect opens one more connection @throws Error that says what is wrong; no connection is left open then */
export async function awaitPlainServer(
  options: ReadinessOptions,
  iface: Interface,
  connect: () => Promise<Socket>,
): Promise<ReadyChassis> {
  const { expected } = options;
  const { service, version, roles, tags, more, transport, protocol } = expected;
  const healthMethod = healthMethodOf(iface, expected.healthCheck);
  const concurrency = expected.concurrency ?? 1;
  const links = new PlainLinks(options.onLinkClosed);
  try {
    for (let n = 0; n < concurrency; n++) {
      const limits = { frameBytesMax: options.frameBytesMax, nestingMax: DEFAULT_LIMITS.nestingMax };
      const wireFormat = { transport, protocol };
      const onClose = (error: KatamariError): void => links.onClosed(error);
      const socket = await connect();
      links.add(new PlainLink(socket, { peer: options.name, wireFormat, limits, interface: iface, onClose }));
    }
    const checkHealth = healthMethod === undefined ? undefined : (): Promise<void> => links.check(healthMethod);
    return {
      details: { service, version, roles, tags, more },
      interface: iface,
      concurrency,
      ahead: 0,
      link: links,
      checkHealth,
    };
  } catch (error) {
    links.close();
    throw error;
  }
}

/** The connections of one server. When one closes, all are closed: the process is not trusted any more. */
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

  /** Sends on the connection with the fewest calls in progress: a health check may occupy one. */
  send(call: Call, sink: ReplySink): number {
    let chosen = this.#links[0] as PlainLink;
    for (const link of this.#links) if (link.inFlight < chosen.inFlight) chosen = link;
    chosen.send(call, sink);
    return 0;
  }

  /** A plain server cannot cancel a call, and no call is sent ahead to it. */
  cancel(): boolean {
    return false;
  }

  /**
   * Calls the health check on every connection, because each may be served by its own thread.
   * @throws Error when one fails
   */
  async check(method: Method): Promise<void> {
    // The caller enforces the timeout.
    const deadlineMs = Number.POSITIVE_INFINITY;
    const call = createCall({ service: method.declaredBy, method: method.name, args: EMPTY_STRUCT, deadlineMs });
    await Promise.all(
      this.#links.map(async (link) => {
        const reply = await new Promise<Reply>((resolve, reject) => link.send(call, { reply: resolve, fail: reject }));
        throwUnlessHealthy(method, reply);
      }),
    );
  }

  close(why?: string): void {
    for (const link of this.#links) link.close(why);
  }

  onClosed(error: KatamariError): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.close('another of its connections has closed');
    this.#onClose(error);
  }
}

function throwUnlessHealthy(method: Method, { isException, body }: Reply): void {
  if (isException) throw new Error(`its health check ${method.name} failed: ${readApplicationException(body).message}`);
  const result = decodeResult(method, body);
  if (!result.ok) throw new Error(`its health check ${method.name} answered with exception ${result.exception}`);
}

/** @throws PermanentFault when the method cannot be a health check */
function healthMethodOf(iface: Interface, name: string): Method | undefined {
  if (name === '') return undefined;
  const why = whyNoHealthCheck(iface, name);
  if (why !== undefined) throw new PermanentFault(`its deployment has healthCheck ${name}, but ${why}`);
  return iface.methods.get(name);
}

// The readiness check of a chassis that was just launched: connects as soon as it listens, calls `describe`, then
// `ping`. The description must agree with the deployment. A plain Thrift server has no `describe`, so its deployment
// describes it (plain-server.ts).

import { parseIdl } from '../../core/idl/mod.ts';
import { Link, parseLinkAddress } from '../../core/link/mod.ts';
import { sleep } from '../../core/mod.ts';
import { callControl, chassisInterface, type ChassisDetails } from '../../core/rpc/mod.ts';
import type { IdlSource, Interface } from '../../core/thrift/mod.ts';
import type { ReadyChassis, ExpectedChassis, ReadinessOptions } from './ready-chassis.ts';
import { PermanentFault } from './permanent-fault.ts';
import { awaitPlainServer } from './plain-server.ts';
import { connect as connectTo, type Socket } from 'node:net';
import { LRUCache } from 'lru-cache';

/** Resolves when the chassis is ready. @throws Error that says what is wrong; the link is closed then */
export async function awaitReadiness(options: ReadinessOptions): Promise<ReadyChassis> {
  const ready = await describeChassis(options);
  try {
    if (ready.checkHealth !== undefined) await unlessAborted(ready.checkHealth(), options.signal);
    return ready;
  } catch (error) {
    ready.link.close();
    throw error;
  }
}

async function describeChassis(options: ReadinessOptions): Promise<ReadyChassis> {
  const { expected, address, signal } = options;
  const connect = (): Promise<Socket> => connectWhenListening(address, signal);
  if (expected.idl !== null) return awaitPlainServer(options, interfaceOf(expected.idl, expected.service), connect);
  const link = new Link(await connect(), {
    peer: options.name,
    limits: options.limits,
    onClose: options.onLinkClosed,
  });
  try {
    const described = completed((await control(link, 'describe', options)) as Partial<ChassisDetails> | undefined);
    checkExpected(described, expected);
    return {
      details: {
        service: expected.service,
        version: expected.version,
        roles: union(described.roles, expected.roles),
        tags: union(described.tags, expected.tags),
        more: { ...described.more, ...expected.more },
      },
      interface: interfaceOf({ main: described.idlMain, files: described.idlFiles }, expected.service),
      concurrency: expected.concurrency ?? Math.max(1, described.concurrency),
      ahead: Math.max(0, described.ahead ?? 0),
      link,
      checkHealth: () => control(link, 'ping', options),
      holdsShards: described.holdsShards ?? false,
      dispatch: link.dispatch(options.clock, ({ service, method }) => `${service}:${method}`),
    };
  } catch (error) {
    link.close();
    throw error;
  }
}

/** Calls a method of the control service `katamari.Chassis`. Rejects when the signal is aborted first. */
async function control(
  link: Link,
  method: 'describe' | 'ping',
  options: Pick<ReadinessOptions, 'clock' | 'signal'>,
): Promise<unknown> {
  const dispatch = link.dispatch(options.clock, () => `${CHASSIS_SERVICE}:${method}`);
  const answer = await callControl((call) => unlessAborted(dispatch(call), options.signal), chassisInterface(), {
    service: CHASSIS_SERVICE,
    method,
    deadlineMs: options.clock.nowMs() + CONTROL_TIMEOUT_MS,
  });
  if (answer.kind === 'result') return answer.value;
  if (answer.kind === 'declared')
    throw new Error(`it answered ${CHASSIS_SERVICE}.${method} with exception ${answer.exception}`);
  const Fault = method === 'describe' ? PermanentFault : Error;
  throw new Fault(
    `it answered ${CHASSIS_SERVICE}.${method} with: ${answer.message}. A server without the SDK needs "kit: none" and "idl" in its deployment`,
  );
}

/** Connects as soon as the chassis listens. Polls at a short interval, because each wait delays the start. */
async function connectWhenListening(address: string, signal: AbortSignal): Promise<Socket> {
  const where = parseLinkAddress(address);
  for (;;) {
    signal.throwIfAborted();
    const socket = connectTo(where);
    const isConnected = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true));
      socket.once('error', () => resolve(false));
    });
    if (isConnected) return socket;
    socket.destroy();
    await sleep(CONNECT_EVERY_MS, signal);
  }
}

/**
 * A program that writes Thrift may leave out any field. Lists and maps are empty then.
 * @throws PermanentFault when a field is missing without which the chassis cannot be used
 */
function completed(described: Partial<ChassisDetails> = {}): ChassisDetails {
  const { serviceName, version, idlMain, idlFiles } = described;
  if (serviceName === undefined || version === undefined || idlMain === undefined || idlFiles === undefined) {
    const missing = NEEDED.filter((name) => described[name] === undefined);
    throw new PermanentFault(
      `its answer to katamari.Chassis.describe has no ${missing.join(', no ')}; idl/chassis.thrift lists what it must return`,
    );
  }
  const { roles = [], tags = [], more = {}, concurrency = 1, sdk = '', ahead, holdsShards = false } = described;
  const details = { serviceName, version, roles, tags, more, idlMain, idlFiles, concurrency, sdk, holdsShards };
  return ahead === undefined ? details : { ...details, ahead };
}

const NEEDED = ['serviceName', 'version', 'idlMain', 'idlFiles'] as const;

function checkExpected(described: ChassisDetails, expected: ExpectedChassis): void {
  if (described.serviceName === expected.service && described.version === expected.version) return;
  throw new PermanentFault(
    `it says it is ${described.serviceName}@${described.version}, its deployment says ${expected.service}@${expected.version}; make the two agree`,
  );
}

/**
 * Compiles the IDL of a chassis; cached, because all replicas send the same text.
 * @throws PermanentFault when it cannot be parsed or lacks the service
 */
function interfaceOf(source: IdlSource, service: string): Interface {
  const key = JSON.stringify([service, source.main, source.files]);
  const cached = compiled.get(key);
  if (cached !== undefined) return cached;
  const services = servicesOf(source);
  const found = services.get(service);
  if (found === undefined)
    throw new PermanentFault(
      `its IDL ${source.main} has no service "${service}"; it has ${[...services.keys()].join(', ') || 'none'}`,
    );
  compiled.set(key, found);
  return found;
}

function servicesOf(source: IdlSource): ReadonlyMap<string, Interface> {
  try {
    return parseIdl(source).services;
  } catch (error) {
    throw new PermanentFault(`its IDL cannot be used: ${(error as Error).message}`, { cause: error });
  }
}

function union(some: readonly string[], others: readonly string[]): readonly string[] {
  return [...new Set([...some, ...others])].sort();
}

/** Settles with the work, or rejects with the signal's reason if that comes first. Leaves no listener behind. */
export function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    void work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

const compiled = new LRUCache<string, Interface>({ max: 500 });
const CHASSIS_SERVICE = 'katamari.Chassis';
const CONNECT_EVERY_MS = 10;
const CONTROL_TIMEOUT_MS = 10_000;

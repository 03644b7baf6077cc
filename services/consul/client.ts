// The client of Consul: sessions, services and their checks, and by ConsulStore the KV store.

import type { Address } from '../../core/mod.ts';
import type { ConsulClientOptions } from './options.ts';
import { ConsulError, FRESH } from './requests.ts';
import { RESPONSES } from './responses.ts';
import type { ConsulAction, ConsulRight } from './advice.ts';
import { ConsulStore } from './store.ts';
import type Consul from 'consul';
import type { z } from 'zod';

export interface SessionRequest {
  readonly name: string;
  readonly ttlMs: number;
  readonly lockDelayMs: number;
  readonly behavior: 'release' | 'delete';
  /** Ids of checks on this agent. The session ends when one of them turns critical. */
  readonly checks: readonly string[];
}

/** A health check of this process. */
export type ProcessCheck =
  | { readonly kind: 'tcp'; readonly address: string; readonly intervalMs: number; readonly timeoutMs: number }
  | { readonly kind: 'http'; readonly url: string; readonly intervalMs: number; readonly timeoutMs: number }
  | { readonly kind: 'ttl'; readonly ttlMs: number };

export interface ServiceRequest {
  readonly id: string;
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly tags: readonly string[];
  readonly meta: Readonly<Record<string, string>>;
  readonly check: ProcessCheck;
  /** Consul deregisters a service that has been critical for this long; at least one minute. */
  readonly deregisterAfterMs: number;
}

/** Creates a client without sending anything. @throws Error for an invalid address or an unreadable file */
export function consulClient(options: ConsulClientOptions = {}): ConsulClient {
  return new ConsulClient(options);
}

export class ConsulClient extends ConsulStore {
  async createSession(request: SessionRequest, signal?: AbortSignal): Promise<string> {
    const { body } = await this.call(
      RESPONSES.createdSession,
      { text: `create a session for ${request.name}`, needs: SESSION },
      signal,
      (common) =>
        this.api.session.create({
          name: request.name,
          ttl: `${request.ttlMs}ms`,
          lockdelay: `${request.lockDelayMs}ms`,
          behavior: request.behavior,
          checks: [...request.checks],
          ...common,
        }),
    );
    return (body as NonNullable<typeof body>).ID;
  }

  /** Returns false if the session no longer exists. */
  async renewSession(id: string, signal?: AbortSignal): Promise<boolean> {
    try {
      await this.call(RESPONSES.renewedSession, { text: 'renew the session', needs: SESSION }, signal, (common) =>
        this.api.session.renew({ id, ...common }),
      );
      return true;
    } catch (error) {
      if (error instanceof ConsulError && error.status === 404) return false;
      throw error;
    }
  }

  /** Returns whether a session exists. With an index it is a blocking query on all sessions, for at most `waitMs`. */
  async hasSession(
    id: string,
    options: { index?: number; waitMs?: number; signal?: AbortSignal } = {},
  ): Promise<{ index: number; lives: boolean }> {
    const { index = 0, waitMs = 0, signal } = options;
    const { wait, timeoutMs } = this.readOptions(index, waitMs);
    const { body, index: next } = await this.call(
      RESPONSES.sessions,
      { text: 'read the session', needs: SESSION },
      signal,
      (common) => this.api.session.info({ id, ...wait, ...common }),
      timeoutMs,
    );
    if (!(next > 0)) throw this.notConsul('read the session', 'a response without an index');
    return { index: next, lives: (body ?? []).length > 0 };
  }

  async destroySession(id: string, signal?: AbortSignal): Promise<void> {
    await this.call(RESPONSES.applied, { text: 'destroy the session', needs: SESSION }, signal, (common) =>
      this.api.session.destroy({ id, ...common }),
    );
  }

  /**
   * Registers a service and its check on the agent. The check starts as passing; the agent runs it for the first time
   * within its interval.
   */
  async registerService(request: ServiceRequest, signal?: AbortSignal): Promise<void> {
    const check = {
      ...checkFields(request.check),
      status: 'passing',
      deregistercriticalserviceafter: `${request.deregisterAfterMs}ms`,
    };
    const { id, name, host, port, tags, meta } = request;
    await this.call(RESPONSES.nothing, { text: `register the service ${name}`, needs: SERVICE }, signal, (common) =>
      this.api.agent.service.register({
        id,
        name,
        address: host,
        port,
        tags: [...tags],
        meta,
        check,
        ...common,
      } as unknown as Parameters<Consul['agent']['service']['register']>[0]),
    );
  }

  async deregisterService(id: string, signal?: AbortSignal): Promise<void> {
    await this.call(RESPONSES.nothing, { text: `deregister the service ${id}`, needs: SERVICE }, signal, (common) =>
      this.api.agent.service.deregister({ id, ...common }),
    );
  }

  /** Returns the ids of the services on this agent. */
  async serviceIds(signal?: AbortSignal): Promise<string[]> {
    return [...(await this.serviceAddresses(signal)).keys()];
  }

  /** Returns the addresses of the services on this agent, by id. */
  async serviceAddresses(signal?: AbortSignal): Promise<Map<string, Address>> {
    const { body } = await this.call(RESPONSES.services, { text: 'list services', needs: SERVICE }, signal, (common) =>
      this.api.agent.service.list({ ...common }),
    );
    return new Map(Object.entries(body ?? {}).map(([id, { Address, Port }]) => [id, { host: Address, port: Port }]));
  }

  /** Marks a TTL check as passing. */
  async passCheck(id: string, signal?: AbortSignal): Promise<void> {
    await this.call(RESPONSES.nothing, { text: `pass the check ${id}`, needs: SERVICE }, signal, (common) =>
      this.api.agent.check.pass({ id, ...common }),
    );
  }

  /**
   * Copies a passing check of this agent, and its service, to the catalog. After an outage the agent may wait half a
   * minute before it syncs with the servers. Returns false if the check does not pass on the agent.
   */
  async syncCheck(id: string, signal?: AbortSignal): Promise<boolean> {
    const read = async <T>(
      schema: z.ZodType<T>,
      text: string,
      needs: ConsulRight,
      send: (common: object) => Promise<unknown>,
    ): Promise<T | undefined> => (await this.call(schema, { text, needs }, signal, send)).body;
    const checks = await read(RESPONSES.checks, 'list checks', SERVICE, (common) =>
      this.api.agent.check.list({ ...common }),
    );
    const check = ownValue(checks, id);
    if (check === undefined || check.Status !== 'passing') return false;
    const services = await read(RESPONSES.services, 'list services', SERVICE, (common) =>
      this.api.agent.service.list({ ...common }),
    );
    const service = ownValue(services, check.ServiceID);
    const self = await read(RESPONSES.self, AGENT_NAME.text, AGENT_NAME.needs, (common) =>
      this.api.agent.self({ ...common }),
    );
    if (service === undefined || self === undefined) return false;
    const entry = {
      node: self.Member.Name,
      address: self.Member.Addr,
      skipnodeupdate: true,
      service: {
        id: service.ID,
        service: service.Service,
        tags: service.Tags ?? [],
        meta: service.Meta ?? {},
        address: service.Address,
        port: service.Port,
      },
      check: { checkid: id, name: check.Name, serviceid: service.ID, status: check.Status },
    };
    await read(RESPONSES.applied, `copy the check ${id} to the catalog`, SERVICE, (common) =>
      this.api.catalog.register({ ...entry, ...common } as unknown as Parameters<Consul['catalog']['register']>[0] &
        object),
    );
    return true;
  }

  /** Returns the address of Consul's leader; '' for none. This is the cheapest way to see whether Consul responds. */
  async leader(signal?: AbortSignal): Promise<string> {
    const { body } = await this.call(RESPONSES.leader, { text: LEADER, needs: SERVICE }, signal, (common) =>
      this.api.status.leader({ ...common }),
    );
    return body ?? '';
  }

  /** Returns node name, data center and version of the agent. */
  async agent(signal?: AbortSignal): Promise<{ node: string; datacenter: string; version: string }> {
    const { body } = await this.call(RESPONSES.self, AGENT_NAME, signal, (common) =>
      this.api.agent.self({ ...common }),
    );
    const { NodeName, Datacenter, Version } = (body as NonNullable<typeof body>).Config;
    return { node: NodeName, datacenter: Datacenter, version: Version };
  }

  /** Lists all sessions with their names and checks. */
  async sessions(signal?: AbortSignal): Promise<{ id: string; name: string; node: string; checks: string[] }[]> {
    const { body } = await this.call(RESPONSES.sessions, { text: 'list sessions', needs: SESSION }, signal, (common) =>
      this.api.session.list({ ...(FRESH as object), ...common }),
    );
    return (body ?? []).map(({ ID, Name, Node, Checks }) => ({
      id: ID,
      name: Name,
      node: Node,
      checks: Checks ?? [],
    }));
  }
}

/** Users choose the ids of services and checks; one may be `constructor`. */
function ownValue<T>(record: Readonly<Record<string, T>> | undefined, key: string): T | undefined {
  return record !== undefined && Object.hasOwn(record, key) ? record[key] : undefined;
}

function checkFields(check: ProcessCheck): object {
  switch (check.kind) {
    case 'tcp':
      return { tcp: check.address, interval: `${check.intervalMs}ms`, timeout: `${check.timeoutMs}ms` };
    case 'http':
      return { http: check.url, interval: `${check.intervalMs}ms`, timeout: `${check.timeoutMs}ms` };
    case 'ttl':
      return { ttl: `${check.ttlMs}ms` };
  }
}

const SESSION: ConsulRight = { resource: 'session' };
const SERVICE: ConsulRight = { resource: 'service' };
const LEADER = 'ask for the leader';
const AGENT_NAME: ConsulAction = { text: 'ask the agent for its name', needs: { resource: 'agent' } };

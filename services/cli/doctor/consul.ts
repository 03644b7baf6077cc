// Checks of Consul: it answers, the token has the needed rights, and sessions and health checks work. Each check
// performs the real operation, with a key, a session and a service of its own, and removes them afterwards. It tries
// once, with a timeout of a few seconds.

import { formatAddress } from '../../../core/mod.ts';
import { type Config, advertisedHost, consulTokensOf } from '../../config/mod.ts';
import { consulClient, ConsulError, consulOptionsOf, type ConsulClient } from '../../consul/mod.ts';
import { keysOf } from '../../mesh/mod.ts';
import { fail, ok, type Finding } from './finding.ts';
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:net';

export interface ConsulFindings {
  readonly findings: readonly Finding[];
  /** Client for further checks; undefined if Consul cannot be used. The caller closes it. */
  readonly client: ConsulClient | undefined;
}

export async function examineConsul(config: Config, env: NodeJS.ProcessEnv): Promise<ConsulFindings> {
  if (config.consul.embedded) return { findings: [ok(CONSUL, 'embedded in the mesh')], client: undefined };
  const client = openClient(config, env);
  if (!('leader' in client)) return { findings: [client], client: undefined };
  const answered = await checkLeader(client, config);
  if (answered.verdict === 'FAIL') {
    client.close();
    return { findings: [answered], client: undefined };
  }
  const findings = [answered, await checkAgent(client), ...(await checkKeys(client, config))];
  const service = await checkHealthChecks(client, config);
  const session = service.verdict === 'FAIL' ? [] : [await checkSessions(client, config)];
  return { findings: [...findings, service, ...session], client };
}

/** Opens a client as the mesh does: settings that the configuration lacks come from CONSUL_* variables. */
function openClient(config: Config, env: NodeJS.ProcessEnv): ConsulClient | Finding {
  try {
    const { address, caFile, certFile, keyFile } = config.consul;
    const [token = ''] = consulTokensOf(config);
    const settings = Object.entries({ address, token, caFile, certFile, keyFile }).filter(([, value]) => value !== '');
    return consulClient({
      ...consulOptionsOf(env).options,
      ...Object.fromEntries(settings),
      timeoutMs: REPLY_TIMEOUT_MS,
    });
  } catch (error) {
    return fail(CONSUL, (error as Error).message, 'correct the address or the file in the section consul');
  }
}

async function checkLeader(client: ConsulClient, { consul }: Config): Promise<Finding> {
  const where = `the Consul at ${consul.address}`;
  try {
    const leader = await client.leader();
    if (leader !== '') return ok(CONSUL, `${where} answers, its leader is ${leader}`);
    const advice =
      'start a majority of its servers (two of three, three of five) and let them reach each other, then run this again';
    return fail(CONSUL, `${where} has no leader`, advice);
  } catch (error) {
    const { trouble, status, isCancelled, message } = asConsulError(error);
    if (trouble === 'refused') {
      const advice = 'start it, correct consul.address, or let the mesh embed its own (consul.embedded: true)';
      return fail(CONSUL, `${where} does not answer: ${message}`, advice);
    }
    if (trouble === 'tls' || trouble === 'denied')
      return fail(CONSUL, message, 'correct the section consul as described');
    // Without a leader Consul answers 500. Only the message gives the reason.
    if (status === 500 && /no cluster leader/i.test(message)) return fail(CONSUL, message, 'start more of its servers');
    const text = `the server at ${consul.address} does not answer like Consul: ${message}`;
    if (isCancelled || /timed? ?out/i.test(message))
      return fail(CONSUL, text, 'correct consul.address; if it is right, find out why Consul does not answer in time');
    return fail(CONSUL, text, 'correct consul.address: the default HTTP port of Consul is 8500');
  }
}

async function checkAgent(client: ConsulClient): Promise<Finding> {
  return attempt('Consul agent', 'warn', async () => {
    const { node, datacenter, version } = await client.agent();
    return ok('Consul agent', `node ${node} of ${datacenter}, Consul ${version}`);
  });
}

/** Checks reads, lists, writes and deletes of keys. Returns one finding, for the first step that fails. */
async function checkKeys(client: ConsulClient, { mesh }: Config): Promise<Finding[]> {
  const subject = 'Consul keys';
  const folder = `${keysOf(mesh).prefix}doctor/`;
  const key = `${folder}${randomUUID()}`;
  const finding = await attempt(subject, 'FAIL', async () => {
    await client.put(key, 'written by katamari doctor');
    if ((await client.get(key)) === undefined)
      return fail(subject, `${key} was written but cannot be read`, 'give the token read access to its key_prefix');
    // Without read access, Consul returns an empty list instead of an error.
    if (!(await client.list(folder)).entries.some((entry) => entry.key === key))
      return fail(
        subject,
        `${key} can be read but is not listed`,
        'give the token read and list access to its key_prefix',
      );
    return ok(subject, `can read, list, write and delete below ${keysOf(mesh).prefix}`);
  });
  const removed = await attempt(subject, 'FAIL', async () => {
    await client.delete(key);
    return finding;
  });
  return [finding.verdict === 'FAIL' ? finding : removed];
}

/**
 * Registers a service with a TCP check of this process. Every process of the mesh does the same, and its session
 * depends on that check.
 */
async function checkHealthChecks(client: ConsulClient, config: Config): Promise<Finding> {
  const subject = 'Consul checks';
  const host = advertisedHost(config);
  const listener = await listenFor(config.host);
  if (listener instanceof Error) {
    const text = `cannot listen on ${config.host} to be checked: ${listener.message}`;
    return fail(subject, text, 'give an address of this machine with --host');
  }
  const id = `${SERVICE}:${randomUUID()}`;
  const address = formatAddress({ host, port: listener.port });
  try {
    return await attempt(subject, 'FAIL', async () => {
      const check = { kind: 'tcp', address, intervalMs: 1_000, timeoutMs: 1_000 } as const;
      const place = { host, port: listener.port, tags: [config.mesh], meta: {} };
      await client.registerService({ id, name: SERVICE, ...place, check, deregisterAfterMs: 60_000 });
      if (await listener.isReached(FIRST_CHECK_MS)) return ok(subject, `the agent reaches this process at ${host}`);
      const text = `the agent accepted a check of ${address} but cannot reach it: sessions would end at once`;
      const advice =
        'use the agent of this machine, or set advertise (or host) to an address of this machine that the agent reaches';
      return fail(subject, text, advice);
    });
  } finally {
    listener.close();
    // Ignore errors: Consul may have refused the registration, and it removes a failing service after a minute.
    await client.deregisterService(id).catch(() => undefined);
  }
}

/** Checks sessions. This session has no health check that could end it. */
async function checkSessions(client: ConsulClient, { mesh }: Config): Promise<Finding> {
  const subject = 'Consul sessions';
  const key = `${keysOf(mesh).prefix}doctor/${randomUUID()}`;
  let id = '';
  const finding = await attempt(subject, 'FAIL', async () => {
    id = await client.createSession({ name: SERVICE, ttlMs: TTL_MS, lockDelayMs: 0, behavior: 'delete', checks: [] });
    if (!(await client.put(key, '', { acquire: id })))
      return fail(subject, 'a session cannot lock a key', 'read the log of the Consul servers');
    if (!(await client.renewSession(id)))
      return fail(subject, 'a session ended at once', 'check the health of the agent: `consul members`');
    return ok(subject, `can be created (TTL ${TTL_MS / 1_000} s), renewed and destroyed, and lock keys`);
  });
  if (id === '') {
    const isTtl = /Session TTL/i.test(finding.text);
    return isTtl ? { ...finding, advice: 'set session_ttl_min to 10s or less on the Consul servers' } : finding;
  }
  const ended = await attempt(subject, 'FAIL', async () => {
    await client.destroySession(id);
    if ((await client.get(key)) === undefined) return finding;
    await client.delete(key);
    return fail(subject, 'a key still exists after the session that holds it', 'read the log of the Consul servers');
  });
  return finding.verdict === 'FAIL' ? finding : ended;
}

/** Runs a check. A ConsulError becomes a finding with the message of the error. */
async function attempt(subject: string, verdict: 'FAIL' | 'warn', check: () => Promise<Finding>): Promise<Finding> {
  try {
    return await check();
  } catch (error) {
    const { trouble, message } = asConsulError(error);
    const advice =
      trouble === 'denied' ? 'give the token this rule: docs/consul.md, "ACL rights"' : 'read the log of Consul';
    return { verdict, subject, text: message, advice };
  }
}

interface ProbeListener {
  readonly port: number;
  /** Whether a connection arrives within the time. */
  isReached(withinMs: number): Promise<boolean>;
  close(): void;
}

function listenFor(host: string): Promise<ProbeListener | Error> {
  return new Promise((resolve) => {
    let onConnection: () => void = () => undefined;
    const connected = new Promise<boolean>((settle) => (onConnection = () => settle(true)));
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.destroy();
      onConnection();
    });
    server.once('error', resolve);
    server.listen(0, host, () =>
      resolve({
        port: (server.address() as { port: number }).port,
        isReached: async (withinMs) => {
          let timer: NodeJS.Timeout | undefined;
          const timeout = new Promise<boolean>((settle) => (timer = setTimeout(() => settle(false), withinMs)));
          const isReached = await Promise.race([connected, timeout]);
          clearTimeout(timer);
          return isReached;
        },
        close: () => void server.close(),
      }),
    );
  });
}

function asConsulError(error: unknown): ConsulError {
  if (error instanceof ConsulError) return error;
  throw error;
}

const CONSUL = 'Consul';
const SERVICE = 'katamari-doctor';
const REPLY_TIMEOUT_MS = 3_000;
/** The agent runs the first check within its interval, 1 s, and the check may take 1 s. */
const FIRST_CHECK_MS = 4_000;
/** TTL of the sessions of the mesh. */
const TTL_MS = 10_000;

// What the doctor finds between this process and its Consul: whether it answers and is one, what the token may do, whether sessions and
// checks come about. Everything is tried for real, on a key, a session and a service of the doctor's own, which are gone afterwards. Asks
import { type Config, advertisedHost } from '../../config/mod.ts';
import { consulClient, ConsulError, consulOptionsOf, type ConsulClient } from '../../consul/mod.ts';
import { keysOf } from '../../mesh/mod.ts';
import type { Finding } from './finding.ts';

// once and waits seconds, not for ever.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:net';

export interface ConsulFindings {
  readonly findings: readonly Finding[];
  /** To look further with; undefined when Consul cannot be used. Whoever gets it closes it. */
  readonly client: ConsulClient | undefined;
}

export async function examineConsul(config: Config, env: NodeJS.ProcessEnv): Promise<ConsulFindings> {
  if (config.consul.embedded) return { findings: [ok(SUBJECT, 'embedded in the mesh')], client: undefined };
  const client = openClient(config, env);
  if (!('leader' in client)) return { findings: [client], client: undefined };
  const answered = await askLeader(client, config);
  if (answered.verdict === 'FAIL') {
    client.close();
    return { findings: [answered], client: undefined };
  }
  const findings = [answered, await askAgent(client), ...(await tryKeys(client, config))];
  const service = await tryService(client, config);
  const session = service.verdict === 'FAIL' ? [] : [await trySession(client, config)];
  return { findings: [...findings, service, ...session], client };
}

/** As the mesh makes its own: what the configuration does not say comes from CONSUL_* variables. */
function openClient({ consul }: Config, env: NodeJS.ProcessEnv): ConsulClient | Finding {
  try {
    const { address, token, caFile, certFile, keyFile } = consul;
    const given = Object.entries({ address, token, caFile, certFile, keyFile }).filter(([, value]) => value !== '');
    return consulClient({ ...consulOptionsOf(env).options, ...Object.fromEntries(given), timeoutMs: ANSWER_MS });
  } catch (error) {
    return fail(SUBJECT, (error as Error).message, 'correct the address or the file in the section consul');
  }
}

async function askLeader(client: ConsulClient, { consul }: Config): Promise<Finding> {
  const where = `the Consul at ${consul.address}`;
  try {
    const leader = await client.leader();
    if (leader !== '') return ok(SUBJECT, `${where} answers, its leader is ${leader}`);
    const advice =
      'start enough of its servers (two of three, three of five), let them reach each other, then look again';
    return fail(SUBJECT, `${where} has no leader`, advice);
  } catch (error) {
    const { trouble, status, isCancelled, message } = asConsulError(error);
    if (trouble === 'refused') {
      const advice = 'start it, correct consul.address, or let the mesh embed its own (consul.embedded: true)';
      return fail(SUBJECT, `${where} does not answer: ${message}`, advice);
    }
    if (trouble === 'tls' || trouble === 'denied') return fail(SUBJECT, message, 'correct the section consul as said');
    // A server without a leader may say so with an error.
    if (status === 500 && /no cluster leader/i.test(message))
      return fail(SUBJECT, message, 'start more of its servers');
    const text = `what listens at ${consul.address} does not answer as Consul does: ${message}`;
    if (isCancelled || /timed? ?out/i.test(message))
      return fail(SUBJECT, text, 'correct consul.address; if that is Consul, see why it does not answer in time');
    return fail(SUBJECT, text, "correct consul.address: Consul's HTTP port is 8500, unless it was told otherwise");
  }
}

async function askAgent(client: ConsulClient): Promise<Finding> {
  return tried('Consul agent', 'warn', async () => {
    const { node, datacenter, version } = await client.agent();
    return ok('Consul agent', `node ${node} of ${datacenter}, Consul ${version}`);
  });
}

/** One line for all that a process does with keys; the first step that fails is the one to mend. */
async function tryKeys(client: ConsulClient, { mesh }: Config): Promise<Finding[]> {
  const subject = 'Consul keys';
  const folder = `${keysOf(mesh).prefix}doctor/`;
  const key = `${folder}${randomUUID()}`;
  const found = await tried(subject, 'FAIL', async () => {
    await client.put(key, 'written by katamari doctor');
    if ((await client.get(key)) === undefined)
      return fail(subject, `${key} was written and cannot be read`, 'let the token read what it may write');
    // Without the right to read, a list is not refused but empty.
    if (!(await client.list(folder)).entries.some((entry) => entry.key === key))
      return fail(subject, `${key} can be read but is not listed`, 'let the token read and list its key_prefix');
    return ok(subject, `can read, list, write and delete below ${keysOf(mesh).prefix}`);
  });
  const removed = await tried(subject, 'FAIL', async () => {
    await client.delete(key);
    return found;
  });
  return [found.verdict === 'FAIL' ? found : removed];
}

/** Registers a service whose check is a connection to this process: what each process of the mesh does, and what its session hangs on. */
async function tryService(client: ConsulClient, config: Config): Promise<Finding> {
  const subject = 'Consul checks';
  const host = advertisedHost(config);
  const knocked = await listenFor(config.host);
  if (knocked instanceof Error) {
    const text = `cannot listen on ${config.host} to be checked: ${knocked.message}`;
    return fail(subject, text, 'give an address of this machine with --host');
  }
  const id = `${SERVICE}:${randomUUID()}`;
  const address = `${host.includes(':') ? `[${host}]` : host}:${knocked.port}`;
  try {
    return await tried(subject, 'FAIL', async () => {
      const check = { kind: 'tcp', address, intervalMs: 1_000, timeoutMs: 1_000 } as const;
      const place = { host, port: knocked.port, tags: [config.mesh], meta: {} };
      await client.registerService({ id, name: SERVICE, ...place, check, deregisterAfterMs: 60_000 });
      if (await knocked.isKnocked(KNOCK_MS)) return ok(subject, `the agent reaches this process at ${host}`);
      const text = `the agent took a check of ${address} but does not get there: sessions would end as soon as they begin`;
      const advice =
        'use the agent of this machine, or say with advertise (or host) which address of this machine the agent reaches';
      return fail(subject, text, advice);
    });
  } finally {
    knocked.close();
    // What was refused is not there to be removed; what is left is removed by Consul in a minute.
    await client.deregisterService(id).catch(() => undefined);
  }
}

/** With a check that it beats itself, so that nothing but the session is tried. */
async function trySession(client: ConsulClient, { mesh }: Config): Promise<Finding> {
  const subject = 'Consul sessions';
  const key = `${keysOf(mesh).prefix}doctor/${randomUUID()}`;
  let id = '';
  const found = await tried(subject, 'FAIL', async () => {
    id = await client.createSession({ name: SERVICE, ttlMs: TTL_MS, lockDelayMs: 0, behavior: 'delete', checks: [] });
    if (!(await client.put(key, '', { acquire: id })))
      return fail(subject, 'a session cannot lock a key', 'look at the log of the Consul servers');
    if (!(await client.renewSession(id)))
      return fail(subject, 'a session is gone at once', 'look at the health of the agent: `consul members`');
    return ok(subject, `can be held for ${TTL_MS / 1_000} s, renewed and ended, and lock keys`);
  });
  if (id === '') {
    const isTtl = /Session TTL/i.test(found.text);
    return isTtl ? { ...found, advice: 'set session_ttl_min to 10s or less on the Consul servers' } : found;
  }
  const ended = await tried(subject, 'FAIL', async () => {
    await client.destroySession(id);
    if ((await client.get(key)) === undefined) return found;
    await client.delete(key);
    return fail(subject, 'a key outlives the session that holds it', 'look at the log of the Consul servers');
  });
  return found.verdict === 'FAIL' ? found : ended;
}

/** Runs a trial; an error of Consul's becomes a finding in its own words, which say what to do. */
async function tried(subject: string, verdict: 'FAIL' | 'warn', trial: () => Promise<Finding>): Promise<Finding> {
  try {
    return await trial();
  } catch (error) {
    const { trouble, message } = asConsulError(error);
    const advice =
      trouble === 'denied' ? 'give the token this rule: docs/consul.md, "ACL rights"' : 'look at the log of Consul';
    return { verdict, subject, text: message, advice };
  }
}

interface Knocked {
  readonly port: number;
  /** Whether somebody connects within the time. */
  isKnocked(withinMs: number): Promise<boolean>;
  close(): void;
}

function listenFor(host: string): Promise<Knocked | Error> {
  return new Promise((resolve) => {
    let tell: () => void = () => undefined;
    const knock = new Promise<boolean>((hear) => (tell = () => hear(true)));
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.destroy();
      tell();
    });
    server.once('error', resolve);
    server.listen(0, host, () =>
      resolve({
        port: (server.address() as { port: number }).port,
        isKnocked: async (withinMs) => {
          let timer: NodeJS.Timeout | undefined;
          const late = new Promise<boolean>((hear) => (timer = setTimeout(() => hear(false), withinMs)));
          const isKnocked = await Promise.race([knock, late]);
          clearTimeout(timer);
          return isKnocked;
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

function ok(subject: string, text: string): Finding {
  return { verdict: 'OK', subject, text, advice: '' };
}

function fail(subject: string, text: string, advice: string): Finding {
  return { verdict: 'FAIL', subject, text, advice };
}

const SUBJECT = 'Consul';
const SERVICE = 'katamari-doctor';
const ANSWER_MS = 3_000;
/** The agent looks for the first time within the check's interval, a second, and may take one. */
const KNOCK_MS = 4_000;
/** As the mesh's own sessions. */
const TTL_MS = 10_000;

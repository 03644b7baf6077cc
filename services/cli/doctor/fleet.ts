// Checks of the other processes of the mesh: which are registered, which master leads, whether each can be reached
// (link, stats, faceplates), and whether two share a name. All checks are read-only.

import { connectLink } from '../../../core/link/mod.ts';
import { KatamariError, parseAddress } from '../../../core/mod.ts';
import { type Config, linkSecurityOf } from '../../config/mod.ts';
import { ConsulError, type ConsulClient, type ConsulEntry } from '../../consul/mod.ts';
import { FACEPLATE, keysOf, LEADER, MANAGER, MASTER, readRecord, readRecords } from '../../mesh/mod.ts';
import type { Finding } from './finding.ts';
import { connect } from 'node:net';

export async function checkFleet(config: Config, client: ConsulClient): Promise<Finding[]> {
  const { prefix } = keysOf(config.mesh);
  let entries: ReadonlyMap<string, ConsulEntry>;
  let shared: Finding[];
  try {
    const list = await client.list(prefix);
    entries = new Map(list.entries.map((entry) => [entry.key, entry]));
    shared = duplicateNames(config.mesh, await client.sessions());
  } catch (error) {
    if (!(error instanceof ConsulError)) throw error;
    return [{ verdict: 'FAIL', subject: `mesh ${config.mesh}`, text: error.message, advice: 'see the lines above' }];
  }
  const invalid: Finding[] = [];
  const fleet = readFleet(config.mesh, entries, invalid);
  return [
    describeFleet(config.mesh, fleet),
    ...describeLeader(config.mesh, fleet, entries),
    ...invalid,
    ...shared,
    ...ownName(config, fleet),
    ...(await Promise.all(addressesOf(fleet).map((endpoint) => checkReachable(endpoint, config)))),
  ];
}

type ProcessRole = 'master' | 'manager' | 'faceplate';

interface MeshMember {
  readonly name: string;
  readonly role: ProcessRole;
  readonly machine: string;
  /** Addresses that it listens on, by purpose: `link`, `stats`, `Thrift`, or the name of another faceplate. */
  readonly addresses: readonly { readonly purpose: string; readonly address: string }[];
}

function readFleet(mesh: string, entries: ReadonlyMap<string, ConsulEntry>, invalid: Finding[]): MeshMember[] {
  const keys = keysOf(mesh);
  const options = {
    onlyHeld: true,
    onInvalid: (name: string, error: Error): void => {
      invalid.push({
        verdict: 'warn',
        subject: `record ${name}`,
        text: `is invalid: ${error.message.replaceAll(/\s+/g, ' ')}`,
        advice: 'run the same version of Katamari everywhere, or stop the program that writes this key',
      });
    },
  };
  const masters = readRecords(MASTER, keys.masters, entries, options);
  const managers = readRecords(MANAGER, keys.managers, entries, options);
  const faceplates = readRecords(FACEPLATE, keys.faceplates, entries, options);
  const member = (role: ProcessRole, name: string, machine: string, addresses: Record<string, string>): MeshMember => ({
    role,
    name,
    machine,
    addresses: Object.entries(addresses)
      .filter(([, address]) => address !== '')
      .map(([purpose, address]) => ({ purpose, address })),
  });
  return [
    ...[...masters].map(([name, { machine, stats }]) => member('master', name, machine, { stats })),
    ...[...managers].map(([name, { machine, stats, address }]) =>
      member('manager', name, machine, { link: address, stats }),
    ),
    ...[...faceplates].map(([name, { machine, stats, thrift, jsonRpc, web, added }]) =>
      member('faceplate', name, machine, { Thrift: thrift, 'JSON-RPC': jsonRpc, web, ...added, stats }),
    ),
  ];
}

function describeFleet(mesh: string, fleet: readonly MeshMember[]): Finding {
  const subject = `mesh ${mesh}`;
  if (fleet.length === 0)
    return { verdict: 'OK', subject, text: 'no process is registered; this would be the first', advice: '' };
  const count = (role: ProcessRole): string => {
    const names = fleet.filter((one) => one.role === role).map(({ name }) => name);
    return `${names.length} ${role}${names.length === 1 ? '' : 's'}${names.length === 0 ? '' : ` (${names.join(', ')})`}`;
  };
  return { verdict: 'OK', subject, text: `${count('master')}, ${count('manager')}, ${count('faceplate')}`, advice: '' };
}

function describeLeader(
  mesh: string,
  fleet: readonly MeshMember[],
  entries: ReadonlyMap<string, ConsulEntry>,
): Finding[] {
  if (fleet.length === 0) return [];
  const subject = 'leader';
  const entry = entries.get(keysOf(mesh).leader);
  const record = entry === undefined ? undefined : readRecord(LEADER, entry.value);
  if (entry !== undefined && entry.session !== '' && record !== undefined && !(record instanceof Error))
    return [{ verdict: 'OK', subject, text: `${record.name} leads, in term ${entry.lockIndex}`, advice: '' }];
  const hasMaster = fleet.some(({ role }) => role === 'master');
  return [
    {
      verdict: 'warn',
      subject,
      text: hasMaster
        ? 'there are masters, but none leads'
        : 'there is no master; calls and deployments from configuration files still work',
      advice: hasMaster
        ? 'wait a few seconds and run this again; if there is still no leader, read the log of the masters'
        : 'start one with `katamari master`; until then, `katamari deploy` has no effect',
    },
  ];
}

type Sessions = Awaited<ReturnType<ConsulClient['sessions']>>;

/**
 * Finds duplicate names: several sessions that depend on the same health check belong to processes with the same
 * name.
 */
function duplicateNames(mesh: string, sessions: Sessions): Finding[] {
  const byCheck = new Map<string, string[]>();
  for (const { checks, node } of sessions) {
    for (const check of checks) byCheck.set(check, [...(byCheck.get(check) ?? []), node]);
  }
  return [...byCheck].flatMap(([check, nodes]): Finding[] => {
    const [, service = '', of = '', name = ''] = /^service:(katamari-[^:]*):([^:]*):(.*)$/.exec(check) ?? [];
    if (nodes.length < 2 || of !== mesh) return [];
    const where = [...new Set(nodes)].sort().join(', ');
    return [
      {
        verdict: 'FAIL',
        subject: `name ${name}`,
        text: `${nodes.length} processes (${service}) have this name, at the Consul nodes ${where}: each hides the others`,
        advice:
          'give each process its own name (--name) and restart them. A process that was just killed still counts for a second or two',
      },
    ];
  });
}

/** Reports if a process on another machine already has the name of this process. */
function ownName({ name, machine }: Config, fleet: readonly MeshMember[]): Finding[] {
  const elsewhere = fleet.find((one) => one.name === name && one.machine !== machine);
  if (elsewhere === undefined) return [];
  return [
    {
      verdict: 'FAIL',
      subject: `name ${name}`,
      text: `a ${elsewhere.role} with this name runs on ${elsewhere.machine}`,
      advice: 'give this process another name (--name)',
    },
  ];
}

interface ProcessAddresses {
  readonly member: string;
  readonly addresses: MeshMember['addresses'];
}

/** Groups addresses by process. A process with several roles has one stats faceplate. */
function addressesOf(fleet: readonly MeshMember[]): ProcessAddresses[] {
  const byName = new Map<string, Map<string, MeshMember['addresses'][number]>>();
  for (const { name, addresses } of fleet) {
    const known = byName.get(name) ?? new Map<string, MeshMember['addresses'][number]>();
    for (const endpoint of addresses) known.set(`${endpoint.purpose} ${endpoint.address}`, endpoint);
    byName.set(name, known);
  }
  return [...byName].map(([member, addresses]) => ({ member, addresses: [...addresses.values()] }));
}

async function checkReachable({ member, addresses }: ProcessAddresses, config: Config): Promise<Finding> {
  const subject = `process ${member}`;
  const results = await Promise.all(
    addresses.map(async ({ purpose, address }) => ({
      purpose,
      address,
      problem: await findProblem(purpose, address, config),
    })),
  );
  const failed = results.flatMap(({ problem, ...rest }) => (problem === undefined ? [] : [{ ...rest, ...problem }]));
  if (failed.length === 0) {
    const text = `can be reached: ${results.map(({ purpose, address }) => `${purpose} ${address}`).join(', ')}`;
    return { verdict: 'OK', subject, text, advice: '' };
  }
  const affectsCalls = failed.some(({ purpose }) => purpose !== 'stats');
  return {
    verdict: affectsCalls ? 'FAIL' : 'warn',
    subject,
    text: failed.map(({ purpose, address, text }) => `${purpose} ${address}: ${text}`).join('; '),
    advice: failed.some(({ isDenied }) => isDenied)
      ? 'give all processes of the mesh the same link.secret, or certificates of one CA'
      : 'check that the process runs, that firewalls allow the port, and that other machines can reach its advertise address',
  };
}

/** Why an address cannot be used from this process. */
interface AddressProblem {
  readonly text: string;
  /** The process rejected the link secret or certificate. */
  readonly isDenied: boolean;
}

/** Returns why an address cannot be reached, or undefined if it can. */
async function findProblem(purpose: string, address: string, config: Config): Promise<AddressProblem | undefined> {
  try {
    if (purpose !== 'link') {
      const text = await (purpose === 'stats'
        ? statsProblem(address)
        : portProblem(address.replace(/^[a-z]+:\/\//, '')));
      return text === '' ? undefined : { text, isDenied: false };
    }
    const socket = await connectLink(`tcp:${address}`, {
      security: linkSecurityOf(config),
      timeoutMs: CONNECT_TIMEOUT_MS,
    });
    socket.destroy();
    return undefined;
  } catch (error) {
    const isDenied = error instanceof KatamariError && error.code === 'denied';
    return { text: `${isDenied ? 'access denied: ' : ''}${(error as Error).message}`, isDenied };
  }
}

async function statsProblem(url: string): Promise<string> {
  const answer = await fetch(`${url}/livez`, { signal: AbortSignal.timeout(CONNECT_TIMEOUT_MS) }).catch(
    (error: Error) => error,
  );
  if (answer instanceof Error) return (answer.cause as Error | undefined)?.message ?? answer.message;
  await answer.arrayBuffer();
  return answer.ok ? '' : `/livez answers ${answer.status}`;
}

function portProblem(text: string): Promise<string> {
  const address = parseAddress(text);
  if (address === undefined) return Promise.resolve('is not HOST:PORT');
  return new Promise((resolve) => {
    const socket = connect(address);
    const end = (problem: string): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(problem);
    };
    const timer = setTimeout(() => end(`no answer within ${CONNECT_TIMEOUT_MS} ms`), CONNECT_TIMEOUT_MS);
    socket.once('connect', () => end(''));
    socket.once('error', (error) => end(error.message));
  });
}

const CONNECT_TIMEOUT_MS = 2_000;

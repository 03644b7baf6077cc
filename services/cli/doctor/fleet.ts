// What the doctor finds out about the mesh from here: which processes are registered, who leads, whether each can be reached (link, stats,
import { connectLink } from '../../../core/link/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import { type Config, linkSecurityOf } from '../../config/mod.ts';
import { ConsulError, type ConsulClient, type ConsulEntry } from '../../consul/mod.ts';
import { FACEPLATE, keysOf, LEADER, MANAGER, MASTER, readRecord, readRecords } from '../../mesh/mod.ts';
import type { Finding } from './finding.ts';

// faceplates), and whether two share a name. Looks only; calls nothing that changes anything.

import { connect } from 'node:net';

export async function checkFleet(config: Config, client: ConsulClient): Promise<Finding[]> {
  const { prefix } = keysOf(config.mesh);
  let entries: ReadonlyMap<string, ConsulEntry>;
  let shared: Finding[];
  try {
    const list = await client.list(prefix);
    entries = new Map(list.entries.map((entry) => [entry.key, entry]));
    shared = namesakes(config.mesh, await client.sessions());
  } catch (error) {
    if (!(error instanceof ConsulError)) throw error;
    return [{ verdict: 'FAIL', subject: `mesh ${config.mesh}`, text: error.message, advice: 'see the lines above' }];
  }
  const wrong: Finding[] = [];
  const fleet = readFleet(config.mesh, entries, wrong);
  return [
    describeFleet(config.mesh, fleet),
    ...describeLeader(config.mesh, fleet, entries),
    ...wrong,
    ...shared,
    ...ownName(config, fleet),
    ...(await Promise.all(placesOf(fleet).map((place) => checkPlace(place, config)))),
  ];
}

type ProcessRole = 'master' | 'manager' | 'faceplate';

interface MeshMember {
  readonly name: string;
  readonly role: ProcessRole;
  readonly machine: string;
  /** What it listens on, by what for: `link`, `stats`, `Thrift`, the name of another front. */
  readonly places: readonly { readonly what: string; readonly address: string }[];
}

function readFleet(mesh: string, entries: ReadonlyMap<string, ConsulEntry>, wrong: Finding[]): MeshMember[] {
  const keys = keysOf(mesh);
  const options = {
    onlyHeld: true,
    onWrong: (name: string, error: Error): void => {
      wrong.push({
        verdict: 'warn',
        subject: `record ${name}`,
        text: `is not as it should be: ${error.message.replaceAll(/\s+/g, ' ')}`,
        advice: 'run the same version of Katamari everywhere, or end what writes there',
      });
    },
  };
  const masters = readRecords(MASTER, keys.masters, entries, options);
  const managers = readRecords(MANAGER, keys.managers, entries, options);
  const faceplates = readRecords(FACEPLATE, keys.faceplates, entries, options);
  const member = (role: ProcessRole, name: string, machine: string, places: Record<string, string>): MeshMember => ({
    role,
    name,
    machine,
    places: Object.entries(places)
      .filter(([, address]) => address !== '')
      .map(([what, address]) => ({ what, address })),
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
    return { verdict: 'OK', subject, text: 'nothing is registered: this would be its first process', advice: '' };
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
        ? 'there are masters and none leads'
        : 'there is no master; calls go on, deployments from files too',
      advice: hasMaster
        ? 'wait some seconds and look again; then look at the log of the masters'
        : 'start one with `katamari master`, or what is written with `katamari deploy` stays undone',
    },
  ];
}

type Sessions = Awaited<ReturnType<ConsulClient['sessions']>>;

/** Sessions of this mesh that hang on equal checks are held by processes that take each other's place. */
function namesakes(mesh: string, sessions: Sessions): Finding[] {
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
        text: `${nodes.length} processes (${service}) have it, at the Consul nodes ${where}: each hides the others`,
        advice:
          'give each process a name of its own (--name), then restart them. One that was killed a moment ago counts for a second or two',
      },
    ];
  });
}

/** A process that is to start here under a name that another machine uses. */
function ownName({ name, machine }: Config, fleet: readonly MeshMember[]): Finding[] {
  const elsewhere = fleet.find((one) => one.name === name && one.machine !== machine);
  if (elsewhere === undefined) return [];
  return [
    {
      verdict: 'FAIL',
      subject: `name ${name}`,
      text: `a ${elsewhere.role} of this name runs on ${elsewhere.machine}`,
      advice: 'start this one with another name (--name)',
    },
  ];
}

interface RecordLocation {
  readonly member: string;
  readonly places: MeshMember['places'];
}

/** One process may have several roles and one stats faceplate. */
function placesOf(fleet: readonly MeshMember[]): RecordLocation[] {
  const byName = new Map<string, Map<string, MeshMember['places'][number]>>();
  for (const { name, places } of fleet) {
    const known = byName.get(name) ?? new Map<string, MeshMember['places'][number]>();
    for (const place of places) known.set(`${place.what} ${place.address}`, place);
    byName.set(name, known);
  }
  return [...byName].map(([member, places]) => ({ member, places: [...places.values()] }));
}

async function checkPlace({ member, places }: RecordLocation, config: Config): Promise<Finding> {
  const subject = `process ${member}`;
  const told = await Promise.all(
    places.map(async ({ what, address }) => ({ what, address, trouble: await troubleWith(what, address, config) })),
  );
  const failed = told.filter(({ trouble }) => trouble !== '');
  if (failed.length === 0) {
    const text = `can be reached: ${told.map(({ what, address }) => `${what} ${address}`).join(', ')}`;
    return { verdict: 'OK', subject, text, advice: '' };
  }
  const isCalled = failed.some(({ what }) => what !== 'stats');
  return {
    verdict: isCalled ? 'FAIL' : 'warn',
    subject,
    text: failed.map(({ what, address, trouble }) => `${what} ${address}: ${trouble}`).join('; '),
    advice: failed.some(({ trouble }) => trouble.includes(NOT_PROVED))
      ? 'give all processes of the mesh the same link.secret, or certificates of one CA'
      : 'see that it runs, let firewalls pass that port, and that its advertise is an address which others reach',
  };
}

/** Why an address cannot be used from here, '' when it can. */
async function troubleWith(what: string, address: string, config: Config): Promise<string> {
  try {
    if (what === 'stats') return await troubleWithStats(address);
    if (what !== 'link') return await troubleWithPort(address.replace(/^[a-z]+:\/\//, ''));
    const socket = await connectLink(`tcp:${address}`, { security: linkSecurityOf(config), timeoutMs: REACH_MS });
    socket.destroy();
    return '';
  } catch (error) {
    const isDenied = error instanceof KatamariError && error.code === 'denied';
    return `${isDenied ? `${NOT_PROVED}: ` : ''}${(error as Error).message}`;
  }
}

async function troubleWithStats(url: string): Promise<string> {
  const answer = await fetch(`${url}/livez`, { signal: AbortSignal.timeout(REACH_MS) }).catch((error: Error) => error);
  if (answer instanceof Error) return (answer.cause as Error | undefined)?.message ?? answer.message;
  await answer.arrayBuffer();
  return answer.ok ? '' : `/livez answers ${answer.status}`;
}

function troubleWithPort(address: string): Promise<string> {
  const [, host = '', port = ''] = /^\[?(.*?)\]?:(\d+)$/.exec(address) ?? [];
  if (port === '') return Promise.resolve('is no HOST:PORT');
  return new Promise((resolve) => {
    const socket = connect({ host, port: Number(port) });
    const end = (trouble: string): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(trouble);
    };
    const timer = setTimeout(() => end(`no answer within ${REACH_MS} ms`), REACH_MS);
    socket.once('connect', () => end(''));
    socket.once('error', (error) => end(error.message));
  });
}

const NOT_PROVED = 'it does not let us in';
const REACH_MS = 2_000;

// A network of Linux network namespaces: one namespace for each host, all on one bridge, on which this process has an
// address too. The path from one host to another can be cut so that packets are lost silently, as when a switch
// fails. Needs root.
//
// How a path is cut: the sender gets a permanent neighbor entry for the other host with a MAC address that does not
// exist. The bridge floods such frames and no host accepts them. A blackhole route would not do: the kernel reports
// it to a local sender at once.

import { execFile, spawnSync } from 'node:child_process';
import { networkInterfaces } from 'node:os';
import { promisify } from 'node:util';
import { isAlive } from '../mesh/mesh.ts';
import { HOSTS_MAX, type Host, type Network } from './network.ts';
import { Random } from '../tools/random.ts';
import { toolPath } from '../tools/tools.ts';

export type Ways = 'both' | 'one way';

export interface NamespaceNetwork extends Network {
  /** This process as a host of the network. */
  readonly outside: Host;
  /**
   * Drops packets from `from` to `to`, and with `both` also those in the other direction. Open connections stay open.
   */
  cut(from: Host, to: Host, ways?: Ways): Promise<void>;
  heal(from: Host, to: Host, ways?: Ways): Promise<void>;
  /** Lets connections between two hosts fail at once, as when a router knows no way. Open ones stay open. */
  forbid(one: Host, other: Host): Promise<void>;
  allow(one: Host, other: Host): Promise<void>;
  /** Switches the network interface of a host off, or takes it away with its address. */
  unplug(host: Host, how: 'down' | 'gone'): Promise<void>;
  plugIn(host: Host): Promise<void>;
}

/** @throws Error that says what is missing when this process may not create namespaces */
export async function namespaceNetwork(
  random: Random = new Random(Date.now() ^ process.pid),
): Promise<NamespaceNetwork> {
  if (process.getuid?.() !== 0) throw new Error(`${CANNOT}: that needs root, run this as root or use loopback`);
  await sweep();
  // The pid identifies the owner, so that what a killed process left behind can be found. Names may have 15
  // characters.
  const tag = `${PREFIX}${process.pid.toString(36)}-${random.below(36 ** 2).toString(36)}`;
  const network = new Namespaces(tag, freePrefix(random));
  try {
    await network.open();
  } catch (error) {
    await network.end();
    throw new Error(`${CANNOT}: ${(error as Error).message.trim()}. In a container it takes NET_ADMIN and SYS_ADMIN`, {
      cause: error,
    });
  }
  return network;
}

/** Names of existing namespaces, bridges and interfaces of such networks, of any creator. */
export async function namespaceLeftovers(): Promise<string[]> {
  const [namespaces, links] = await Promise.all([ip('netns', 'list'), ip('-o', 'link')]);
  const names = [
    ...namespaces.split('\n').map((line) => line.split(' ')[0] ?? ''),
    ...links.split('\n').map((line) => /^\d+: ([^:@]+)/.exec(line)?.[1] ?? ''),
  ];
  return names.filter((name) => name.startsWith(PREFIX));
}

class Namespaces implements NamespaceNetwork {
  readonly range: string;
  readonly outside: Host;
  readonly #tag: string;
  readonly #prefix: string;
  readonly #hosts: Host[] = [];
  /** Undo functions, run in reverse order. */
  readonly #undo: string[][] = [];
  readonly #endWithTests = (): void => {
    for (const line of this.#undo.reverse()) spawnSync(toolPath('ip'), line, { stdio: 'ignore' });
  };

  constructor(tag: string, prefix: string) {
    this.#tag = tag;
    this.#prefix = prefix;
    this.range = `${prefix}.0/24`;
    this.outside = { name: 'outside', address: `${prefix}.1`, command: (line) => [...line] };
    process.once('exit', this.#endWithTests);
  }

  async open(): Promise<void> {
    await this.#do(['link', 'add', this.#tag, 'type', 'bridge'], ['link', 'del', this.#tag]);
    await ip('addr', 'add', `${this.outside.address}/24`, 'dev', this.#tag);
    await ip('link', 'set', this.#tag, 'up');
  }

  async addHost(name: string): Promise<Host> {
    const index = this.#hosts.length + 1;
    if (index > HOSTS_MAX) throw new Error(`Cannot add host "${name}": ${HOSTS_MAX} are there`);
    const namespace = `${this.#tag}-${index}`;
    const address = `${this.#prefix}.${index + 1}`;
    const ipPath = toolPath('ip');
    const host = { name, address, command: (line: readonly string[]) => [ipPath, 'netns', 'exec', namespace, ...line] };
    this.#hosts.push(host);
    await this.#do(['netns', 'add', namespace], ['netns', 'del', namespace]);
    this.#undo.push(['link', 'del', namespace]);
    await ip('-n', namespace, 'link', 'set', 'lo', 'up');
    await this.#addCard(namespace, address);
    return host;
  }

  /** The interface on the bridge is named like the namespace, so that a list of interfaces shows where it belongs. */
  async #addCard(namespace: string, address: string): Promise<void> {
    await ip('link', 'add', namespace, 'type', 'veth', 'peer', 'name', CARD, 'netns', namespace);
    await ip('link', 'set', namespace, 'master', this.#tag, 'up');
    await ip('-n', namespace, 'addr', 'add', `${address}/24`, 'dev', CARD);
    await ip('-n', namespace, 'link', 'set', CARD, 'up');
  }

  async cut(from: Host, to: Host, ways: Ways = 'both'): Promise<void> {
    const entry = ['lladdr', NO_CARD, 'nud', 'permanent'];
    await this.#neighbor(from, 'replace', to, entry);
    if (ways === 'both') await this.#neighbor(to, 'replace', from, entry);
  }

  async heal(from: Host, to: Host, ways: Ways = 'both'): Promise<void> {
    await this.#neighbor(from, 'del', to, []);
    // One direction may not have been cut.
    if (ways === 'both') await this.#neighbor(to, 'del', from, []);
  }

  async forbid(one: Host, other: Host): Promise<void> {
    await this.#route('add', one, other);
    await this.#route('add', other, one);
  }

  async allow(one: Host, other: Host): Promise<void> {
    await this.#route('del', one, other);
    await this.#route('del', other, one);
  }

  async unplug(host: Host, how: 'down' | 'gone'): Promise<void> {
    await ip('-n', this.#namespaceOf(host), 'link', ...(how === 'down' ? ['set', CARD, 'down'] : ['del', CARD]));
  }

  async plugIn(host: Host): Promise<void> {
    const namespace = this.#namespaceOf(host);
    const cards = await ip('-n', namespace, '-o', 'link');
    if (cards.includes(`${CARD}@`)) await ip('-n', namespace, 'link', 'set', CARD, 'up');
    else await this.#addCard(namespace, host.address);
  }

  async end(): Promise<void> {
    process.off('exit', this.#endWithTests);
    for (const line of this.#undo.splice(0).reverse()) await ip(...line).catch(() => undefined);
  }

  async #route(what: 'add' | 'del', at: Host, to: Host): Promise<void> {
    await ip('-n', this.#namespaceOf(at), 'route', what, 'unreachable', `${to.address}/32`);
  }

  #namespaceOf(host: Host): string {
    const index = this.#hosts.indexOf(host);
    if (index === -1) throw new Error(`Host "${host.name}" has no namespace in this network`);
    return `${this.#tag}-${index + 1}`;
  }

  async #neighbor(of: Host, what: 'replace' | 'del', to: Host, entry: readonly string[]): Promise<void> {
    const index = this.#hosts.indexOf(of);
    if (index === -1 && of !== this.outside) throw new Error(`Host "${of.name}" is not of this network`);
    const [where, card] = index === -1 ? [[], this.#tag] : [['-n', `${this.#tag}-${index + 1}`], CARD];
    const done = ip(...where, 'neigh', what, to.address, ...entry, 'dev', card);
    await (what === 'replace' ? done : done.catch(absent));
  }

  async #do(line: string[], undo: string[]): Promise<void> {
    await ip(...line);
    this.#undo.push(undo);
  }
}

/** Removes the leftovers of processes that are gone. */
async function sweep(): Promise<void> {
  for (const name of await namespaceLeftovers()) {
    const owner = parseInt(name.slice(PREFIX.length).split('-')[0] ?? '', 36);
    if (isAlive(owner)) continue;
    await ip('netns', 'del', name).catch(() => undefined);
    await ip('link', 'del', name).catch(() => undefined);
  }
}

/** A /24 prefix from 10.64.0.0/10 that no interface of this machine uses. */
function freePrefix(random: Random): string {
  const used = Object.values(networkInterfaces()).flatMap((cards) => (cards ?? []).map(({ address }) => address));
  for (;;) {
    const prefix = `10.${random.between(64, 127)}.${random.between(0, 255)}`;
    if (!used.some((address) => address.startsWith(`${prefix}.`))) return prefix;
  }
}

async function ip(...line: string[]): Promise<string> {
  return (await run(toolPath('ip'), line, { timeout: IP_MS })).stdout;
}

/** Healing a direction that was not cut is no error. */
function absent(error: Error): void {
  if (!error.message.includes('No such file')) throw error;
}

const run = promisify(execFile);
const CANNOT = 'Cannot make network namespaces';
const PREFIX = 'ktm-';
const CARD = 'eth0';
/** A locally administered MAC address that no interface has. */
const NO_CARD = '02:00:00:00:00:00';
const IP_MS = 10_000;

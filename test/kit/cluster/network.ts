// The hosts that the processes of a cluster run on, with an address each. On loopback, every host is an address of
// 127.0.0.0/8 and all share one network stack. In namespaces (namespaces.ts), each host has its own stack, and the
// path between two can be cut. Linux only.

import { createServer } from 'node:net';
import { Random } from '../tools/random.ts';

export interface Host {
  readonly name: string;
  readonly address: string;
  /** The command line that runs a command on this host. It execs the command, so the pid is that of the command. */
  command(line: readonly string[]): string[];
}

export interface Network {
  /** For people: `127.31.7.0/24`. */
  readonly range: string;
  addHost(name: string): Promise<Host>;
  /** Removes the network. The processes on its hosts must have ended. */
  end(): Promise<void>;
}

/** Hosts on loopback: 127.X.Y.1, 127.X.Y.2, ..., with X and Y unique to this run. */
export async function loopbackNetwork(random: Random = new Random(Date.now() ^ process.pid)): Promise<Network> {
  for (let tries = 1; ; tries++) {
    const prefix = `127.${random.between(1, 254)}.${random.between(0, 254)}`;
    try {
      // A network in use is recognized by the address of its first host.
      await bindOnce(`${prefix}.1`);
    } catch (error) {
      if (tries < TRIES_MAX) continue;
      throw new Error(
        `Cannot listen on ${prefix}.1: clusters on loopback need Linux, where all of 127.0.0.0/8 is local`,
        {
          cause: error,
        },
      );
    }
    let hosts = 0;
    return {
      range: `${prefix}.0/24`,
      addHost(name) {
        hosts++;
        if (hosts > HOSTS_MAX) return Promise.reject(new Error(`Cannot add host "${name}": ${HOSTS_MAX} are there`));
        return Promise.resolve({ name, address: `${prefix}.${hosts}`, command: (line) => [...line] });
      },
      end: () => Promise.resolve(),
    };
  }
}

/** Rejects when the port that every cluster uses is taken at this address. */
function bindOnce(address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject);
    server.listen(CONSUL_PORT, address, () => server.close(() => resolve()));
  });
}

export const HOSTS_MAX = 200;
/** HTTP port of a Consul server. */
export const CONSUL_PORT = 8500;
const TRIES_MAX = 20;

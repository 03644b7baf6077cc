// Asks the running mesh, as the commands do, for what no file tells: the policy in force, admin tokens, deployments in
// Consul, and the addresses on which the process really listens. Reads only.

import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { isLoopback } from '../../../core/link/mod.ts';
import { type Address, dialAddress, parseAddress, urlOf } from '../../../core/mod.ts';
import type { MeshStatus } from '../../../core/rpc/mod.ts';
import { compilePolicy } from '../../access/mod.ts';
import { EXIT, ExitError, type Config } from '../../config/mod.ts';
import type { Deployment, KnownToken } from '../../mesh/mod.ts';
import { AdminClient } from '../kit/admin-client.ts';
import { isExposed, type KnownPolicy } from './exposure.ts';
import { fail, ok, warn, type Finding } from './finding.ts';

/** What the running mesh told. */
export interface MeshFacts {
  readonly status: MeshStatus;
  readonly policy: KnownPolicy;
  readonly tokens: readonly KnownToken[];
  /** Those that `katamari deploy` made. */
  readonly deployments: readonly Deployment[];
}

/** Returns the facts, and the finding that says whether the mesh answered. */
export async function askMesh(
  config: Config,
): Promise<{ readonly facts: MeshFacts | undefined; readonly finding: Finding }> {
  const subject = 'running mesh';
  const { host, ports, admin, jsonRpc } = config;
  if (ports.jsonRpc === 0) {
    return {
      facts: undefined,
      finding: ok(subject, `was not asked, because ports.jsonRpc is 0 (any free port); ${UNCHECKED}`),
    };
  }
  if (admin.token === '' && !existsSync(admin.tokenFile)) {
    return {
      facts: undefined,
      finding: ok(subject, `has never run with this data directory, so it was not asked; ${UNCHECKED}`),
    };
  }
  const address = dialAddress({ host, port: ports.jsonRpc });
  const url = urlOf(address, jsonRpc.tls.certFile !== '');
  if (!(await isListening(address))) {
    return { facts: undefined, finding: ok(subject, `does not answer at ${url}; ${UNCHECKED}`) };
  }
  const client = new AdminClient({
    url,
    from: 'ports.jsonRpc',
    bearer: '',
    findToken: () => ({ token: admin.token, from: admin.tokenFile }),
  });
  try {
    const status = await client.status();
    if (status.mesh !== config.mesh) {
      const text = `${url} is the mesh ${status.mesh}, not ${config.mesh}, so it was not asked further`;
      return { facts: undefined, finding: warn(subject, text, 'name its configuration with --config FILE') };
    }
    const [policy, tokens, deployments] = [
      await client.accessPolicy(),
      await client.tokens(),
      await client.deployments(),
    ];
    const text = `${url} told its policy, tokens, deployments and listeners`;
    return { facts: { status, policy: policyOf(policy), tokens, deployments }, finding: ok(subject, text) };
  } catch (error) {
    return { facts: undefined, finding: notAsked(subject, url, error) };
  }
}

function notAsked(subject: string, url: string, error: unknown): Finding {
  if (!(error instanceof ExitError)) throw error;
  const [first = ''] = error.message.split('\n');
  const advice =
    error.exitCode === EXIT.unreachable && url.startsWith('https:')
      ? 'let this command trust the CA of the port (NODE_EXTRA_CA_CERTS), and run this again'
      : 'correct that, and run this again';
  return warn(subject, `could not be asked: ${first}; ${UNCHECKED}`, advice);
}

/** Whether anything listens there. The errors of `fetch` do not tell it in the same way on all runtimes. */
function isListening({ host, port }: Address): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const end = (isUp: boolean): void => {
      socket.destroy();
      resolve(isUp);
    };
    socket.setTimeout(CONNECT_MS, () => end(false));
    socket.once('connect', () => end(true));
    socket.on('error', () => end(false));
  });
}

function policyOf({ text, version }: { readonly text: string; readonly version: number }): KnownPolicy {
  if (text === '') return { state: 'none' };
  const policy = compilePolicy(text);
  return policy instanceof Error ? { state: 'broken', why: policy.message } : { state: 'in force', version, policy };
}

/** The process may have been started with other settings than those of the configuration. */
export function checkListeners(config: Config, { listeners }: MeshStatus): Finding[] {
  if (isExposed(config)) return [];
  const open = listeners.filter(({ address }) => {
    const found = parseAddress(
      address
        .replace(/^[a-z+]+:\/\//, '')
        .replace(/^tcp:/, '')
        .replace(/\/.*$/, ''),
    );
    return found !== undefined && !isLoopback(found);
  });
  if (open.length === 0) return [ok('listeners', 'the running process listens on loopback only, as configured')];
  const where = open.map(({ name, address }) => `${name} ${address}`).join(', ');
  const text = `the running process is open to other machines (${where}), and the configuration that was checked is not`;
  return [fail('listeners', text, 'restart the process with this configuration, or check the one that it runs with')];
}

const UNCHECKED = 'its tokens, listeners and deployments and the policy in Consul were not checked';
const CONNECT_MS = 3_000;

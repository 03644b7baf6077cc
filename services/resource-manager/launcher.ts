// Launches processes for slots: assigns each an address to listen at and fills it into command and environment. Owns
// the folder of the sockets and the reaper. Does not decide when a process starts or why.

import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { findSocketBase, type Clock, type MessageLimits } from '../../core/mod.ts';
import { fillPlaceholders, type Deployment, type PrepareChassis } from '../mesh/mod.ts';
import { ProcessInstance } from './instance.ts';
import { identityOf, type Identity } from './isolation.ts';
import { LineRate } from './line-rate.ts';
import { Reaper } from './reaper.ts';
import type { Slot } from './slot.ts';
import path from 'node:path';

export interface LauncherOptions {
  readonly clock: Clock;
  /** Limits of messages, which every chassis enforces too. */
  readonly limits: MessageLimits;
  /** Called for each line of output of a chassis, with the name of the resource. */
  readonly onLine: (resource: string, line: string) => void;
  /**
   * Environment variables that every chassis gets: KATAMARI_MESH for calls back into the mesh.
   * @param owner user of the chassis; undefined for that of the mesh
   */
  readonly env: (owner: Identity | undefined) => Readonly<Record<string, string>>;
  /** Prepares each chassis before it joins its pool. */
  readonly prepare?: PrepareChassis;
}

export class Launcher {
  readonly #options: LauncherOptions;
  /**
   * Folder of the sockets. Others can neither list nor change it. Each chassis has a folder of its own in it, which its
   * user alone can enter.
   */
  readonly socketDir: string = mkdtempSync(path.join(findSocketBase().directory, 'katamari-'));
  readonly #reaper = new Reaper(this.socketDir);
  readonly #lineRate: LineRate;
  #launches = 0;
  /** Derived from the process id, with a stride that keeps managers with close process ids on distant ports. */
  #lastPort = PORT_MIN + ((process.pid * PORT_STRIDE) % (PORT_MAX - PORT_MIN));

  constructor(options: LauncherOptions) {
    this.#options = options;
    this.#lineRate = new LineRate(options.clock);
  }

  /** Launches a process for a slot and reports its events to the slot. */
  launch(slot: Slot, deployment: Deployment): ProcessInstance {
    const { clock, limits, onLine, env, prepare = async () => undefined } = this.#options;
    const owner = ownerOf(deployment);
    const folder = deployment.listen === 'unix' ? this.#newFolder(owner) : '';
    const address = folder === '' ? `tcp:127.0.0.1:${this.#freePort()}` : `unix:${path.join(folder, 'chassis.sock')}`;
    const instance: ProcessInstance = new ProcessInstance({
      name: slot.name,
      address,
      launch: {
        command: deployment.command.map((word) => fillPlaceholders(word, address)),
        cwd: deployment.cwd,
        env: {
          ...env(owner),
          ...fillInAll(deployment.env, address),
          KATAMARI_LISTEN: address,
          KATAMARI_RESOURCE: slot.name,
          KATAMARI_LIFELINE: 'stdin',
          KATAMARI_FRAME_BYTES_MAX: `${limits.frameBytesMax}`,
          KATAMARI_NESTING_MAX: `${limits.nestingMax}`,
          ...(deployment.concurrency === null ? {} : { KATAMARI_CONCURRENCY: `${deployment.concurrency}` }),
        },
        isolation: deployment.isolation,
      },
      expected: deployment,
      times: deployment.times,
      recycle: deployment.recycle,
      limits,
      reaper: this.#reaper,
      release: () => {
        if (folder !== '') rmSync(folder, { recursive: true, force: true });
      },
      clock,
      prepare,
      onLine: this.#lineRate.limited((line) => onLine(slot.name, line)),
      onRecycle: (reason, why) => slot.onRecycle(instance, reason, why),
      onBroken: (broken) => slot.onBroken(broken),
      onEnded: (ended) => slot.onEnded(ended),
    });
    return instance;
  }

  #newFolder(owner: Identity | undefined): string {
    const folder = path.join(this.socketDir, `${++this.#launches}`);
    mkdirSync(folder, { mode: 0o700 });
    if (owner !== undefined) {
      // Its user has to pass the outer folder.
      chmodSync(this.socketDir, 0o711);
      chownSync(folder, owner.uid, owner.gid);
    }
    return folder;
  }

  async close(): Promise<void> {
    await this.#reaper.close();
    rmSync(this.socketDir, { recursive: true, force: true });
  }

  /**
   * A port below the ephemeral range of the kernel, so that only an unrelated server can occupy it. In that case the
   * chassis fails its start, and the next start uses the next port.
   */
  #freePort(): number {
    this.#lastPort = this.#lastPort >= PORT_MAX ? PORT_MIN : this.#lastPort + 1;
    return this.#lastPort;
  }
}

/** The user of a deployment, unless it is that of the mesh; undefined too when the launch will fail for its user. */
function ownerOf({ isolation }: Deployment): Identity | undefined {
  try {
    return isolation === null ? undefined : identityOf(isolation);
  } catch {
    return undefined;
  }
}

function fillInAll(env: Readonly<Record<string, string>>, address: string): Record<string, string> {
  return Object.fromEntries(Object.entries(env).map(([name, value]) => [name, fillPlaceholders(value, address)]));
}

const PORT_MIN = 20_000;
const PORT_MAX = 32_000;
const PORT_STRIDE = 7_919;

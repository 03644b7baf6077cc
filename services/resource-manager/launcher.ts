// Launches chassis: gives each an address to listen at, fills it into command and environment. Owns the folder with the
// sockets and the reaper; decides nothing about when or why.

import { mkdtempSync, rmSync } from 'node:fs';
import type { Clock } from '../../core/mod.ts';
import type { Deployment } from '../mesh/mod.ts';
import { ProcessInstance } from './instance.ts';
import { Reaper } from './reaper.ts';
import type { Slot } from './slot.ts';
import { tmpdir } from 'node:os';
import path from 'node:path';

export interface LauncherOptions {
  readonly clock: Clock;
  readonly frameBytesMax: number;
  /** Lines of output of chassis, with the resource's name. */
  readonly onLine: (resource: string, line: string) => void;
  /** What every chassis gets beside its own: KATAMARI_MESH for calls back into the mesh. */
  readonly env: () => Readonly<Record<string, string>>;
}

export class Launcher {
  readonly #options: LauncherOptions;
  /** Holds the sockets; only this user may enter. */
  readonly socketDir: string = mkdtempSync(path.join(tmpdir(), 'katamari-'));
  readonly #reaper = new Reaper(this.socketDir);
  #launches = 0;
  /** Far from those of other managers of this machine, whose process ids are near. */
  #lastPort = PORT_MIN + ((process.pid * PORT_STRIDE) % (PORT_MAX - PORT_MIN));

  constructor(options: LauncherOptions) {
    this.#options = options;
  }

  /** A new process for a slot, which hears of everything that becomes of it. */
  launch(slot: Slot, deployment: Deployment): ProcessInstance {
    const { clock, frameBytesMax, onLine, env } = this.#options;
    const address =
      deployment.listen === 'unix'
        ? `unix:${path.join(this.socketDir, `${++this.#launches}.sock`)}`
        : `tcp:127.0.0.1:${this.#freePort()}`;
    const incarnation: ProcessInstance = new ProcessInstance({
      name: slot.name,
      address,
      launch: {
        command: deployment.command.map((word) => fillIn(word, address)),
        cwd: deployment.cwd,
        env: {
          ...env(),
          ...fillInAll(deployment.env, address),
          KATAMARI_LISTEN: address,
          KATAMARI_RESOURCE: slot.name,
          KATAMARI_LIFELINE: 'stdin',
          ...(deployment.concurrency === null ? {} : { KATAMARI_CONCURRENCY: `${deployment.concurrency}` }),
        },
      },
      expected: deployment,
      times: deployment.times,
      recycle: deployment.recycle,
      frameBytesMax,
      reaper: this.#reaper,
      clock,
      onLine: (line) => onLine(slot.name, line),
      onWorn: (reason) => slot.onWorn(incarnation, reason),
      onBroken: (broken) => slot.onBroken(broken),
      onEnded: (ended) => slot.onEnded(ended),
    });
    return incarnation;
  }

  async close(): Promise<void> {
    await this.#reaper.close();
    rmSync(this.socketDir, { recursive: true, force: true });
  }

  /**
   * A port below the range the kernel gives out by itself, so that only a stranger's server can hold it; then the chassis fails its start
   * and the next one gets the next port.
   */
  #freePort(): number {
    this.#lastPort = this.#lastPort >= PORT_MAX ? PORT_MIN : this.#lastPort + 1;
    return this.#lastPort;
  }
}

function fillInAll(env: Readonly<Record<string, string>>, address: string): Record<string, string> {
  return Object.fromEntries(Object.entries(env).map(([name, value]) => [name, fillIn(value, address)]));
}

function fillIn(word: string, address: string): string {
  const [, host = '', port = ''] = /^tcp:(.*):(\d+)$/.exec(address) ?? [];
  return word
    .replaceAll('{listen}', address)
    .replaceAll('{path}', address.startsWith('unix:') ? address.slice(5) : '')
    .replaceAll('{host}', host)
    .replaceAll('{port}', port);
}

const PORT_MIN = 20_000;
const PORT_MAX = 32_000;
const PORT_STRIDE = 7_919;

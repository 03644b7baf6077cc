// The pools filling while a mesh comes up: on a screen one live line a pool with a bar of its resources, elsewhere a plain line as
// each pool becomes whole. Gone from the screen once all is told.

import type { MeshStatus, PoolStatus } from '../../../core/rpc/mod.ts';
import type { Config } from '../../config/mod.ts';
import { formatBar, LiveLines, paint, printable, type Terminal } from '../kit/terminal.ts';

export class UpProgress {
  readonly #terminal: Terminal;
  readonly #config: Config;
  readonly #live: LiveLines;
  readonly #isShown: boolean;
  readonly #whole = new Set<string>();
  #lines: readonly string[] = [];

  constructor(terminal: Terminal, config: Config, isShown: boolean) {
    this.#terminal = terminal;
    this.#config = config;
    this.#live = new LiveLines(terminal);
    this.#isShown = isShown;
  }

  begin(): void {
    if (!this.#isShown) return;
    const { deployments, mesh } = this.#config;
    const resources = deployments.reduce((sum, { count }) => sum + count, 0);
    this.#terminal.write(
      `Starting mesh ${mesh}: ${deployments.length} ${deployments.length === 1 ? 'deployment' : 'deployments'}, ${resources} ${resources === 1 ? 'resource' : 'resources'}\n`,
    );
  }

  show({ pools }: MeshStatus): void {
    if (!this.#isShown) return;
    const width = Math.max(0, ...this.#config.deployments.map(({ id }) => id.length));
    this.#lines = this.#config.deployments.map(({ id, service, version, count }) => {
      const of = pools.filter((pool) => pool.service === service && pool.version === version);
      const alive = of.reduce((sum, pool) => sum + pool.alive, 0);
      if (alive >= count && !this.#whole.has(id)) {
        this.#whole.add(id);
        if (!this.#terminal.isScreen) this.#terminal.write(`${id}: ${alive} of ${count} ready\n`);
      }
      return this.#line(id.padEnd(width), alive, count, troubleOf(of));
    });
    if (this.#terminal.isScreen) this.#live.draw(this.#lines);
  }

  /** Lets something else be written without tearing the bars. */
  around(write: () => void): void {
    if (this.#lines.length > 0 && this.#terminal.isScreen) this.#live.clear();
    write();
    if (this.#lines.length > 0 && this.#terminal.isScreen) this.#live.draw(this.#lines);
  }

  end(): void {
    if (this.#terminal.isScreen) this.#live.clear();
    this.#lines = [];
  }

  #line(id: string, alive: number, count: number, trouble: string): string {
    const bar = formatBar(this.#terminal, alive, count, BAR_PLACES_MAX);
    // Bars of small pools are padded, so that the numbers stand below each other.
    const pad = ' '.repeat(BAR_PLACES_MAX - Math.max(1, Math.min(BAR_PLACES_MAX, count)));
    const note = trouble === '' ? '' : `  ${paint(this.#terminal, 'yellow', printable(trouble))}`;
    return `  ${id}  ${bar}${pad}  ${alive}/${count}${note}`;
  }
}

/** What keeps a pool from filling, for people. */
function troubleOf(pools: readonly PoolStatus[]): string {
  for (const { note, resources } of pools) {
    if (note !== '') return note;
    const stuck = resources.find(
      ({ state, note: why }) => why !== '' && (state === 'backing_off' || state === 'failed'),
    );
    if (stuck !== undefined) return stuck.note;
  }
  return '';
}

const BAR_PLACES_MAX = 24;

// Progress of `katamari up` while pools fill: on a terminal one live bar per deployment, in a pipe one line when a
// pool is complete. The bars disappear when the mesh is up.

import type { MeshStatus, PoolStatus } from '../../../core/rpc/mod.ts';
import type { Config } from '../../config/mod.ts';
import { formatBar, LiveLines, paint, printable, type Terminal } from '../kit/terminal.ts';

export class UpProgress {
  readonly #terminal: Terminal;
  readonly #config: Config;
  readonly #live: LiveLines;
  readonly #isShown: boolean;
  readonly #complete = new Set<string>();
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
      if (alive >= count && !this.#complete.has(id)) {
        this.#complete.add(id);
        if (!this.#terminal.isScreen) this.#terminal.write(`${id}: ${alive} of ${count} ready\n`);
      }
      return this.#line(id.padEnd(width), alive, count, problemOf(of));
    });
    if (this.#terminal.isScreen) this.#live.draw(this.#lines);
  }

  /** Prints other output above the bars. */
  around(write: () => void): void {
    if (this.#lines.length > 0 && this.#terminal.isScreen) this.#live.clear();
    write();
    if (this.#lines.length > 0 && this.#terminal.isScreen) this.#live.draw(this.#lines);
  }

  end(): void {
    if (this.#terminal.isScreen) this.#live.clear();
    this.#lines = [];
  }

  #line(id: string, alive: number, count: number, problem: string): string {
    const bar = formatBar(this.#terminal, alive, count, BAR_PLACES_MAX);
    // Pad the bars of small pools, so that the numbers align.
    const pad = ' '.repeat(BAR_PLACES_MAX - Math.max(1, Math.min(BAR_PLACES_MAX, count)));
    const note = problem === '' ? '' : `  ${paint(this.#terminal, 'yellow', printable(problem))}`;
    return `  ${id}  ${bar}${pad}  ${alive}/${count}${note}`;
  }
}

/** Returns the first problem that keeps a pool from filling; '' without one. */
function problemOf(pools: readonly PoolStatus[]): string {
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

// The open components of a process and the order in which they close. Each component registers as soon as it is open,
// so a start that fails halfway closes exactly what was opened.

import { KatamariError, reportDefect } from '../../core/mod.ts';

/**
 * Stages in order of dependency: a component uses only components of its own or earlier stages. Stages end in reverse
 * order, one after the other; the components of one stage end in parallel, so that the faceplates share one drain
 * timeout. The stats port and the presence open late, because they publish the addresses of all others, but end late
 * too: health checks and Consul must see the process as draining until its last call is done.
 */
const STAGES = ['consul', 'presence', 'fleet', 'inside', 'manager', 'link', 'faceplates', 'master'] as const;

/** Something that was opened and must be closed. */
export interface Component {
  readonly stage: (typeof STAGES)[number];
  /** Finishes the work in progress, then closes. A component without this method closes at once. */
  drain?(): Promise<void>;
  /** Closes now. May be called during and after `drain`. */
  close(): Promise<void> | void;
}

/** A port or socket on which this process accepts connections. */
export interface Listener {
  readonly name: string;
  /** As printed: `host:port`, a URL or `unix:PATH`. */
  readonly address: string;
  connections(): number;
}

export class Components {
  readonly #components: Component[] = [];
  readonly #listeners: Listener[] = [];
  /** Called once, when the process begins to drain. */
  readonly #onDraining = new Set<() => void>();
  #isDraining = false;
  #ending: Promise<void> | undefined;

  /** Adds an open component and, if it accepts connections, its listener for the status. */
  register(component: Component, listener?: Listener): void {
    this.#components.push(component);
    if (listener !== undefined) this.#listeners.push(listener);
  }

  /** Listeners in the order in which they were opened. */
  get listeners(): readonly Listener[] {
    return this.#listeners;
  }

  /** True from `beginDraining`, `drain` or `close` on. */
  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** Makes the status and the records in Consul say that the process drains, before anything ends. */
  beginDraining(): void {
    if (this.#isDraining) return;
    this.#isDraining = true;
    for (const act of this.#onDraining) act();
  }

  /**
   * Settles like `work`, but rejects with `draining` when the process begins to drain: a command of an operator, such
   * as a rolling restart, may take minutes and must not delay that.
   * @param what completes the sentence `This process is shutting down and does not wait for ...`
   */
  untilDraining<T>(work: Promise<T>, what: string): Promise<T> {
    return new Promise((resolve, reject) => {
      const refuse = (): void =>
        reject(new KatamariError('draining', `This process is shutting down and does not wait for ${what}`));
      if (this.#isDraining) refuse();
      else this.#onDraining.add(refuse);
      work.then(resolve, reject).finally(() => this.#onDraining.delete(refuse));
    });
  }

  /** Drains all components, stage by stage. Repeated calls wait for the first; after `close`, waits for that. */
  drain(): Promise<void> {
    this.beginDraining();
    this.#ending ??= this.#end((component) => component.drain?.() ?? component.close());
    return this.#ending;
  }

  /** Closes all components, stage by stage. A drain in progress ends early. */
  close(): Promise<void> {
    this.beginDraining();
    const closed = this.#end((component) => component.close());
    this.#ending ??= closed;
    return closed;
  }

  async #end(how: (component: Component) => Promise<void> | void): Promise<void> {
    for (const stage of STAGES.toReversed()) {
      const components = this.#components.filter((component) => component.stage === stage);
      await Promise.all(
        components.map(async (component) => {
          try {
            await how(component);
          } catch (error) {
            // One that cannot end must not keep the others from finishing their calls.
            reportDefect(error);
          }
        }),
      );
    }
  }
}

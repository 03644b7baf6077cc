// The embedded agent: the part of the Consul HTTP API that a mesh on one machine needs, inside this process. It works
// with any Consul client (this product uses the `consul` package). Data is in memory and, if a directory is given, on
// disk. The agent is the only node of its cluster: it has no gossip, Raft, ACLs or DNS. docs/consul.md lists what it
// covers. Without checks, session TTLs and blocking queries, an idle agent runs no timers.

import { serveHttp, type HttpAccess, type HttpServer } from '../../core/http/mod.ts';
import { systemClock, type Clock, type SumLimits } from '../../core/mod.ts';
import { agentRoutes } from './agent-routes.ts';
import { catalogRoutes } from './catalog-routes.ts';
import { lockDirectory } from './directory-lock.ts';
import { consulApp } from './http.ts';
import { Journal } from './journal.ts';
import { kvRoutes } from './kv-routes.ts';
import { LocalAgent, type LocalRecord } from './local-agent.ts';
import { sessionRoutes } from './session-routes.ts';
import { SessionTimers } from './session-timers.ts';
import { AgentState, type Command, type StateRecord } from './state.ts';
import { Watchers } from './watchers.ts';
import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';

export interface ConsulAgentOptions {
  /** Address to listen on; loopback by default. */
  readonly host?: string;
  /** Port; 0, the default, means any free port. */
  readonly port?: number;
  /**
   * Tokens of which each request must carry one, as they are now. Without this option, whoever reaches the port may
   * read and change everything.
   */
  readonly tokens?: () => readonly string[];
  /** Directory for the data. Without one, the data is lost when the process ends. */
  readonly dataDir?: string;
  readonly node?: string;
  readonly datacenter?: string;
  readonly clock?: Clock;
  /** Random number in [0, 1) for the jitter of waits and checks. */
  readonly random?: () => number;
  /** Minimum session TTL; 10 s as in Consul. */
  readonly sessionTtlMinMs?: number;
  /** Minimum DeregisterCriticalServiceAfter; one minute as in Consul. Shorter values are raised to it. */
  readonly deregisterAfterMinMs?: number;
  /** Limit of concurrent blocking queries. */
  readonly blockingMax?: number;
  readonly connectionsMax?: number;
  /** Host names that clients may use. No web page uses this API, so there are no origins. */
  readonly hosts?: readonly string[];
  /** Called for each request that is refused because of its Host or Origin. */
  readonly onBadOrigin?: HttpAccess['onRefused'];
  /** Called for each request without a valid token. */
  readonly onBadToken?: Parameters<typeof consulApp>[3];
  /** Limit of the total size of keys and values (as base64). */
  readonly dataBytesMax?: number;
  /** Called with problems for the operator: corrupt data, a full disk, a defect. */
  readonly onNote?: (text: string) => void;
}

export interface ConsulAgent {
  readonly address: string;
  readonly port: number;
  /** Ends blocking queries, closes all connections and leaves the data on disk. */
  close(): Promise<void>;
}

const CONNECTIONS_MAX = 8_192;
const BLOCKING_MAX = 4_096;
const DATA_BYTES_MAX = 64 * 1024 * 1024;
const LOCAL_ENTRIES_MAX = 4_096;
const SESSIONS_MAX = 4_096;
/** Larger than any body that the API accepts, so that a client gets the API's own error for a large body. */
const FRAME_BYTES_MAX = 2 * 1024 * 1024;
/** All processes of a mesh on one machine are one caller. */
const SUMS: SumLimits = {
  connectionBytesMax: 64 * 1024 * 1024,
  callerBytesMax: 256 * 1024 * 1024,
  processBytesMax: 256 * 1024 * 1024,
};
/** Version of Consul whose API the agent implements. */
const VERSION = '1.8.7';

/** Starts an agent and resolves when it listens. Rejects if the port or the data directory is in use. */
export async function startConsulAgent(options: ConsulAgentOptions = {}): Promise<ConsulAgent> {
  const agent = new EmbeddedAgent(options);
  await agent.start();
  return agent;
}

class EmbeddedAgent implements ConsulAgent {
  readonly #options: ConsulAgentOptions;
  readonly #node: string;
  readonly #datacenter: string;
  readonly #state: AgentState;
  readonly #watchers: Watchers;
  readonly #timers: SessionTimers;
  readonly #local: LocalAgent;
  #nodeId: string = randomUUID();
  #journal: Journal | undefined;
  #unlock: (() => Promise<void>) | undefined;
  #server: HttpServer | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: ConsulAgentOptions) {
    this.#options = options;
    const clock = options.clock ?? systemClock;
    const random = options.random ?? Math.random;
    this.#node = options.node ?? 'katamari';
    this.#datacenter = options.datacenter ?? 'dc1';
    this.#watchers = new Watchers(clock, options.blockingMax ?? BLOCKING_MAX, random, () => this.#state.index);
    this.#state = new AgentState({
      clock,
      dataBytesMax: options.dataBytesMax ?? DATA_BYTES_MAX,
      onCommit: (index, command) => this.#journal?.append({ i: index, c: command }),
      onTouched: (touched) => this.#watchers.touch(touched),
      onSessionGone: (id) => this.#timers.forget(id),
    });
    this.#timers = new SessionTimers(clock, (id) => this.#state.destroySession(id));
    this.#local = new LocalAgent({
      node: this.#node,
      state: this.#state,
      clock,
      random,
      entriesMax: LOCAL_ENTRIES_MAX,
      onRecord: (record) => this.#journal?.append(record),
    });
  }

  get address(): string {
    return this.#server?.address ?? this.#options.host ?? '127.0.0.1';
  }
  get port(): number {
    return this.#server?.port ?? 0;
  }

  async start(): Promise<void> {
    try {
      if (this.#options.dataDir !== undefined) {
        mkdirSync(this.#options.dataDir, { recursive: true, mode: 0o700 });
        this.#unlock = await lockDirectory(this.#options.dataDir);
        this.#openJournal(this.#options.dataDir);
      }
      this.#registerSelf();
      // Restored checks and sessions continue. The TTL of a session starts again, as after a change of leader in
      // Consul.
      this.#local.start();
      for (const session of this.#state.sessions.list()) this.#timers.renew(session);
      this.#server = await this.#listen();
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    // Close connections before blocking queries end. A client that got a response would send its index to the next
    // agent at this address. A client whose connection closes starts again without an index.
    await this.#server?.close();
    this.#watchers.close();
    this.#local.close();
    this.#timers.close();
    this.#journal?.close();
    this.#journal = undefined;
    await this.#unlock?.();
  }

  #openJournal(directory: string): void {
    let skipped = 0;
    const note = this.#options.onNote ?? (() => {});
    this.#journal = new Journal({
      directory,
      onNote: note,
      records: () => this.#records(),
      onRecord: (record) => {
        // Skip a record that no longer applies, for example because its session was in a corrupt part.
        try {
          this.#restore(record as { i?: number; c?: Command; local?: unknown; nodeId?: string });
        } catch {
          skipped++;
        }
      },
    });
    if (skipped > 0) note(`Skipped ${skipped} records in ${directory}: they refer to records that are missing`);
  }

  *#records(): Iterable<unknown> {
    yield { nodeId: this.#nodeId };
    yield* this.#state.records();
    yield* this.#local.records();
  }

  #restore(record: { i?: number; c?: Command; local?: unknown; nodeId?: string }): void {
    if (record.c !== undefined) this.#state.replay(record.i ?? 0, record.c);
    else if (record.local !== undefined) this.#local.restore(record as LocalRecord);
    else if (record.nodeId !== undefined) this.#nodeId = record.nodeId;
    else this.#state.restore(record as StateRecord);
  }

  /** Registers the agent itself: a Consul server has a node, a service and a check in its catalog. */
  #registerSelf(): void {
    const known = this.#state.catalog.node(this.#node);
    if (known !== undefined) this.#nodeId = known.ID;
    const address = this.#options.host ?? '127.0.0.1';
    this.#state.putNode({
      ID: this.#nodeId,
      Node: this.#node,
      Address: address,
      Datacenter: this.#datacenter,
      TaggedAddresses: { lan: address, wan: address },
      Meta: { 'consul-network-segment': '' },
    });
    this.#state.putService(this.#node, {
      ID: 'consul',
      Service: 'consul',
      Tags: [],
      Address: '',
      Meta: { version: VERSION },
      Port: this.#options.port ?? 0,
      Weights: { Passing: 1, Warning: 1 },
      EnableTagOverride: false,
    });
    this.#state.putCheck({
      Node: this.#node,
      CheckID: 'serfHealth',
      Name: 'Serf Health Status',
      Status: 'passing',
      Notes: '',
      Output: 'Agent alive and reachable',
      ServiceID: '',
      Type: '',
      Definition: {},
    });
  }

  #listen(): Promise<HttpServer> {
    const { dataDir: _, ...options } = this.#options;
    const app = consulApp(
      [
        ...kvRoutes(this.#state, this.#watchers, this.#datacenter),
        ...sessionRoutes({
          state: this.#state,
          watchers: this.#watchers,
          timers: this.#timers,
          node: this.#node,
          datacenter: this.#datacenter,
          ttlMinMs: options.sessionTtlMinMs ?? 10_000,
          sessionsMax: SESSIONS_MAX,
        }),
        ...catalogRoutes(this.#state, this.#watchers, this.#datacenter),
        ...agentRoutes({
          local: this.#local,
          state: this.#state,
          node: this.#node,
          nodeId: this.#nodeId,
          datacenter: this.#datacenter,
          version: VERSION,
          deregisterAfterMinMs: options.deregisterAfterMinMs ?? 60_000,
          address: () => ({ host: this.address, port: this.port }),
          gauges: () => ({
            'consul.raft.applied_index': this.#state.index,
            'consul.katamari.blocking_queries': this.#watchers.count,
            'consul.katamari.kv_bytes': this.#state.kv.bytes,
            'consul.katamari.connections': this.#server?.connections() ?? 0,
          }),
        }),
      ],
      (error) =>
        options.onNote?.(
          `Defect in the embedded agent: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
        ),
      options.tokens,
      options.onBadToken,
    );
    return serveHttp({
      fetch: (request, env) => app.fetch(request, env),
      host: options.host ?? '127.0.0.1',
      port: options.port ?? 0,
      limits: {
        frameBytesMax: FRAME_BYTES_MAX,
        connectionsMax: options.connectionsMax ?? CONNECTIONS_MAX,
        // Blocking queries wait up to 10 minutes and 37.5 s, so idle connections stay open as long.
        idleMs: 660_000,
        requestMs: 30_000,
        pipelineMax: 64,
        headersMax: 100,
        ...SUMS,
      },
      access: {
        hosts: options.hosts ?? [],
        origins: [],
        ...(options.onBadOrigin === undefined ? {} : { onRefused: options.onBadOrigin }),
      },
      // A blocking query waits for minutes, and only the end of its connection shows that nobody waits for it.
      allowHalfOpen: false,
    });
  }
}

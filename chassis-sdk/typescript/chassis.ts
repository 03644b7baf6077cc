// Runs your handlers as a chassis, one process of the mesh. It listens at KATAMARI_LISTEN, serves its own service and
// the control service (describe, ping, drain), and exits when its resource manager does. Without KATAMARI_LISTEN, it
// is a plain framed Thrift server on 127.0.0.1:9095.

import { createRequire } from 'node:module';
import { writeSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Logger } from 'pino';
import { parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import { startLinkServer, type LinkServer } from '../../core/link/mod.ts';
import { KatamariError, runtimeName, DEFAULT_LIMITS, type FaceplateLimits } from '../../core/mod.ts';
import {
  type Reply,
  type Send,
  ConcurrencyLimit,
  serveHandlers,
  type Handlers,
  chassisInterface,
  type ChassisDetails,
} from '../../core/rpc/mod.ts';
import type { IdlSource, Interface } from '../../core/thrift/mod.ts';
import { CallRefused } from './call-refused.ts';
import { type Content, ShardNotOpen } from './content.ts';
import { HandlerContext } from './handler-context.ts';
import { MeshCaller } from './mesh-client.ts';

export interface ChassisOptions {
  /** IDL file. Its includes are read relative to it. */
  readonly idl: string | URL;
  /** Folders for includes that are not there, in the order in which they are searched. */
  readonly includes?: readonly (string | URL)[];
  /** Name of the service in the IDL. */
  readonly service: string;
  /** SemVer, for example `1.2.0`. */
  readonly version: string;
  /** One function per method. It takes the arguments by name, then the context, and may be async. */
  readonly handlers: Handlers<HandlerContext>;
  /** Calls can prefer pools with these tags. */
  readonly tags?: readonly string[];
  /** Only calls that request exactly these roles reach this chassis. */
  readonly roles?: readonly string[];
  /** Other details that calls can request. */
  readonly more?: Readonly<Record<string, string>>;
  /** Type of i64 values in handlers. `number` refuses values that a double cannot hold. Default `bigint`. */
  readonly i64?: 'bigint' | 'number';
  /** Calls that run at once. Default 1, for single-threaded code. */
  readonly concurrency?: number;
  /** Makes the chassis a content server: the mesh has it open shards of indices. */
  readonly content?: Pick<Content<unknown>, 'control'>;
}

/** A running chassis. */
export interface RunningChassis {
  readonly address: string;
  /** Finishes the calls in flight, then closes (graceful shutdown). */
  drain(): Promise<void>;
}

/**
 * Starts the chassis of this process. In a process that a mesh has started, a wrong IDL, service name or handler prints
 * one line and exits with status 78 (EX_CONFIG): the mesh starts no other copy until a file has changed.
 * @throws KatamariError bad_request if the IDL, the service name and the handlers do not match
 */
export async function chassis(options: ChassisOptions): Promise<RunningChassis> {
  try {
    return await start(options);
  } catch (error) {
    const isOwnFault = error instanceof KatamariError && error.code === 'bad_request';
    if (!isOwnFault || process.env['KATAMARI_LIFELINE'] !== 'stdin') throw error;
    // Written at once, since the process ends.
    writeSync(2, `This chassis cannot start with ${fileOf(options.idl)}: ${error.message}\n`);
    process.exit(EX_CONFIG);
  }
}

function fileOf(idl: string | URL): string {
  return typeof idl === 'string' && !idl.startsWith('file:') ? path.resolve(idl) : fileURLToPath(idl);
}

async function start(options: ChassisOptions): Promise<RunningChassis> {
  const source = readIdlFile(
    typeof options.idl === 'string' ? pathToFileURL(options.idl) : options.idl,
    options.includes,
  );
  const iface = interfaceOf(source, options.service);
  const resource = process.env['KATAMARI_RESOURCE'] ?? `${options.service}@${options.version}`;
  const log = lazyLog(resource);
  const limits = limitsOfMesh();
  const mesh = new MeshCaller(process.env['KATAMARI_MESH'] ?? '', `chassis ${resource}`, limits);
  const retiring = new WeakSet<Reply>();
  const own = serveHandlers<HandlerContext>({
    interface: iface,
    handlers: options.handlers,
    i64: options.i64 ?? 'bigint',
    contextOf: (call) => new HandlerContext(call, mesh, log),
    onUndeclared: ({ method }, thrown) => {
      // Such as no_pool of a call to another service: its message says all, and its stack is that of the library.
      if (thrown instanceof KatamariError) log().warn({ method, code: thrown.code }, thrown.message);
      else log().error({ err: thrown, method }, 'a handler threw an error that its method does not declare');
    },
    // Errors of the mesh that calls to others end with are no refusals of this call.
    refusalOf: (thrown) => (thrown instanceof ShardNotOpen || thrown instanceof CallRefused ? thrown : undefined),
    onSettled: (context, reply) => {
      context.settled();
      if (context.isRetiring && reply !== undefined) retiring.add(reply);
    },
  });
  // The concurrency of the deployment takes precedence, because the mesh sends that many calls at once.
  const concurrency = Number(process.env['KATAMARI_CONCURRENCY'] ?? options.concurrency ?? 1);
  if (!(concurrency >= 1))
    throw new KatamariError('bad_request', `concurrency is ${concurrency}, expected a number of at least 1`);
  const limit = new ConcurrencyLimit(own, concurrency);
  let server: LinkServer | undefined;
  const drain = async (): Promise<void> => {
    await server?.drain();
    mesh.close();
  };
  const drainAndExit = (): void => void drain().finally(() => process.exit(0));
  server = await startLinkServer(process.env['KATAMARI_LISTEN'] ?? 'tcp:127.0.0.1:9095', {
    send: withControl(limit.send, { ...options, concurrency }, source, drainAndExit),
    limits,
    timeoutMs: () => TIMEOUT_WITHOUT_MESH_MS,
    caller: 'a client that is not the mesh',
    wantsToRetire: (reply) => retiring.has(reply),
    onEnded: (reply) => {
      if (reply === undefined || !retiring.has(reply)) return;
      limit.close(`${resource} retires`);
      drainAndExit();
    },
  });
  endWithManager(drainAndExit);
  if (process.env['KATAMARI_LISTEN'] === undefined)
    console.log(`${resource} listens on ${server.address} (framed Thrift)`);
  return { address: server.address, drain };
}

/** The limits that the mesh has set for messages, so that a chassis refuses none that the mesh accepts. */
function limitsOfMesh(): FaceplateLimits {
  const set = (name: string, otherwise: number): number => {
    const value = process.env[name];
    if (value === undefined) return otherwise;
    if (/^[1-9]\d{0,9}$/.test(value)) return Number(value);
    throw new KatamariError('bad_request', `${name} is "${value}", expected a whole number above 0`);
  };
  return {
    ...DEFAULT_LIMITS,
    frameBytesMax: set('KATAMARI_FRAME_BYTES_MAX', DEFAULT_LIMITS.frameBytesMax),
    nestingMax: set('KATAMARI_NESTING_MAX', DEFAULT_LIMITS.nestingMax),
    connectionsMax: CONNECTIONS_MAX,
  };
}

/** The logger, loaded on first use: loading it takes a third of the start-up time. */
function lazyLog(resource: string): () => Logger {
  let log: Logger | undefined;
  return () => {
    if (log === undefined) {
      const { pino } = createRequire(import.meta.url)('pino') as typeof import('pino');
      log = pino({ base: null, name: resource }, pino.destination({ dest: 2, sync: true }));
    }
    return log;
  };
}

function interfaceOf(source: IdlSource, service: string): Interface {
  const { services } = parseIdl(source);
  const found = services.get(service);
  if (found !== undefined) return found;
  throw new KatamariError(
    'bad_request',
    `${source.main} has no service "${service}"; it has ${[...services.keys()].join(', ') || 'none'}`,
  );
}

/** Serves the chassis' own service, `katamari.Chassis`, and for a content server `katamari.Content`. */
function withControl(own: Send, options: ChassisOptions, source: IdlSource, drainAndExit: () => void): Send {
  const control = serveHandlers<undefined>({
    interface: chassisInterface(),
    i64: 'number',
    contextOf: () => undefined,
    handlers: {
      describe: (): ChassisDetails => ({
        serviceName: options.service,
        version: options.version,
        roles: options.roles ?? [],
        tags: options.tags ?? [],
        more: options.more ?? {},
        idlMain: source.main,
        idlFiles: source.files,
        concurrency: options.concurrency ?? 1,
        ahead: options.concurrency === 1 ? AHEAD_MAX : 0,
        sdk: `typescript on ${runtimeName()}`,
        ...(options.content === undefined ? {} : { holdsShards: true }),
      }),
      ping: () => undefined,
      drain: () => drainAndExit(),
    },
  });
  const content = options.content?.control();
  return (call, sink) => {
    if (call.service === 'katamari.Chassis') control(call, sink);
    else if (call.service === 'katamari.Content' && content !== undefined) content(call, sink);
    else if (call.service === '' || call.service === options.service) own(call, sink);
    else {
      const why = `This is ${options.service}@${options.version}; it does not offer ${call.service}`;
      sink.fail(new KatamariError('no_pool', why));
    }
  };
}

/** Exits when standard input closes, so that a chassis never outlives its resource manager. SIGTERM drains first. */
function endWithManager(drainAndExit: () => void): void {
  process.on('SIGTERM', drainAndExit);
  if (process.env['KATAMARI_LIFELINE'] !== 'stdin') return;
  process.stdin.on('end', () => process.exit(0));
  process.stdin.on('close', () => process.exit(0));
  process.stdin.on('error', () => process.exit(0));
  process.stdin.resume();
}

const EX_CONFIG = 78;
/** Open connections. The same in every kit: the mesh holds one, and tools and plain clients the others. */
const CONNECTIONS_MAX = 256;
/** Prefetch: calls that the chassis accepts beyond those that it runs. */
const AHEAD_MAX = 15;
/** Timeout in ms of a call without a deadline, which comes from a client that is not the mesh. */
const TIMEOUT_WITHOUT_MESH_MS = 60_000;

// The wanted state of one version of a service: how to run it, how many copies, by which rules. The same shape in a configuration, in
import {
  HEADER_PROTOCOLS,
  isWireFormat,
  PROTOCOLS,
  TRANSPORTS,
  type Protocol,
  type Transport,
} from '../../core/thrift/encodings/mod.ts';
import type { IdlSource, Interface } from '../../core/thrift/mod.ts';

// Consul and in the orders of the leader; plain data, JSON-safe, checked when it comes from outside.

import { z } from 'zod';

/** How often a place may be filled anew before its manager slows down. */
export interface RestartRules {
  /** Starts within the period that are made at once; the next one waits. */
  readonly intensity: number;
  readonly periodMs: number;
  /** First pause, doubled each time up to the longest. */
  readonly backoffFirstMs: number;
  readonly backoffMaxMs: number;
}

/** When a chassis that works is replaced all the same; 0 means never. */
export interface RecycleRules {
  readonly afterCalls: number;
  readonly afterAgeMs: number;
  readonly memoryBytesMax: number;
}

/** How long the steps of a chassis' life may take. */
export interface ChassisTimes {
  /** From launch to introduced. */
  readonly startTimeoutMs: number;
  readonly pingEveryMs: number;
  readonly pingTimeoutMs: number;
  /** Calls under way may take so long to finish when it is drained. */
  readonly drainTimeoutMs: number;
  /** From SIGTERM to SIGKILL. */
  readonly stopGraceMs: number;
  /** A call may outlive its deadline by so much before its chassis is killed. */
  readonly hangGraceMs: number;
}

export interface Deployment {
  readonly service: string;
  readonly version: string;
  /** Copies: on one machine in a configuration or an order, in the whole mesh in Consul. */
  readonly count: number;
  /** Program and arguments. Here and in `env`, `{listen}`, `{path}`, `{host}` and `{port}` stand for the address to listen at and its parts. */
  readonly command: readonly string[];
  /** Absolute; '' for the manager's own. */
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** Where its chassis listen: a unix socket, or a port of 127.0.0.1. */
  readonly listen: 'unix' | 'tcp';
  /** Added to what the chassis says of itself. */
  readonly roles: readonly string[];
  readonly tags: readonly string[];
  readonly more: Readonly<Record<string, string>>;
  /** For a plain Thrift server: the interface it has. null: it was built with the SDK and is asked. */
  readonly idl: IdlSource | null;
  /** How a plain server reads and writes. */
  readonly transport: Transport;
  readonly protocol: Protocol;
  /** A method without arguments that says whether a plain server is well, called in place of a ping; '' for none. */
  readonly healthCheck: string;
  /** Calls that one process takes at once; null: what the chassis says, 1 for plain servers. A plain server gets a connection for each. */
  readonly concurrency: number | null;
  readonly times: ChassisTimes;
  readonly restart: RestartRules;
  readonly recycle: RecycleRules;
  /** Calls that may wait for a resource of its pool. */
  readonly queueMax: number;
}

/** `Service@version` */
export function deploymentId({ service, version }: Pick<Deployment, 'service' | 'version'>): string {
  return `${service}@${version}`;
}

/** Why a method cannot be a health check; undefined when it can. */
export function whyNoHealthCheck({ service, methods }: Interface, name: string): string | undefined {
  const method = methods.get(name);
  if (method === undefined)
    return `${service} has no method "${name}"; it has ${[...methods.keys()].join(', ') || 'none'}`;
  if (method.oneway) return `${name} is oneway, and nobody hears how it ended`;
  return method.args.fields.length > 0 ? `${name} has arguments, and the mesh does not know any for it` : undefined;
}

/** Each is a connection and an open file. */
export const PLAIN_CONCURRENCY_MAX = 1_000;

const ms = (): z.ZodInt => z.int().min(0).max(2_147_483_647);
const texts = () => z.array(z.string().max(4_096)).max(1_000);
const textMap = () => z.record(z.string().max(256), z.string().max(65_536));

/** What a document from outside has to be. What is new since documents are kept has a default, for those of before. */
export const DEPLOYMENT: z.ZodType<Deployment> = z
  .strictObject({
    service: z
      .string()
      .regex(/^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$/)
      .max(200),
    version: z
      .string()
      .regex(/^\d+(\.\d+){0,2}([-+][0-9A-Za-z.+-]+)?$/)
      .max(100),
    count: z.int().min(0).max(10_000),
    command: texts().min(1),
    cwd: z.string().max(4_096),
    env: textMap(),
    listen: z.enum(['unix', 'tcp']),
    roles: texts(),
    tags: texts(),
    more: textMap(),
    idl: z.object({ main: z.string(), files: z.record(z.string(), z.string()) }).nullable(),
    transport: z.enum(TRANSPORTS).default('framed'),
    protocol: z.enum(PROTOCOLS).default('binary'),
    healthCheck: z
      .string()
      .regex(/^([A-Za-z_][A-Za-z0-9_]*)?$/)
      .max(200)
      .default(''),
    concurrency: z.int().min(1).max(100_000).nullable(),
    times: z.strictObject({
      startTimeoutMs: ms().min(1),
      pingEveryMs: ms().min(1),
      pingTimeoutMs: ms().min(1),
      drainTimeoutMs: ms(),
      stopGraceMs: ms(),
      hangGraceMs: ms(),
    }),
    restart: z.strictObject({
      intensity: z.int().min(1).max(1_000),
      periodMs: ms().min(1),
      backoffFirstMs: ms().min(1),
      backoffMaxMs: ms().min(1),
    }),
    recycle: z.strictObject({ afterCalls: z.int().min(0), afterAgeMs: ms(), memoryBytesMax: z.int().min(0) }),
    queueMax: z.int().min(0).max(1_000_000),
  })
  .refine(isWireFormat, {
    path: ['protocol'],
    message: `transport header carries protocol ${HEADER_PROTOCOLS.join(' or ')}`,
  })
  .refine(({ idl, concurrency }) => idl === null || (concurrency ?? 1) <= PLAIN_CONCURRENCY_MAX, {
    path: ['concurrency'],
    message: `a plain server takes ${PLAIN_CONCURRENCY_MAX} calls at once at most`,
  });

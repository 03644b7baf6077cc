// The desired state of one version of a service: how to run it, how many replicas, and by which rules. The
// configuration, Consul and the assignments of the leader use the same shape: plain JSON-safe data, validated when it
// comes from outside.

import {
  HEADER_PROTOCOLS,
  isWireFormat,
  PROTOCOLS,
  TRANSPORTS,
  type Protocol,
  type Transport,
} from '../../core/thrift/encodings/mod.ts';
import type { IdlSource, Interface } from '../../core/thrift/mod.ts';

import { z } from 'zod';

/** How often a slot may restart its chassis before the manager backs off. */
export interface RestartRules {
  /** Starts per period without a pause. Further starts, and every start after a failed one, wait. */
  readonly intensity: number;
  readonly periodMs: number;
  /** First pause; each further pause is twice as long, up to the maximum. */
  readonly backoffFirstMs: number;
  readonly backoffMaxMs: number;
}

/** Limits at which a working chassis is replaced; 0 means no limit. */
export interface RecycleRules {
  readonly afterCalls: number;
  readonly afterAgeMs: number;
  readonly memoryBytesMax: number;
}

/** Timeouts in the life of a chassis. */
export interface ChassisTimes {
  /** From launch to ready. */
  readonly startTimeoutMs: number;
  readonly pingEveryMs: number;
  readonly pingTimeoutMs: number;
  /** How long running calls may take to finish when the chassis is drained. */
  readonly drainTimeoutMs: number;
  /** From SIGTERM to SIGKILL. */
  readonly stopGraceMs: number;
  /** How long a call may outlive its deadline before its chassis is killed. */
  readonly hangGraceMs: number;
}

/** The user and the limits of the processes of a deployment. */
export interface Isolation {
  /** Name or number; '' for the user of the mesh. */
  readonly user: string;
  /** Name or number; '' for the primary group of the user. */
  readonly group: string;
  /** Supplementary groups; null for those of the user. */
  readonly groups: readonly string[] | null;
  /** File mode creation mask in octal digits; '' for that of the mesh. */
  readonly umask: string;
  /** Whether a program that it runs can gain no rights, for example by setuid. */
  readonly noNewPrivileges: boolean;
  /** Limits of the system; null for those of the mesh. */
  readonly limits: {
    readonly openFiles: number | null;
    /** Address space. */
    readonly memoryBytes: number | null;
    /** Processes of the user. */
    readonly processes: number | null;
    readonly coreBytes: number | null;
    /** CPU time. */
    readonly cpuS: number | null;
  };
}

export interface Deployment {
  readonly service: string;
  readonly version: string;
  /** Replicas: on one machine in a configuration or an assignment, in the whole mesh in Consul. */
  readonly count: number;
  /** Whether each manager that is not drained runs `count` replicas, instead of all together. */
  readonly perManager?: boolean | undefined;
  /**
   * Program and arguments. Here and in `env`, `{listen}`, `{path}`, `{host}` and `{port}` are replaced by the address
   * to listen at and its parts.
   */
  readonly command: readonly string[];
  /** Absolute path of the working directory; '' for the one of the manager. */
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** Where the chassis listens: at a Unix socket, or at a port of 127.0.0.1. */
  readonly listen: 'unix' | 'tcp';
  /** Added to the roles, tags and other details that the chassis reports. */
  readonly roles: readonly string[];
  readonly tags: readonly string[];
  readonly more: Readonly<Record<string, string>>;
  /** Interface of a plain Thrift server; null for a chassis that reports its interface itself. */
  readonly idl: IdlSource | null;
  /** Wire format of a plain server. */
  readonly transport: Transport;
  readonly protocol: Protocol;
  /** Method without arguments that the manager calls as the health check of a plain server; '' for none. */
  readonly healthCheck: string;
  /**
   * Calls that one process runs at the same time; null: what the chassis reports, or 1 for a plain server. A plain
   * server gets one connection per call.
   */
  readonly concurrency: number | null;
  readonly times: ChassisTimes;
  readonly restart: RestartRules;
  readonly recycle: RecycleRules;
  /** Limit of calls that wait in the queue of the pool. */
  readonly queueMax: number;
  /** null: as the mesh itself runs. */
  readonly isolation: Isolation | null;
}

/** `Service@version` */
export function deploymentId({ service, version }: Pick<Deployment, 'service' | 'version'>): string {
  return `${service}@${version}`;
}

/** Returns why a method cannot be a health check, or undefined if it can. */
export function whyNoHealthCheck({ service, methods }: Interface, name: string): string | undefined {
  const method = methods.get(name);
  if (method === undefined)
    return `${service} has no method "${name}"; it has ${[...methods.keys()].join(', ') || 'none'}`;
  if (method.oneway) return `${name} is oneway, so it returns no result`;
  return method.args.fields.length > 0
    ? `${name} has arguments; the method of a health check must have none`
    : undefined;
}

/** Each call to a plain server takes one connection, and so one open file. */
export const PLAIN_CONCURRENCY_MAX = 1_000;

const ms = (): z.ZodInt => z.int().min(0).max(2_147_483_647);
const texts = () => z.array(z.string().max(4_096)).max(1_000);
const textMap = () => z.record(z.string().max(256), z.string().max(65_536));

const account = () =>
  z
    .string()
    .regex(/^([A-Za-z0-9_][A-Za-z0-9_.-]*)?$/)
    .max(100);
const limit = () => z.int().min(0).nullable();
const ISOLATION: z.ZodType<Isolation> = z.strictObject({
  user: account(),
  group: account(),
  groups: z.array(account().min(1)).max(100).nullable(),
  umask: z.string().regex(/^[0-7]{0,4}$/),
  noNewPrivileges: z.boolean(),
  limits: z.strictObject({
    openFiles: limit(),
    memoryBytes: limit(),
    processes: limit(),
    coreBytes: limit(),
    cpuS: limit(),
  }),
});

/** Schema of a document from outside. Fields that older documents lack have a default. */
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
    perManager: z.boolean().optional(),
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
    isolation: ISOLATION.nullable().default(null),
  })
  .refine(isWireFormat, {
    path: ['protocol'],
    message: `transport header carries protocol ${HEADER_PROTOCOLS.join(' or ')}`,
  })
  .refine(({ idl, concurrency }) => idl === null || (concurrency ?? 1) <= PLAIN_CONCURRENCY_MAX, {
    path: ['concurrency'],
    message: `a plain server takes at most ${PLAIN_CONCURRENCY_MAX} calls at once`,
  });

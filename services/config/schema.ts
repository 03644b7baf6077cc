// The schema of katamari.yaml: every key with its type, its default (as a user would write it) and the text that
// follows `expected` in errors. The check, `katamari config` and KATAMARI_* variables derive from it, and a test
// compares docs/configuration.md with it.

import { PROTOCOLS, TRANSPORTS, type Protocol, type Transport } from '../../core/thrift/encodings/mod.ts';
import { JWT_ALGORITHMS, type AnonymousCallers } from '../access/mod.ts';
import type { Route } from '../mesh/mod.ts';
import { routesSchema } from './route-schema.ts';
import {
  bool,
  count,
  COUNT_MAX,
  duration,
  durationOrOff,
  leaf,
  port,
  SERVICE,
  size,
  text,
  textMap,
  texts,
  unwrap,
  VERSION,
  VERSION_EXPECTED,
} from './schema-leaves.ts';
import { z } from 'zod';

/** The checked file: with defaults, durations in ms, sizes in bytes, and paths as written. */
export interface ConfigFile {
  mesh: string;
  name?: string | undefined;
  machine?: string | undefined;
  advertise?: string | undefined;
  dataDir?: string | undefined;
  host: string;
  ports: { thrift: number; jsonRpc: number; stats: number; link: number; consul: number };
  consul: {
    embedded?: boolean | undefined;
    address?: string | undefined;
    token: string;
    tokenFile?: string | undefined;
    caFile?: string | undefined;
    certFile?: string | undefined;
    keyFile?: string | undefined;
  };
  link: {
    secret?: string | undefined;
    secretFile?: string | undefined;
    caFile?: string | undefined;
    certFile?: string | undefined;
    keyFile?: string | undefined;
  };
  master: { rank: number };
  manager: { capacity?: number | undefined };
  content: {
    directory?: string | undefined;
    sources?: string[] | undefined;
    fetchRate: number;
    verifyEvery: number;
    openTimeout: number;
  };
  timeout: number;
  shutdownDelay: number;
  admin: { token?: string | undefined; tokenFile?: string | undefined };
  assignments: { file?: string | undefined; share: number };
  audit: { fileSize: number; files: number };
  thrift: {
    defaultService: string;
    tls: TlsEntry & { required: boolean };
  };
  jsonRpc: { allowedOrigins: string[]; errorStatus: boolean; tls: TlsEntry };
  web: { port: number; trustProxy: boolean; tls: TlsEntry; sites: SiteEntry[] };
  stats: { tls: TlsEntry };
  access: {
    anonymous: AnonymousCallers;
    tokens: TokenEntry[];
    jwt: {
      issuer?: string | undefined;
      audience?: string | undefined;
      jwksFile?: string | undefined;
      jwksUrl?: string | undefined;
      algorithms: string[];
      nameClaim: string;
      rolesClaim: string;
      clockTolerance: number;
    };
  };
  http: { hosts: string[]; origins: string[] };
  faceplates: FaceplateEntry[];
  limits: {
    frame: number;
    nesting: number;
    batch: number;
    connections: number;
    idle: number;
    request: number;
    pipeline: number;
    headers: number;
    memory?: number | undefined;
    callerMemory?: number | undefined;
    connectionMemory?: number | undefined;
  };
  routes: Record<string, Route>;
  deployments: DeploymentEntry[];
}

/** TLS of a port for clients, after checking. */
export interface TlsEntry {
  certFile?: string | undefined;
  keyFile?: string | undefined;
  caFile?: string | undefined;
  clientCertificate: 'required' | 'optional';
}

/** One entry of `access.tokens` after checking. */
export interface TokenEntry {
  name: string;
  sha256: string;
  roles: string[];
}

/** One entry of `web.sites` after checking. */
export interface SiteEntry {
  prefix: string;
  service?: string | undefined;
  version?: string | undefined;
  files?: string | undefined;
  cacheControl: string;
  timeout?: number | undefined;
  stickyCookie?: string | undefined;
}

/** One entry of `faceplates` after checking. */
export interface FaceplateEntry {
  module: string;
  name: string;
  port: number;
  options: Record<string, unknown>;
}

/** One entry of `deployments` after checking. */
export interface DeploymentEntry {
  service: string;
  version: string;
  command?: string[] | undefined;
  script?: string | undefined;
  count: number;
  perManager: boolean;
  cwd: string;
  env: Record<string, string>;
  tags: string[];
  roles: string[];
  more: Record<string, string>;
  idl?: string | undefined;
  includes: string[];
  kit: 'sdk' | 'none';
  listen?: 'unix' | 'tcp' | undefined;
  transport?: Transport | undefined;
  protocol?: Protocol | undefined;
  healthCheck?: string | undefined;
  concurrency?: number | undefined;
  startTimeout: number;
  pingEvery: number;
  pingTimeout: number;
  drainTimeout: number;
  stopGrace: number;
  hangGrace: number;
  restart: { intensity: number; period: number; backoffFirst: number; backoffMax: number };
  recycle: { afterCalls: number; afterAge: number; memoryMax: number };
  queue: { max: number };
  user?: string | undefined;
  group?: string | undefined;
  groups?: string[] | undefined;
  umask?: string | undefined;
  noNewPrivileges?: boolean | undefined;
  systemLimits: {
    openFiles?: number | undefined;
    memory?: number | undefined;
    processes?: number | undefined;
    core?: number | undefined;
    cpu?: number | undefined;
  };
}

/** Returns the schema at `path`; undefined if there is none. */
export function schemaAt(path: readonly PropertyKey[]): z.ZodType | undefined {
  let schema: z.ZodType | undefined = configSchema;
  for (const step of path) {
    const inner: z.ZodType = unwrap(schema);
    if (inner instanceof z.ZodObject) schema = (inner.shape as Record<PropertyKey, z.ZodType>)[step];
    else if (inner instanceof z.ZodArray) schema = inner.element as z.ZodType;
    else if (inner instanceof z.ZodRecord) schema = inner.valueType as z.ZodType;
    else return undefined;
    if (schema === undefined) return undefined;
  }
  return schema;
}

/** Returns the keys that are allowed at `path`. */
export function keysAt(path: readonly PropertyKey[]): string[] {
  const schema = schemaAt(path);
  const inner = schema === undefined ? undefined : unwrap(schema);
  return inner instanceof z.ZodObject ? Object.keys(inner.shape) : [];
}

/** Room for two of the largest lines. */
const AUDIT_FILE_BYTES_MIN = 128 * 1024;
/** The sums of bytes cannot be lower, so that small calls always fit. */
const SUM_BYTES_MIN = 1024 * 1024;

const origins = () =>
  leaf(
    z
      .array(
        leaf(z.string().regex(/^(\*|https?:\/\/[^\s/]+)$/), 'text', 'an origin such as "https://example.org", or "*"'),
      )
      .max(1_000),
    'list',
    'a list of origins',
  );

/** A host name, all names below one, or all names. */
const HOST = /^(\*|(\*\.)?\w([\w.-]{0,251}\w)?)$/;
const HOST_EXPECTED = 'a host name without a port such as "mesh.example.org", "*.example.org", or "*"';
/** Header values are sent as configured. */
const PRINTABLE = /^[\x20-\x7e]+$/;
/** `/shop`, `/shop/en`: no `..`, nothing percent-encoded, no slash at the end. */
const PREFIX = /^\/$|^(\/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$/;
/** Valid in metric labels and in names of Consul services. */
const FACEPLATE_NAME = /^[a-z][a-z0-9-]{0,30}[a-z0-9]$/;

/** Printable, so that a name cannot break a line of a log, and none that the policy uses for others. */
const CALLER = /^(?!(?:anonymous|chassis|mesh)$)[\x21-\x7e\u00a1-\ud7ff]{1,256}$/;

const METHOD = /^[A-Za-z_][A-Za-z0-9_]*$/;
/** Valid in Consul keys and in file names. */
const NAME = /^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/;
const NAME_EXPECTED = 'a name of letters, digits, ".", "_" and "-", at most 63';

/** An absolute URL: a relative one would mean another folder on each manager. No user, no query. */
const SOURCE = /^(file:\/|(https?|s3|hdfs|swebhdfs):\/\/[^/@?#\s\\])[^@?#\s\\]*$/;
const SOURCE_EXPECTED = 'a URL prefix such as "file:/srv/indices/", "s3://bucket/" or "https://host/path/"';

const account = (what: string) =>
  leaf(
    z
      .string()
      .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/)
      .max(100),
    'text',
    `the name of a ${what}, or its number in quotes`,
  );

const deploymentSchema = z.strictObject({
  service: leaf(z.string().max(200).regex(SERVICE), 'text', 'the name of a Thrift service, such as "Calculator"'),
  version: leaf(z.string().max(100).regex(VERSION), 'text', VERSION_EXPECTED),
  command: leaf(
    z.array(text('text; put it in quotes')).min(1).max(1_000),
    'list',
    'a list such as ["python3", "worker.py"]',
  ).optional(),
  script: text('a file').optional(),
  count: count(0, 10_000).prefault(1),
  perManager: bool().prefault(false),
  cwd: text('a directory').prefault('.'),
  env: textMap().prefault({}),
  tags: texts().prefault([]),
  roles: texts().prefault([]),
  more: textMap().prefault({}),
  idl: text('a .thrift file').optional(),
  includes: texts().prefault([]),
  kit: leaf(z.enum(['sdk', 'none']), 'text', '"sdk" or "none"').prefault('sdk'),
  listen: leaf(z.enum(['unix', 'tcp']), 'text', '"unix" or "tcp"').optional(),
  transport: leaf(z.enum(TRANSPORTS), 'text', '"framed", "buffered" or "header"').optional(),
  protocol: leaf(z.enum(PROTOCOLS), 'text', '"binary", "old-binary", "compact" or "json"').optional(),
  healthCheck: leaf(z.string().max(200).regex(METHOD), 'text', 'the name of a method').optional(),
  concurrency: count(1, 100_000).optional(),
  startTimeout: duration().prefault('10s'),
  pingEvery: duration().prefault('5s'),
  pingTimeout: duration().prefault('2s'),
  drainTimeout: duration(0).prefault('10s'),
  stopGrace: duration(0).prefault('2s'),
  hangGrace: duration(0).prefault('1s'),
  restart: z
    .strictObject({
      intensity: count(1, 1_000).prefault(5),
      period: duration().prefault('30s'),
      backoffFirst: duration().prefault('500ms'),
      backoffMax: duration().prefault('30s'),
    })
    .prefault({}),
  recycle: z
    .strictObject({
      afterCalls: count(0, COUNT_MAX).prefault(0),
      afterAge: duration(0).prefault(0),
      memoryMax: size(0).prefault(0),
    })
    .prefault({}),
  queue: z.strictObject({ max: count(0, 1_000_000).prefault(256) }).prefault({}),
  user: account('user').optional(),
  group: account('group').optional(),
  groups: leaf(z.array(account('group')).max(100), 'list', 'a list of groups').optional(),
  umask: leaf(z.string().regex(/^[0-7]{1,4}$/), 'text', 'octal digits in quotes such as "027"').optional(),
  noNewPrivileges: bool().optional(),
  systemLimits: z
    .strictObject({
      openFiles: count(1, COUNT_MAX).optional(),
      memory: size().optional(),
      processes: count(1, COUNT_MAX).optional(),
      core: size(0).optional(),
      cpu: duration(1_000).optional(),
    })
    .prefault({}),
});

const siteSchema = z.strictObject({
  prefix: leaf(z.string().max(200).regex(PREFIX), 'text', 'a path such as "/shop", or "/"'),
  service: leaf(z.string().max(200).regex(SERVICE), 'text', 'the name of a Thrift service').optional(),
  version: text('a version or a range in quotes such as "^1.0.0"').optional(),
  files: text('a directory').optional(),
  cacheControl: leaf(
    z.string().max(200).regex(PRINTABLE),
    'text',
    'the value of a Cache-Control header such as "max-age=3600"',
  ).prefault('no-cache'),
  timeout: duration().optional(),
  stickyCookie: leaf(
    z
      .string()
      .max(200)
      .regex(/^[\w.-]+$/),
    'text',
    'the name of a cookie',
  ).optional(),
});

/** The keys of TLS on a port for clients. */
const tlsKeys = () => ({
  certFile: text('a file').optional(),
  keyFile: text('a file').optional(),
  caFile: text('a file').optional(),
  clientCertificate: leaf(z.enum(['required', 'optional']), 'text', '"required" or "optional"').prefault('required'),
});
const tlsSchema = () => z.strictObject(tlsKeys()).prefault({});

const tokenSchema = z.strictObject({
  name: leaf(z.string().regex(CALLER), 'text', 'the name of a caller, of printable characters without spaces'),
  sha256: leaf(
    z.string().regex(/^[0-9a-fA-F]{64}$/),
    'secret',
    'the SHA-256 digest of the token, 64 hexadecimal digits: printf %s TOKEN | sha256sum',
  ),
  roles: texts('a list of roles').prefault([]),
});

const faceplateSchema = z.strictObject({
  module: leaf(
    z.string().min(1).max(4_096),
    'text',
    'a JavaScript or TypeScript file such as "./line.js", or a package',
  ),
  name: leaf(
    z.string().regex(FACEPLATE_NAME),
    'text',
    'a name of lower-case letters, digits and "-", 2 to 32 characters',
  ),
  port: port(),
  options: leaf(z.record(z.string(), z.unknown()), 'map', "a map of the module's own options").prefault({}),
});

export const configSchema: z.ZodType<ConfigFile> = z.strictObject({
  mesh: leaf(z.string().regex(NAME), 'text', NAME_EXPECTED).prefault('default'),
  name: leaf(z.string().regex(NAME), 'text', NAME_EXPECTED).optional(),
  machine: leaf(z.string().regex(NAME), 'text', NAME_EXPECTED).optional(),
  advertise: leaf(z.string().regex(/^[A-Za-z0-9.:_-]+$/), 'text', 'an address or host name').optional(),
  dataDir: text('a directory').optional(),
  host: leaf(z.string().regex(/^[A-Za-z0-9.:_%-]+$/), 'text', 'an address or host name').prefault('127.0.0.1'),
  ports: z
    .strictObject({
      thrift: port().prefault(9090),
      jsonRpc: port().prefault(9080),
      stats: port().prefault(9081),
      link: port().prefault(9070),
      consul: port().prefault(9085),
    })
    .prefault({}),
  consul: z
    .strictObject({
      embedded: bool().optional(),
      address: leaf(
        z.string().regex(/^(https?:\/\/)?[^\s/]+\/?$/),
        'text',
        'an address such as "http://127.0.0.1:8500"',
      ).optional(),
      token: leaf(z.string(), 'secret', 'text').prefault(''),
      tokenFile: text('a file').optional(),
      caFile: text('a file').optional(),
      certFile: text('a file').optional(),
      keyFile: text('a file').optional(),
    })
    .prefault({}),
  link: z
    .strictObject({
      secret: leaf(z.string().min(16).max(1_000), 'secret', 'text of at least 16 characters').optional(),
      secretFile: text('a file').optional(),
      caFile: text('a file').optional(),
      certFile: text('a file').optional(),
      keyFile: text('a file').optional(),
    })
    .prefault({}),
  master: z.strictObject({ rank: count(0, 1_000).prefault(100) }).prefault({}),
  manager: z.strictObject({ capacity: count(1, 100_000).optional() }).prefault({}),
  content: z
    .strictObject({
      directory: text('a directory').optional(),
      sources: leaf(
        z.array(leaf(z.string().max(2_048).regex(SOURCE), 'text', SOURCE_EXPECTED)).max(100),
        'list',
        'a list of URL prefixes',
      ).optional(),
      fetchRate: size(0).prefault('50MB'),
      verifyEvery: durationOrOff().prefault('24h'),
      openTimeout: duration().prefault('5m'),
    })
    .prefault({}),
  timeout: duration().prefault('10s'),
  shutdownDelay: duration(0).prefault('5s'),
  admin: z
    .strictObject({
      token: leaf(z.string().min(16).max(1_000), 'secret', 'text of at least 16 characters').optional(),
      tokenFile: text('a file').optional(),
    })
    .prefault({}),
  assignments: z
    .strictObject({
      file: text('a file, or "-" for standard output').optional(),
      share: leaf(z.number().min(0).max(100), 'number', 'a percentage, 0 to 100').prefault(100),
    })
    .prefault({}),
  audit: z
    .strictObject({ fileSize: size(AUDIT_FILE_BYTES_MIN).prefault('10MiB'), files: count(2, 1_000).prefault(10) })
    .prefault({}),
  thrift: z
    .strictObject({
      defaultService: leaf(
        z.string().regex(new RegExp(`^$|${SERVICE.source}`)),
        'text',
        'the name of a Thrift service',
      ).prefault(''),
      tls: z.strictObject({ ...tlsKeys(), required: bool().prefault(false) }).prefault({}),
    })
    .prefault({}),
  http: z
    .strictObject({
      hosts: leaf(
        z.array(leaf(z.string().regex(HOST), 'text', HOST_EXPECTED)).max(1_000),
        'list',
        'a list of host names',
      ).prefault([]),
      origins: origins().prefault([]),
    })
    .prefault({}),
  jsonRpc: z
    .strictObject({ allowedOrigins: origins().prefault([]), errorStatus: bool().prefault(false), tls: tlsSchema() })
    .prefault({}),
  web: z
    .strictObject({
      port: port().prefault(9082),
      trustProxy: bool().prefault(false),
      tls: tlsSchema(),
      sites: z.array(siteSchema).max(1_000).prefault([]),
    })
    .prefault({}),
  stats: z.strictObject({ tls: tlsSchema() }).prefault({}),
  access: z
    .strictObject({
      anonymous: leaf(z.enum(['loopback', 'always', 'never']), 'text', '"loopback", "always" or "never"').prefault(
        'loopback',
      ),
      tokens: z.array(tokenSchema).max(10_000).prefault([]),
      jwt: z
        .strictObject({
          issuer: text('the issuer of the tokens, as in their claim iss').optional(),
          audience: text('the name of this mesh in the claim aud of the tokens').optional(),
          jwksFile: text('a file').optional(),
          jwksUrl: leaf(
            z.string().regex(/^https?:\/\/[^\s]+$/),
            'text',
            'a URL such as "https://login.example.org/jwks.json"',
          ).optional(),
          algorithms: leaf(
            z.array(leaf(z.enum(JWT_ALGORITHMS), 'text', `one of ${JWT_ALGORITHMS.join(', ')}`)).min(1),
            'list',
            'a list of asymmetric algorithms',
          ).prefault(['ES256', 'EdDSA', 'PS256', 'RS256']),
          nameClaim: text('the path of a claim').prefault('sub'),
          rolesClaim: text('the path of a claim').prefault('roles'),
          clockTolerance: duration(0).prefault('30s'),
        })
        .prefault({}),
    })
    .prefault({}),
  faceplates: z.array(faceplateSchema).max(100).prefault([]),
  limits: z
    .strictObject({
      frame: size(1024).prefault('16MiB'),
      nesting: count(1, 1_000).prefault(64),
      batch: count(1, 100_000).prefault(100),
      connections: count(1, 1_000_000).prefault(20_000),
      idle: duration().prefault('10m'),
      request: duration().prefault('30s'),
      pipeline: count(1, 100_000).prefault(256),
      headers: count(1, 10_000).prefault(100),
      memory: size(SUM_BYTES_MIN).optional(),
      callerMemory: size(SUM_BYTES_MIN).optional(),
      connectionMemory: size(SUM_BYTES_MIN).optional(),
    })
    .prefault({}),
  routes: routesSchema(),
  deployments: z.array(deploymentSchema).max(1_000).prefault([]),
});

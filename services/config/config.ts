// Loads the configuration of a process. Flags override KATAMARI_* variables, which override the file. The result is
// checked once and is plain data afterwards. Every error names the location, the key, the value found and the value
// expected; the exit code is 78.

import os from 'node:os';
import { type FaceplateLimits, formatDuration, formatSize } from '../../core/mod.ts';
import type { Site } from '../../faceplates/web/mod.ts';
import type { AddedFaceplate } from './added-faceplate.ts';
import { checkTogether, describeIssue, type Problem } from './check.ts';
import { resolveDeployment, type ConfiguredDeployment } from './deployment.ts';
import { ExitError, EXIT } from './exit-error.ts';
import { findConfigFile, keyText, readConfigFile, type ConfigText } from './file.ts';
import { layer, type FlagValue } from './layers.ts';
import type { Route } from '../mesh/mod.ts';
import type { AnonymousCallers, JwtOptions, CallerToken } from '../access/mod.ts';
import { leafFacts, unwrap, type SettingKind } from './schema-leaves.ts';
import { configSchema, schemaAt, type ConfigFile, type TlsEntry } from './schema.ts';
import { memoryLimits } from './memory.ts';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { z } from 'zod';
export type { ConfiguredDeployment } from './deployment.ts';

/** The complete settings of a process: durations in ms, sizes in bytes, absolute paths, all defaults applied. */
export interface Config {
  readonly mesh: string;
  /** Name of this process, unique in its mesh. */
  readonly name: string;
  /** The machine it runs on. Replicas are spread over machines. */
  readonly machine: string;
  /** Host that other machines use to reach this process; '' derives it from `host`. */
  readonly advertise: string;
  readonly dataDir: string;
  readonly host: string;
  /** 0 means any free port. */
  readonly ports: {
    readonly thrift: number;
    readonly jsonRpc: number;
    readonly stats: number;
    readonly link: number;
    readonly consul: number;
  };
  readonly consul: {
    readonly embedded: boolean;
    /** URL of the real Consul; '' when embedded. */
    readonly address: string;
    /** '' for none, or if it is read from `tokenFile`. */
    readonly token: string;
    /** File of the token; '' for none. The file for the embedded agent is created if it is missing. */
    readonly tokenFile: string;
    /** '' for none. */
    readonly caFile: string;
    readonly certFile: string;
    readonly keyFile: string;
  };
  /** How the processes of the mesh authenticate each other. The certificates may be ''. */
  readonly link: {
    /** '' if it is read from `secretFile`, which is created if it is missing. */
    readonly secret: string;
    readonly secretFile: string;
    /** Whether the configuration names the secret, so that processes on other machines can have the same one. */
    readonly isShared: boolean;
    readonly caFile: string;
    readonly certFile: string;
    readonly keyFile: string;
  };
  /** Masters with a lower rank become leader first. */
  readonly master: { readonly rank: number };
  /** Share of the replicas that a manager gets, relative to the others. */
  readonly manager: { readonly capacity: number };
  /** Shards of indices on this manager. */
  readonly content: {
    /** Where the shards are. Only those who may enter it can read them. */
    readonly directory: string;
    /** URL prefixes of the sources from which shards may be fetched. */
    readonly sources: readonly string[];
    /** Bytes per second of all fetches together; 0 for no limit. */
    readonly fetchBytesPerS: number;
    /** Time between two checks of the files of a shard; 0: only when an operator asks. */
    readonly verifyEveryMs: number;
    readonly openTimeoutMs: number;
  };
  readonly timeoutMs: number;
  /** How long the ports serve on after SIGTERM, while `/readyz` already fails. */
  readonly shutdownDelayMs: number;
  readonly admin: {
    /** '' if it is read from `tokenFile`, which is created if it is missing. */
    readonly token: string;
    readonly tokenFile: string;
  };
  /** Where lines about calls of services with a route go: a file, `-` for standard output, or '' for none. */
  readonly assignments: { readonly file: string; readonly share: number };
  /** Limits of the audit log. */
  readonly audit: { readonly fileBytesMax: number; readonly filesMax: number };
  readonly thrift: {
    /** Service of calls without a service name; '' for none. */
    readonly defaultService: string;
    readonly tls: TlsFiles & { readonly required: boolean };
  };
  /** What clients of all HTTP ports may use beside the defaults: host names, and origins of web pages. */
  readonly http: { readonly hosts: readonly string[]; readonly origins: readonly string[] };
  readonly jsonRpc: {
    readonly allowedOrigins: readonly string[];
    readonly errorStatus: boolean;
    readonly tls: TlsFiles;
  };
  /** The web faceplate; off without sites. */
  readonly web: {
    readonly port: number;
    readonly trustProxy: boolean;
    readonly tls: TlsFiles;
    readonly sites: readonly Site[];
  };
  readonly stats: { readonly tls: TlsFiles };
  /** How callers are identified. */
  readonly access: {
    readonly anonymous: AnonymousCallers;
    readonly tokens: readonly (CallerToken & { readonly sha256: string })[];
    /** Undefined without an issuer. */
    readonly jwt: JwtOptions | undefined;
  };
  /** Faceplates that the user added. */
  readonly faceplates: readonly AddedFaceplate[];
  readonly limits: FaceplateLimits;
  readonly routes: Readonly<Record<string, Route>>;
  readonly deployments: readonly ConfiguredDeployment[];
}

/** TLS of a port for clients. Files are '' for none. */
export interface TlsFiles {
  readonly certFile: string;
  readonly keyFile: string;
  readonly caFile: string;
  readonly isCertificateOptional: boolean;
}

/** The sources of the configuration. */
export interface ConfigSources {
  /** Value of `--config`. If undefined, KATAMARI_CONFIG names the file, else CONFIG_FILE_NAMES are tried in `cwd`. */
  readonly file: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  readonly flags: readonly FlagValue[];
  /** What a command adds to the file. */
  readonly more?: MoreSettings | undefined;
}

export interface MoreSettings {
  /** In the form of the file. */
  readonly deployments: readonly Readonly<Record<string, unknown>>[];
  /** Prefixes for `content.sources`. */
  readonly sources: readonly string[];
}

/** One line of `katamari config`. */
export interface EffectiveSetting {
  readonly key: string;
  /** Value as it is written in the file. Secrets are masked. */
  readonly value: string;
  /** Source of the value: `default`, `katamari.yaml:12`, `env KATAMARI_HOST` or `flag --host`. */
  readonly from: string;
}

export interface LoadedConfig {
  readonly config: Config;
  /** Path of the file as messages show it; undefined without a file. */
  readonly file: string | undefined;
  readonly settings: readonly EffectiveSetting[];
  readonly warnings: readonly string[];
  /** Returns the location of a value as the start of a message: `katamari.yaml:12: deployments[0].script`. */
  readonly where: (path: readonly PropertyKey[]) => string;
}

/**
 * Reads, checks and resolves the configuration.
 * @throws ExitError with exit code 78 that lists the problems, one per line (at most PROBLEMS_SHOWN_MAX); with exit
 * code 2 for a flag that names no setting
 */
export function loadConfig(sources: ConfigSources): LoadedConfig {
  const requested = sources.file ?? sources.env['KATAMARI_CONFIG'];
  const file = findConfigFile(requested, sources.cwd);
  const text = file === undefined ? undefined : readConfigFile(file, sources.cwd);
  const { values: given, origins, warnings } = layer(text, sources.env, sources.flags);
  const values = withMore(given, sources.more);
  const originOf = (path: readonly PropertyKey[]): string =>
    origins.get(keyText(path)) ??
    (text !== undefined && has(values, path) ? `${text.shown}:${text.lineOf(path)}` : 'default');
  const locationOf = (path: readonly PropertyKey[]): Location => describeLocation(path, origins, text);
  const where = (path: readonly PropertyKey[]): string => locationOf(path).shown;

  const checked = configSchema.safeParse(values);
  if (!checked.success) {
    throw configurationError(
      checked.error.issues.flatMap((issue) => describeIssue(issue, values, text)),
      locationOf,
    );
  }
  const filled = fillIn(checked.data, sources, (path) =>
    origins.has(keyText(path)) ? sources.cwd : (text?.directory ?? sources.cwd),
  );
  const clashes = checkTogether(filled, values);
  if (clashes.length > 0) throw configurationError(clashes, locationOf);
  const settings: EffectiveSetting[] = [];
  listEffective(configSchema, filled, [], originOf, settings);
  return {
    config: withSources(resolve(filled, checked.data, text?.directory ?? sources.cwd, where), sources.more),
    file: text?.shown,
    settings,
    warnings,
    where,
  };
}

function withMore(values: Record<string, unknown>, more: MoreSettings | undefined): Record<string, unknown> {
  if (more === undefined || more.deployments.length === 0) return values;
  const { deployments = [] } = values;
  // A wrong value is told by the schema.
  return Array.isArray(deployments) ? { ...values, deployments: [...deployments, ...more.deployments] } : values;
}

function withSources(config: Config, more: MoreSettings | undefined): Config {
  if (more === undefined) return config;
  const { content } = config;
  return { ...config, content: { ...content, sources: [...content.sources, ...more.sources] } };
}

function configurationError(
  problems: readonly Problem[],
  locationOf: (path: readonly PropertyKey[]) => Location,
): ExitError {
  const lines = problems
    .map(({ path, text }) => ({ ...locationOf(path), text }))
    .sort((a, b) => a.line - b.line)
    .map(({ shown, text }) => `${shown}: ${text}`);
  const more = lines.length > PROBLEMS_SHOWN_MAX ? [`... and ${lines.length - PROBLEMS_SHOWN_MAX} more`] : [];
  return new ExitError(EXIT.badConfiguration, [...lines.slice(0, PROBLEMS_SHOWN_MAX), ...more].join('\n'));
}

/** Location of a value in its source. */
interface Location {
  /** `katamari.yaml:12: deployments[0].script`, or the variable or flag and the key. */
  readonly shown: string;
  /** Line in the file, from 1; 0 for variables and flags, whose problems come first. */
  readonly line: number;
}

function describeLocation(
  path: readonly PropertyKey[],
  origins: ReadonlyMap<string, string>,
  text: ConfigText | undefined,
): Location {
  for (let length = path.length; length > 0; length--) {
    const origin = origins.get(keyText(path.slice(0, length)));
    if (origin !== undefined) return { shown: `${origin.replace(/^(env|flag) /, '')}: ${keyText(path)}`, line: 0 };
  }
  const line = text?.lineOf(path) ?? 0;
  const file = text === undefined ? 'configuration' : `${text.shown}:${line}`;
  return { shown: path.length === 0 ? file : `${file}: ${keyText(path)}`, line };
}

/**
 * Applies defaults that depend on the machine or on other settings, and makes paths absolute. Paths in the file are
 * relative to its directory, other paths to the working directory.
 */
function fillIn(
  data: ConfigFile,
  { env, cwd }: ConfigSources,
  baseOf: (path: readonly string[]) => string,
): ConfigFile {
  const at = (value: string | undefined, steps: readonly string[]): string | undefined =>
    value === undefined ? undefined : path.resolve(baseOf(steps), value.replace(/^~(?=\/)/, os.homedir()));
  const tlsAt = (port: string, { certFile, keyFile, caFile }: TlsEntry): Omit<TlsEntry, 'clientCertificate'> => ({
    certFile: at(certFile, [port, 'tls', 'certFile']),
    keyFile: at(keyFile, [port, 'tls', 'keyFile']),
    caFile: at(caFile, [port, 'tls', 'caFile']),
  });
  const dataDir = at(data.dataDir, ['dataDir']) ?? defaultDataDir(data.mesh, env, cwd);
  const embedded = data.consul.embedded ?? data.consul.address === undefined;
  return {
    ...data,
    name: data.name ?? defaultName(),
    machine: data.machine ?? defaultName(),
    dataDir,
    link: {
      ...data.link,
      secretFile: at(data.link.secretFile, ['link', 'secretFile']) ?? path.join(dataDir, 'link-secret'),
      caFile: at(data.link.caFile, ['link', 'caFile']),
      certFile: at(data.link.certFile, ['link', 'certFile']),
      keyFile: at(data.link.keyFile, ['link', 'keyFile']),
    },
    thrift: { ...data.thrift, tls: { ...data.thrift.tls, ...tlsAt('thrift', data.thrift.tls) } },
    jsonRpc: { ...data.jsonRpc, tls: { ...data.jsonRpc.tls, ...tlsAt('jsonRpc', data.jsonRpc.tls) } },
    stats: { tls: { ...data.stats.tls, ...tlsAt('stats', data.stats.tls) } },
    access: {
      ...data.access,
      jwt: { ...data.access.jwt, jwksFile: at(data.access.jwt.jwksFile, ['access', 'jwt', 'jwksFile']) },
    },
    web: {
      ...data.web,
      tls: { ...data.web.tls, ...tlsAt('web', data.web.tls) },
      sites: data.web.sites.map((site, index) => ({
        ...site,
        files: at(site.files, ['web', 'sites', String(index), 'files']),
      })),
    },
    assignments: {
      ...data.assignments,
      file: data.assignments.file === '-' ? '-' : at(data.assignments.file, ['assignments', 'file']),
    },
    manager: { capacity: data.manager.capacity ?? os.availableParallelism() },
    content: {
      ...data.content,
      directory: at(data.content.directory, ['content', 'directory']) ?? path.join(dataDir, 'shards'),
      sources: data.content.sources ?? [pathToFileURL(`${baseOf(['content', 'sources'])}/`).href],
    },
    limits: { ...data.limits, ...memoryLimits(data.limits, data.limits.frame) },
    consul: {
      ...data.consul,
      embedded,
      address: embedded ? data.consul.address : withScheme(data.consul.address ?? '127.0.0.1:8500'),
      tokenFile:
        at(data.consul.tokenFile, ['consul', 'tokenFile']) ??
        (embedded ? path.join(dataDir, 'consul-token') : undefined),
      caFile: at(data.consul.caFile, ['consul', 'caFile']),
      certFile: at(data.consul.certFile, ['consul', 'certFile']),
      keyFile: at(data.consul.keyFile, ['consul', 'keyFile']),
    },
    admin: {
      ...data.admin,
      tokenFile: at(data.admin.tokenFile, ['admin', 'tokenFile']) ?? path.join(dataDir, 'admin-token'),
    },
    deployments: data.deployments.map((entry) => ({
      ...entry,
      listen: entry.listen ?? (entry.kit === 'sdk' ? 'unix' : 'tcp'),
      ...(entry.kit === 'sdk' ? {} : { transport: entry.transport ?? 'framed', protocol: entry.protocol ?? 'binary' }),
    })),
  };
}

/** @param written before the defaults of the machine were applied */
function resolve(data: ConfigFile, written: ConfigFile, directory: string, where: LoadedConfig['where']): Config {
  const { limits } = data;
  return {
    mesh: data.mesh,
    name: data.name as string,
    machine: data.machine as string,
    advertise: data.advertise ?? '',
    dataDir: data.dataDir as string,
    host: data.host,
    ports: data.ports,
    consul: {
      embedded: data.consul.embedded as boolean,
      address: data.consul.address ?? '',
      token: data.consul.token,
      tokenFile: data.consul.tokenFile ?? '',
      caFile: data.consul.caFile ?? '',
      certFile: data.consul.certFile ?? '',
      keyFile: data.consul.keyFile ?? '',
    },
    link: {
      secret: data.link.secret ?? '',
      secretFile: data.link.secretFile as string,
      isShared: written.link.secret !== undefined || written.link.secretFile !== undefined,
      caFile: data.link.caFile ?? '',
      certFile: data.link.certFile ?? '',
      keyFile: data.link.keyFile ?? '',
    },
    master: data.master,
    manager: { capacity: data.manager.capacity as number },
    content: {
      directory: data.content.directory as string,
      sources: data.content.sources as string[],
      fetchBytesPerS: data.content.fetchRate,
      verifyEveryMs: data.content.verifyEvery,
      openTimeoutMs: data.content.openTimeout,
    },
    timeoutMs: data.timeout,
    shutdownDelayMs: data.shutdownDelay,
    admin: { token: data.admin.token ?? '', tokenFile: data.admin.tokenFile as string },
    assignments: { file: data.assignments.file ?? '', share: data.assignments.share },
    audit: { fileBytesMax: data.audit.fileSize, filesMax: data.audit.files },
    thrift: {
      defaultService: data.thrift.defaultService,
      tls: { ...tlsFilesOf(data.thrift.tls), required: data.thrift.tls.required },
    },
    http: data.http,
    jsonRpc: { ...data.jsonRpc, tls: tlsFilesOf(data.jsonRpc.tls) },
    web: { ...data.web, tls: tlsFilesOf(data.web.tls), sites: data.web.sites.map(siteOf) },
    stats: { tls: tlsFilesOf(data.stats.tls) },
    access: { ...data.access, jwt: jwtOf(data.access.jwt) },
    faceplates: data.faceplates.map((entry, index) => ({
      ...entry,
      directory,
      where: (path) => where(['faceplates', index, ...path]),
    })),
    limits: {
      frameBytesMax: limits.frame,
      nestingMax: limits.nesting,
      batchMax: limits.batch,
      connectionsMax: limits.connections,
      idleMs: limits.idle,
      requestMs: limits.request,
      pipelineMax: limits.pipeline,
      headersMax: limits.headers,
      processBytesMax: limits.memory as number,
      callerBytesMax: limits.callerMemory as number,
      connectionBytesMax: limits.connectionMemory as number,
    },
    routes: data.routes,
    deployments: data.deployments.map((entry) => resolveDeployment(entry, directory)),
  };
}

function tlsFilesOf({ certFile = '', keyFile = '', caFile = '', clientCertificate }: TlsEntry): TlsFiles {
  return { certFile, keyFile, caFile, isCertificateOptional: clientCertificate === 'optional' };
}

function jwtOf(entry: ConfigFile['access']['jwt']): JwtOptions | undefined {
  const { issuer, audience = '', jwksFile = '', jwksUrl = '', clockTolerance, ...rest } = entry;
  if (issuer === undefined) return undefined;
  return { ...rest, issuer, audience, jwksFile, jwksUrl, clockToleranceMs: clockTolerance };
}

function siteOf(entry: ConfigFile['web']['sites'][number]): Site {
  return {
    prefix: entry.prefix,
    service: entry.service ?? '',
    version: entry.version ?? '',
    files: entry.files ?? '',
    cacheControl: entry.cacheControl,
    timeoutMs: entry.timeout ?? Number.POSITIVE_INFINITY,
    stickyCookie: entry.stickyCookie ?? '',
  };
}

function listEffective(
  schema: z.ZodType,
  value: unknown,
  path: readonly PropertyKey[],
  originOf: (path: readonly PropertyKey[]) => string,
  into: EffectiveSetting[],
): void {
  if (value === undefined) return;
  const inner = unwrap(schema);
  const facts = leafFacts(schema);
  if (facts !== undefined) {
    into.push({ key: keyText(path), value: showValue(value, facts.kind), from: originOf(path) });
  } else if (Array.isArray(value) && inner instanceof z.ZodArray) {
    value.forEach((item, index) => listEffective(inner.element as z.ZodType, item, [...path, index], originOf, into));
  } else {
    const keys = inner instanceof z.ZodObject ? Object.keys(inner.shape) : Object.keys(value as object);
    for (const key of keys) {
      const below = schemaAt([...path, key]);
      if (below !== undefined)
        listEffective(below, (value as Record<string, unknown>)[key], [...path, key], originOf, into);
    }
  }
}

function showValue(value: unknown, kind: SettingKind): string {
  switch (kind) {
    case 'duration':
      return formatDuration(value as number);
    case 'size':
      return formatSize(value as number);
    case 'secret':
      return value === '' ? '""' : '********';
    case 'text':
      return value === '' ? '""' : (value as string);
    case 'list':
    case 'map':
    case 'number':
    case 'boolean':
      return JSON.stringify(value);
  }
}

function has(values: unknown, path: readonly PropertyKey[]): boolean {
  let value = values;
  for (const step of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return false;
    value = (value as Record<PropertyKey, unknown>)[step];
  }
  return value !== undefined;
}

/** Returns `$XDG_STATE_HOME/katamari/<mesh>`. It survives a restart, and each mesh on a machine has its own. */
function defaultDataDir(mesh: string, env: NodeJS.ProcessEnv, cwd: string): string {
  const home = env['XDG_STATE_HOME'] || path.join(env['HOME'] || os.homedir(), '.local', 'state');
  return path.resolve(cwd, home, 'katamari', mesh);
}

/** Returns the host name. Characters that a Consul key cannot contain become `-`. */
function defaultName(): string {
  return (
    os
      .hostname()
      .replace(/[^A-Za-z0-9._-]/g, '-')
      .replace(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, '')
      .slice(0, 63) || 'katamari'
  );
}

function withScheme(address: string): string {
  return (address.includes('://') ? address : `http://${address}`).replace(/\/$/, '');
}

const PROBLEMS_SHOWN_MAX = 20;

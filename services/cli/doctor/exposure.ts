// Checks of what other machines and web pages can reach: the ports and what protects each, anonymous callers, the
// policy and its quotas, hosts and origins, the link, Consul and the keys of signed tokens.

import { isLoopback } from '../../../core/link/mod.ts';
import { formatAddress } from '../../../core/mod.ts';
import { ANONYMOUS } from '../../../core/rpc/mod.ts';
import { sizeOf, type CompiledPolicy } from '../../access/mod.ts';
import type { Config, TlsFiles } from '../../config/mod.ts';
import { consulOptionsOf } from '../../consul/mod.ts';
import { fail, ok, warn, type Finding } from './finding.ts';
import { modeOf, OTHERS_WRITE, statOf } from './secrets.ts';
import path from 'node:path';

/** The access policy, as far as this machine or the running mesh tells it. */
export type KnownPolicy =
  | { readonly state: 'none' }
  /** The file of this process cannot be used, so it denies every call. */
  | { readonly state: 'broken'; readonly why: string }
  | { readonly state: 'in force'; readonly version: number; readonly policy: CompiledPolicy };

/** Whether other machines can reach the ports for clients. */
export function isExposed({ host }: Pick<Config, 'host'>): boolean {
  return !isLoopback({ host, port: 0 });
}

export function checkPortProtection(config: Config): Finding[] {
  const { host } = config;
  if (!isExposed(config)) return [ok('ports', `all listen on ${host}, so other machines cannot reach them`)];
  return [
    ...clientPortsOf(config).map((port) => checkPort(config, port)),
    ...config.faceplates.map(({ name, port }) =>
      warn(
        `port ${name}`,
        `${formatAddress({ host, port })} is open to other machines, and its module alone decides about TLS and callers`,
        'read its documentation; let it listen beyond loopback only if it identifies its callers',
      ),
    ),
  ];
}

interface ClientPort {
  /** Section of the configuration. */
  readonly section: string;
  readonly name: string;
  readonly port: number;
  readonly tls: TlsFiles;
}

function clientPortsOf({ ports, thrift, jsonRpc, web, stats }: Config): ClientPort[] {
  return [
    { section: 'thrift', name: 'thrift', port: ports.thrift, tls: thrift.tls },
    { section: 'jsonRpc', name: 'jsonRpc', port: ports.jsonRpc, tls: jsonRpc.tls },
    { section: 'stats', name: 'stats', port: ports.stats, tls: stats.tls },
    ...(web.sites.length === 0 ? [] : [{ section: 'web', name: 'web', port: web.port, tls: web.tls }]),
  ];
}

function checkPort(config: Config, { section, name, port, tls }: ClientPort): Finding {
  const { host, access, thrift, web } = config;
  const subject = `port ${name}`;
  const where = formatAddress({ host, port });
  const hasTokens = access.tokens.length > 0 || access.jwt !== undefined;
  if (tls.certFile === '') {
    const advice = `set ${section}.tls.certFile and ${section}.tls.keyFile, or host: 127.0.0.1`;
    if (section === 'web' && web.trustProxy) {
      return warn(subject, `${where} has no TLS: others between your proxy and it read requests and tokens`, advice);
    }
    if (section === 'stats') {
      const text = `${where} has no TLS: others in the network read what it answers, and the tokens of those who ask`;
      return hasTokens ? fail(subject, text, advice) : warn(subject, text, advice);
    }
    const text = `${where} has no TLS: others in the network read and change calls, and read the tokens in them`;
    return fail(subject, text, advice);
  }
  if (section === 'thrift' && !thrift.tls.required) {
    const text = `${where} also accepts connections without TLS: a client that is set up wrongly sends calls and tokens in the clear`;
    return warn(subject, text, 'set thrift.tls.required: true');
  }
  if (tls.caFile !== '') {
    const kind = tls.isCertificateOptional
      ? 'TLS, with client certificates (optional)'
      : 'TLS, with client certificates';
    return ok(subject, `${where} is protected by ${kind}`);
  }
  if (hasTokens) return ok(subject, `${where} is protected by TLS; callers show tokens`);
  if (access.anonymous === 'always') return ok(subject, `${where} is protected by TLS; callers may stay anonymous`);
  const text = `${where} has TLS, but no callers: without client certificates and tokens, only those with an admin token can call`;
  return warn(subject, text, `set ${section}.tls.caFile, access.tokens or access.jwt`);
}

export function checkAnonymous(config: Config, known: KnownPolicy): Finding {
  const { access, web } = config;
  const subject = 'anonymous callers';
  const { anonymous } = access;
  if (anonymous === 'never') return ok(subject, 'none: every caller must prove its name');
  if (web.trustProxy && web.sites.length > 0 && anonymous === 'loopback') {
    const text = 'a proxy on this machine makes all of its clients look local, and they may stay anonymous';
    return warn(subject, text, 'set access.anonymous: never');
  }
  if (!isExposed(config) || anonymous === 'loopback') {
    return ok(subject, 'only from this machine, by its loopback address');
  }
  const rules = known.state === 'in force' && known.policy.rules !== undefined ? known.policy : undefined;
  if (rules !== undefined && !mayCallAll(rules)) {
    return ok(subject, 'from other machines too (access.anonymous: always), for what the policy allows them');
  }
  const why = rules === undefined ? 'there is no policy with rules' : 'a rule of the policy allows it';
  const text = `everybody who can reach a port may call every method: access.anonymous is always, and ${why}`;
  return known.state === 'broken'
    ? warn(subject, 'may come from other machines (access.anonymous: always)', 'set access.anonymous: loopback')
    : fail(subject, text, 'set access.anonymous: loopback, or limit them: katamari access apply FILE');
}

/** Asks for a method that no service has, so that only a rule for everything allows it. */
function mayCallAll(policy: CompiledPolicy): boolean {
  return policy.rightsOf(ANONYMOUS).mayCall({ service: PROBE, version: '1.0.0', method: PROBE, poolRoles: [] });
}

export function checkPolicy(config: Config, known: KnownPolicy): Finding {
  const subject = 'policy';
  if (known.state === 'broken') {
    const text = `${known.why}: this process denies every call until Consul has a valid policy`;
    return fail(subject, text, 'apply a valid one: katamari access apply FILE');
  }
  const apply = 'write one, and apply it: katamari access apply FILE (docs/access.md)';
  if (known.state === 'none') {
    if (!isExposed(config)) return ok(subject, 'none; only this machine reaches the ports');
    return warn(subject, 'none: every accepted caller may call every method of every service', apply);
  }
  const { version, policy } = known;
  const text = `version ${version}, ${sizeOf(policy)}`;
  if (policy.rules === undefined && isExposed(config)) {
    return warn(subject, `${text}: every accepted caller may call every method`, 'add rules to it');
  }
  return ok(subject, text);
}

export function checkQuotas(config: Config, known: KnownPolicy): Finding[] {
  if (!isExposed(config) || config.access.anonymous !== 'always') return [];
  const subject = 'quotas';
  if (known.state === 'in force' && known.policy.hasQuota(ANONYMOUS)) {
    return [ok(subject, 'the policy limits how much anonymous callers may call')];
  }
  const text = 'anonymous callers from other machines have none: one of them can keep all copies busy';
  return [warn(subject, text, 'add quotas with who: anonymous to the policy (docs/access.md)')];
}

/** What pages of web sites in a browser can do with the HTTP ports. */
export function checkWebPages({ http, jsonRpc, access }: Config): Finding[] {
  const subject = 'web pages';
  const hosts = http.hosts.includes('*')
    ? [
        {
          text: 'http.hosts allows every name: a web site whose name resolves to this machine can call from the browser of a visitor',
          advice: 'list the names in http.hosts',
        },
      ]
    : [];
  const lists = [
    { key: 'http.origins', origins: http.origins },
    { key: 'jsonRpc.allowedOrigins', origins: jsonRpc.allowedOrigins },
  ];
  const origins = lists
    .filter((list) => list.origins.includes('*'))
    .map(({ key }) => ({
      text: `${key} allows every origin: any web site can call from the browser of a visitor, and read the answers`,
      advice: `list the origins in ${key}`,
    }));
  const found = [...hosts, ...origins];
  if (found.length === 0) return [ok(subject, 'pages of other hosts and origins cannot call, except those listed')];
  // A page does not have the token of a caller, so it needs callers without one.
  const level = access.anonymous === 'never' ? warn : fail;
  return found.map(({ text, advice }) => level(subject, text, advice));
}

/** The web port serves every file below `web.sites[].files`. @param file the configuration; undefined for none */
export function checkServedFiles(config: Config, file: string | undefined): Finding[] {
  const secret = secretFilesOf(config, file);
  return config.web.sites.flatMap(({ files }, index) => {
    const served = files === '' ? undefined : secret.find((one) => one !== '' && isBelow(one, files));
    if (served === undefined) return [];
    const text = `web.sites[${index}].files is ${files}, so the web port serves ${served} to everybody who may read the site`;
    return [fail('served files', text, `give web.sites[${index}].files a directory of its own`)];
  });
}

/** What nobody may read: the data directory, the configuration, secrets and keys; '' for what there is not. */
export function secretFilesOf(config: Config, file: string | undefined): string[] {
  const { web, dataDir, admin, link, consul, thrift, jsonRpc, stats } = config;
  const keys = [thrift.tls, jsonRpc.tls, web.tls, stats.tls, link, consul].map(({ keyFile }) => keyFile);
  return [dataDir, file ?? '', admin.tokenFile, link.secretFile, consul.tokenFile, ...keys];
}

export function isBelow(file: string, directory: string): boolean {
  const way = path.relative(directory, file);
  return way !== '..' && !way.startsWith(`..${path.sep}`);
}

export function checkLinkProtection(config: Config): Finding {
  const { link, host, ports } = config;
  const subject = 'link';
  if (!isExposed(config)) return ok(subject, `listens on ${host}, and proves both ends by the secret`);
  const where = formatAddress({ host, port: ports.link });
  if (link.caFile !== '') return ok(subject, `${where} is protected by mutual TLS and the secret`);
  if (!link.isShared) {
    const text = `other machines cannot have the secret that this process makes for itself: \`katamari up\` keeps the link on loopback, and \`katamari manager\` does not start`;
    return warn(subject, text, 'set link.secretFile to the same secret (openssl rand -hex 32) on all machines');
  }
  const text = `${where} proves both ends by the secret, and does not encrypt: others in the network read and change calls`;
  return warn(subject, text, 'set link.caFile, link.certFile and link.keyFile');
}

export function checkConsulProtection({ consul }: Config, env: NodeJS.ProcessEnv): Finding[] {
  const subject = 'Consul';
  if (consul.embedded) return [ok(subject, 'embedded; it listens on loopback, and requires its token')];
  const { isRemote, isPlain } = consulTarget(consul.address, env);
  const hasToken = consul.token !== '' || consul.tokenFile !== '' || hasTokenIn(env);
  const found: Finding[] = [];
  if (isRemote && isPlain) {
    const text = `${consul.address} is another machine, without TLS: others in the network read the token and change what the mesh is told`;
    found.push(fail(subject, text, 'write https:// in consul.address and set consul.caFile'));
  }
  if (!hasToken) {
    const text =
      'is used without a token: whoever reaches it can delete deployments, restore old ones and disturb the election';
    const advice = 'use ACLs with the policy in docs/consul.md, and set consul.tokenFile';
    found.push(isRemote ? fail(subject, text, advice) : warn(subject, text, advice));
  }
  return found.length > 0 ? found : [ok(subject, `${consul.address}, with a token`)];
}

function hasTokenIn(env: NodeJS.ProcessEnv): boolean {
  return ['CONSUL_HTTP_TOKEN', 'CONSUL_HTTP_TOKEN_FILE'].some((name) => (env[name] ?? '') !== '');
}

function consulTarget(
  address: string,
  env: NodeJS.ProcessEnv,
): { readonly isRemote: boolean; readonly isPlain: boolean } {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url === undefined || url.protocol === 'unix:') return { isRemote: false, isPlain: false };
  let isTls = url.protocol === 'https:';
  try {
    isTls ||= consulOptionsOf(env).options.isTls === true;
  } catch {
    // A file that a variable names cannot be read; plain doctor tells it.
  }
  return { isRemote: !isLoopback({ host: url.hostname.replace(/^\[|\]$/g, ''), port: 0 }), isPlain: !isTls };
}

/** Whoever can change the keys of the issuer can make tokens for every caller. */
export function checkTokenKeys({ access }: Config): Finding[] {
  const { jwt } = access;
  if (jwt === undefined) return [];
  const subject = 'signed tokens';
  const { jwksUrl, jwksFile } = jwt;
  if (
    jwksUrl.startsWith('http:') &&
    !isLoopback({ host: new URL(jwksUrl).hostname.replace(/^\[|\]$/g, ''), port: 0 })
  ) {
    const text = `the keys come from ${jwksUrl} without TLS: whoever changes the answer can make tokens of any caller`;
    return [fail(subject, text, 'write https:// in access.jwt.jwksUrl')];
  }
  const stats = jwksFile === '' ? undefined : statOf(jwksFile);
  if (stats !== undefined && (stats.mode & OTHERS_WRITE) !== 0) {
    const text = `${jwksFile} has mode ${modeOf(stats)}: every user of this machine can make tokens of any caller`;
    return [fail(subject, text, `chmod o-w ${jwksFile}`)];
  }
  return [ok(subject, `their keys come from ${jwksUrl === '' ? jwksFile : jwksUrl}`)];
}

const PROBE = 'KatamariDoctorProbe';

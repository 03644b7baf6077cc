// Describes what is wrong with a configuration: turns zod's issues into "found X, expected Y", and checks the rules
// between several keys, which a schema cannot express.

import { formatDuration } from '../../core/mod.ts';
import { HEADER_PROTOCOLS, isWireFormat } from '../../core/thrift/encodings/mod.ts';
import { PLAIN_CONCURRENCY_MAX, problemsOfRoute, type Route } from '../mesh/mod.ts';
import { describeValue, keyText, type ConfigText } from './file.ts';
import { leafFacts, unwrap } from './schema-leaves.ts';
import { keysAt, schemaAt, type ConfigFile, type TlsEntry } from './schema.ts';
import { didYouMean } from './suggest.ts';
import { z } from 'zod';

/** One error; `configurationError` in config.ts adds file, line and key. */
export interface Problem {
  readonly path: readonly PropertyKey[];
  readonly text: string;
}

/** Turns an issue of zod into problems: one, or one for each unknown key. */
export function describeIssue(issue: z.core.$ZodIssue, values: unknown, text: ConfigText | undefined): Problem[] {
  const { path } = issue;
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({ path: [...path, key], text: `unknown key${describeKnown(key, keysAt(path))}` }));
  }
  if (issue.code === 'invalid_key') {
    const record = unwrap(schemaAt(path.slice(0, -1)) as z.ZodType) as z.ZodRecord;
    const expected = leafFacts(record.keyType as z.ZodType)?.expected ?? 'another key';
    return [{ path, text: `found the key ${describeValue(path.at(-1))}, expected ${expected}` }];
  }
  const value = valueAt(values, path);
  const expected = issue.code === 'custom' ? issue.message : describeExpected(path);
  if (value === undefined) return [{ path, text: `missing, expected ${expected}` }];
  return [{ path, text: `found ${describeFound(value, path, text)}, expected ${expected}` }];
}

/** Quotes a value as the file spells it (1.0, not 1). Masks secrets. */
function describeFound(value: unknown, path: readonly PropertyKey[], text: ConfigText | undefined): string {
  const schema = schemaAt(path);
  if (schema !== undefined && leafFacts(schema)?.kind === 'secret') return '********';
  return typeof value === 'string' ? describeValue(value) : (text?.sourceOf(path) ?? describeValue(value));
}

/** Checks the rules between keys. `values` has what the user wrote, so that no problem blames a default. */
export function checkTogether(data: ConfigFile, values: Record<string, unknown>): Problem[] {
  return [
    ...checkPorts(data, values),
    ...checkConsul(data, values),
    ...checkLink(data, values),
    ...checkTls('thrift', data.thrift.tls, 'the Thrift port', data.thrift.tls.required),
    ...checkTls('jsonRpc', data.jsonRpc.tls, 'the JSON-RPC port'),
    ...checkTls('web', data.web.tls, 'the web port'),
    ...checkTls('stats', data.stats.tls, 'the stats port'),
    ...checkAccess(data),
    ...checkSites(data),
    ...checkFaceplates(data),
    ...Object.entries(data.routes).flatMap(([service, route]) => checkRoute(service, route)),
    ...data.deployments.flatMap((_, index) => checkDeployment(data, index)),
  ];
}

function checkPorts(data: ConfigFile, values: Record<string, unknown>): Problem[] {
  const problems: Problem[] = [];
  const takenBy = new Map<number, string>();
  const isWritten = (path: readonly PropertyKey[]): boolean => valueAt(values, path) !== undefined;
  // Defaults come first, so that a clash is reported for the key that the user wrote.
  const inOrder = portsOf(data).sort((a, b) => Number(isWritten(a.path)) - Number(isWritten(b.path)));
  for (const { path, port } of inOrder) {
    const other = takenBy.get(port);
    if (other !== undefined)
      problems.push({ path, text: `found ${port}, which ${other} already uses, expected another port` });
    else if (port !== 0) takenBy.set(port, keyText(path));
  }
  return problems;
}

interface ListeningConfig {
  readonly ports: ConfigFile['ports'];
  readonly web: { readonly port: number; readonly sites: readonly unknown[] };
  readonly faceplates: readonly { readonly port: number }[];
}

/** Returns every port on which a process with all roles listens, with its key. */
export function portsOf({
  ports,
  web,
  faceplates,
}: ListeningConfig): { readonly path: readonly PropertyKey[]; readonly port: number }[] {
  return [
    ...Object.entries(ports).map(([name, port]) => ({ path: ['ports', name], port })),
    ...(web.sites.length === 0 ? [] : [{ path: ['web', 'port'], port: web.port }]),
    ...faceplates.map(({ port }, index) => ({ path: ['faceplates', index, 'port'], port })),
  ];
}

function checkSites({ web: { sites } }: ConfigFile): Problem[] {
  return sites.flatMap(({ prefix, service, files, version, stickyCookie }, index) => {
    const path = ['web', 'sites', index];
    const problems: Problem[] = [];
    if (service === undefined && files === undefined) {
      problems.push({ path, text: 'found neither service nor files, expected one of them or both' });
    }
    for (const [key, value] of Object.entries({ version, stickyCookie })) {
      if (value === undefined || service !== undefined) continue;
      problems.push({ path: [...path, key], text: 'found without service, expected only together with service' });
    }
    const same = sites.findIndex((site) => site.prefix === prefix);
    if (same !== index) {
      const text = `found ${describeValue(prefix)}, which ${keyText(['web', 'sites', same])} already uses, expected another prefix`;
      problems.push({ path: [...path, 'prefix'], text });
    }
    return problems;
  });
}

function checkFaceplates({ faceplates }: ConfigFile): Problem[] {
  return faceplates.flatMap(({ name }, index) => {
    const path = ['faceplates', index, 'name'];
    if (OWN_NAMES.includes(name)) {
      return [{ path, text: `found "${name}", a built-in name of Katamari, expected another name` }];
    }
    const same = faceplates.findIndex((one) => one.name === name);
    if (same === index) return [];
    const other = keyText(['faceplates', same]);
    return [{ path, text: `found "${name}", which ${other} already uses, expected another name` }];
  });
}

/** Names of built-in listeners, which status, metrics and Consul already use. */
const OWN_NAMES: readonly string[] = [
  'thrift',
  'json-rpc',
  'web',
  'stats',
  'link',
  'manager',
  'master',
  'doctor',
  'inside',
];

function checkConsul({ consul }: ConfigFile, values: Record<string, unknown>): Problem[] {
  if (consul.token !== '' && valueAt(values, ['consul', 'tokenFile']) !== undefined)
    return [{ path: ['consul', 'tokenFile'], text: 'found together with consul.token, expected only one of them' }];
  if (consul.embedded !== true || consul.address === undefined) return [];
  return [
    {
      path: ['consul', 'address'],
      text: `found ${describeValue(consul.address)} together with embedded: true, expected only one of them`,
    },
  ];
}

function checkLink({ link, consul }: ConfigFile, values: Record<string, unknown>): Problem[] {
  const problems: Problem[] = [];
  const hasFile = valueAt(values, ['link', 'secretFile']) !== undefined;
  if (link.secret !== undefined && hasFile) {
    problems.push({ path: ['link', 'secretFile'], text: 'found together with link.secret, expected only one of them' });
  }
  const files = ['caFile', 'certFile', 'keyFile'] as const;
  const missing = files.filter((name) => link[name] === undefined);
  for (const name of missing.length === files.length ? [] : missing) {
    const text = 'missing, expected a file: link certificates need caFile, certFile and keyFile';
    problems.push({ path: ['link', name], text });
  }
  if (missing.length === 0 && consul.embedded === false && link.secret === undefined && !hasFile) {
    const text =
      'missing, expected a file with the same secret for all processes of the mesh: beside the certificates, a secret signs the orders in Consul';
    problems.push({ path: ['link', 'secretFile'], text });
  }
  return problems;
}

function checkTls(port: string, tls: TlsEntry, name: string, isRequired = false): Problem[] {
  const problems: Problem[] = [];
  const isUsed = tls.certFile !== undefined || tls.keyFile !== undefined || tls.caFile !== undefined || isRequired;
  for (const key of ['certFile', 'keyFile'] as const) {
    if (!isUsed || tls[key] !== undefined) continue;
    const text = `missing, expected a file: TLS on ${name} needs certFile and keyFile`;
    problems.push({ path: [port, 'tls', key], text });
  }
  return problems;
}

function checkAccess({ access: { tokens, jwt } }: ConfigFile): Problem[] {
  const problems = tokens.flatMap(({ sha256 }, index): Problem[] => {
    const same = tokens.findIndex((token) => token.sha256.toLowerCase() === sha256.toLowerCase());
    if (same === index) return [];
    const text = `found the digest of ${keyText(['access', 'tokens', same])}, expected another token for each caller`;
    return [{ path: ['access', 'tokens', index, 'sha256'], text }];
  });
  const path = ['access', 'jwt'];
  const { issuer, audience, jwksFile, jwksUrl } = jwt;
  const isUsed = [issuer, audience, jwksFile, jwksUrl].some((value) => value !== undefined);
  if (!isUsed) return problems;
  // Without issuer and audience, a token that somebody else got for another purpose would do.
  for (const key of ['issuer', 'audience'] as const) {
    if (jwt[key] !== undefined) continue;
    problems.push({ path: [...path, key], text: 'missing, expected text: signed tokens need issuer and audience' });
  }
  if (jwksFile === undefined && jwksUrl === undefined) {
    problems.push({
      path: [...path, 'jwksFile'],
      text: 'missing, expected jwksFile or jwksUrl with the keys of the issuer',
    });
  }
  if (jwksFile !== undefined && jwksUrl !== undefined) {
    problems.push({ path: [...path, 'jwksUrl'], text: 'found together with jwksFile, expected only one of them' });
  }
  return problems;
}

function checkRoute(service: string, route: Route): Problem[] {
  return problemsOfRoute(route).map(({ path, text }) => ({ path: ['routes', service, ...path], text }));
}

function checkDeployment({ deployments }: ConfigFile, index: number): Problem[] {
  const entry = deployments[index] as ConfigFile['deployments'][number];
  const path = ['deployments', index];
  const problems: Problem[] = [];
  if (entry.command === undefined && entry.script === undefined) {
    problems.push({
      path,
      text: 'found neither command nor script, expected command (a list) or script (a JavaScript or TypeScript file)',
    });
  }
  if (entry.command !== undefined && entry.script !== undefined) {
    problems.push({ path: [...path, 'script'], text: 'found command and script, expected only one of the two' });
  }
  if (entry.kit === 'none' && entry.idl === undefined) {
    problems.push({
      path: [...path, 'idl'],
      text: 'missing, expected a .thrift file, because a server with kit: none cannot describe itself',
    });
  }
  if (entry.idl === undefined && entry.includes.length > 0) {
    problems.push({
      path: [...path, 'includes'],
      text: 'found folders without idl, expected only together with it: they have the files that the IDL includes',
    });
  }
  problems.push(...checkPlain(entry, path));
  const { backoffFirst, backoffMax } = entry.restart;
  if (backoffFirst > backoffMax) {
    problems.push({
      path: [...path, 'restart', 'backoffFirst'],
      text: `found ${formatDuration(backoffFirst)}, expected at most backoffMax, which is ${formatDuration(backoffMax)}`,
    });
  }
  const same = deployments.findIndex(({ service, version }) => service === entry.service && version === entry.version);
  if (same !== index) {
    problems.push({
      path: [...path, 'version'],
      text: `found ${entry.service}@${entry.version}, which ${keyText(['deployments', same])} already deploys; for more copies raise the count there`,
    });
  }
  return problems;
}

/** Checks the keys that only apply to plain Thrift servers. */
function checkPlain(entry: ConfigFile['deployments'][number], path: readonly PropertyKey[]): Problem[] {
  const { kit, transport = 'framed', protocol = 'binary', concurrency = 1 } = entry;
  if (kit === 'sdk') {
    return (['transport', 'protocol', 'healthCheck'] as const)
      .filter((key) => entry[key] !== undefined)
      .map((key) => ({
        path: [...path, key],
        text: `found ${describeValue(entry[key])} without kit: none, expected only together with it: a chassis with the SDK does not need this key`,
      }));
  }
  const problems: Problem[] = [];
  if (!isWireFormat({ transport, protocol })) {
    const text = `found ${describeValue(protocol)} with transport: ${transport}, expected ${HEADER_PROTOCOLS.map(describeValue).join(' or ')}`;
    problems.push({ path: [...path, 'protocol'], text });
  }
  if (concurrency > PLAIN_CONCURRENCY_MAX) {
    const text = `found ${concurrency}, expected at most ${PLAIN_CONCURRENCY_MAX} with kit: none, which opens one connection for each`;
    problems.push({ path: [...path, 'concurrency'], text });
  }
  return problems;
}

/** Returns what the schema expects at a path. */
function describeExpected(path: readonly PropertyKey[]): string {
  const schema = schemaAt(path);
  if (schema === undefined) return 'nothing here';
  const facts = leafFacts(schema);
  if (facts !== undefined) return facts.expected;
  const keys = keysAt(path);
  if (unwrap(schema) instanceof z.ZodArray) return 'a list';
  return keys.length === 0 ? 'a map' : `a map with ${keys.slice(0, 4).join(', ')}${keys.length > 4 ? ' ...' : ''}`;
}

function describeKnown(key: string, known: readonly string[]): string {
  const guess = didYouMean(key, known);
  if (guess !== '') return guess;
  return known.length > 0 && known.length <= 12 ? `, expected one of ${known.join(', ')}` : '';
}

function valueAt(values: unknown, path: readonly PropertyKey[]): unknown {
  let value = values;
  for (const step of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Record<PropertyKey, unknown>)[step];
  }
  return value;
}

// Merges KATAMARI_* variables and flags into the values of the file, before the check. Keeps the origin of every
// value for messages and for `katamari config`.

import { ExitError, EXIT } from './exit-error.ts';
import { describeValue, keyText, type ConfigText } from './file.ts';
import { leafFacts, unwrap, type LeafFacts } from './schema-leaves.ts';
import { configSchema } from './schema.ts';
import { didYouMean } from './suggest.ts';
import { z } from 'zod';

/**
 * A setting that a variable or a flag can set: every leaf outside `deployments`, `routes`, `web.sites`,
 * `access.tokens` and `faceplates`.
 */
export interface Setting {
  /** `ports.jsonRpc` */
  readonly key: string;
  readonly path: readonly string[];
  /** `KATAMARI_PORTS_JSON_RPC`: derived from the key, except for the keys in VARIABLE_EXCEPTIONS. */
  readonly variable: string;
  /** Variable of Consul's own tools for this setting. Read only when the mesh does not embed its Consul. */
  readonly consulVariable: string | undefined;
  readonly facts: LeafFacts;
}

/** A value given on the command line: `--thrift-port 0`, `--set limits.frame=32MiB`. */
export interface FlagValue {
  /** The flag as the user wrote it, for messages. */
  readonly flag: string;
  readonly key: string;
  readonly value: string;
}

/** The unchecked values of all sources in one tree, and the origin of each value. */
export interface Layered {
  readonly values: Record<string, unknown>;
  /** By key: `env KATAMARI_HOST` or `flag --host`. Keys from the file are not in the map. */
  readonly origins: ReadonlyMap<string, string>;
  /** Inputs that are valid but probably a mistake. */
  readonly warnings: readonly string[];
}

/** Returns all settings that a variable or a flag can set, in the order of the schema. */
export function listSettings(): readonly Setting[] {
  return leavesOf(configSchema, []).map(({ path, facts }) => {
    const key = path.join('.');
    return {
      key,
      path,
      facts,
      variable: VARIABLE_EXCEPTIONS[key] ?? `KATAMARI_${path.map(upperSnake).join('_')}`,
      consulVariable: CONSUL_VARIABLES[key],
    };
  });
}

/** Merges the sources: variables override the file, and flags override both. Drops top-level `x-` keys. */
export function layer(file: ConfigText | undefined, env: NodeJS.ProcessEnv, flags: readonly FlagValue[]): Layered {
  const values = structuredClone(file?.values ?? {}) as Record<string, unknown>;
  for (const key of Object.keys(values)) if (key.startsWith('x-')) delete values[key];
  const origins = new Map<string, string>();
  const settings = listSettings();
  for (const setting of settings) {
    const text = env[setting.variable];
    if (text !== undefined && text !== '') put(values, origins, setting, text, `env ${setting.variable}`);
  }
  for (const { flag, key, value } of flags) {
    const setting = settings.find((one) => one.key === key);
    if (setting === undefined) throw new ExitError(EXIT.usage, `${flag}: ${unknownKey(key, settings)}`);
    put(values, origins, setting, value, `flag ${flag}`);
  }
  const warnings = [...readConsulVariables(values, origins, settings, env), ...unknownVariables(settings, env)];
  return { values, origins, warnings };
}

/**
 * Reads CONSUL_HTTP_ADDR and similar variables where no setting is given, and only if the mesh uses a real Consul. A
 * mesh on a laptop must not write to the company's Consul because its address is in the environment.
 */
function readConsulVariables(
  values: Record<string, unknown>,
  origins: Map<string, string>,
  settings: readonly Setting[],
  env: NodeJS.ProcessEnv,
): string[] {
  const consul = (values['consul'] ?? {}) as Record<string, unknown>;
  const isEmbedded = consul['embedded'] ?? consul['address'] === undefined;
  if (isEmbedded === true) {
    return env['CONSUL_HTTP_ADDR']
      ? ['CONSUL_HTTP_ADDR is set, but this mesh embeds its Consul; to use that Consul, set consul.embedded: false']
      : [];
  }
  for (const setting of settings) {
    const text = setting.consulVariable === undefined ? undefined : env[setting.consulVariable];
    const last = setting.path.at(-1) as string;
    if (!text || consul[last] !== undefined) continue;
    const withScheme =
      last === 'address' && env['CONSUL_HTTP_SSL'] === 'true' && !text.includes('://') ? `https://${text}` : text;
    put(values, origins, setting, withScheme, `env ${setting.consulVariable}`);
  }
  return [];
}

/** Warns of KATAMARI_* variables that match no setting. Otherwise a misspelled one would be ignored silently. */
function unknownVariables(settings: readonly Setting[], env: NodeJS.ProcessEnv): string[] {
  const known = settings.map(({ variable }) => variable);
  return Object.keys(env)
    .filter((name) => name.startsWith('KATAMARI_') && !known.includes(name) && !OTHER_VARIABLES.includes(name))
    .map((name) => `${name} is not a setting${didYouMean(name, [...known, ...OTHER_VARIABLES])}`);
}

function unknownKey(key: string, settings: readonly Setting[]): string {
  const known = settings.map((setting) => setting.key);
  return `${describeValue(key)} is not a setting that a flag can set${didYouMean(key, known) || '; `katamari config` lists them'}`;
}

function put(
  values: Record<string, unknown>,
  origins: Map<string, string>,
  setting: Setting,
  text: string,
  origin: string,
): void {
  let parent = values;
  for (const step of setting.path.slice(0, -1)) {
    const next = parent[step];
    // The file has a value of the wrong type here. The check reports it with its line.
    if (next !== undefined && next !== null && (typeof next !== 'object' || Array.isArray(next))) return;
    parent = (parent[step] = (next as Record<string, unknown> | null | undefined) ?? {}) as Record<string, unknown>;
  }
  parent[setting.path.at(-1) as string] = readText(text, setting.facts);
  origins.set(keyText(setting.path), origin);
}

/** Converts the text of a variable or flag to the type of its setting. Text that does not convert fails the check. */
function readText(text: string, { kind }: LeafFacts): unknown {
  if (kind === 'number' && /^-?\d+(\.\d+)?$/.test(text)) return Number(text);
  if (kind === 'boolean' && /^(true|false)$/.test(text)) return text === 'true';
  if (kind === 'list') return text.split(',').map((part) => part.trim());
  return text;
}

function leavesOf(schema: z.ZodType, path: readonly string[]): { path: readonly string[]; facts: LeafFacts }[] {
  const inner = unwrap(schema);
  if (inner instanceof z.ZodObject) {
    return Object.entries(inner.shape).flatMap(([key, below]) => leavesOf(below as z.ZodType, [...path, key]));
  }
  const facts = leafFacts(schema);
  return facts === undefined ? [] : [{ path, facts }];
}

function upperSnake(word: string): string {
  return word.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
}

/**
 * Variables that do not follow from their key. KATAMARI_MESH is taken: a chassis finds its mesh with it. The admin
 * token has the same variable on servers and clients.
 */
const VARIABLE_EXCEPTIONS: Readonly<Record<string, string>> = {
  mesh: 'KATAMARI_MESH_NAME',
  'admin.token': 'KATAMARI_TOKEN',
  'admin.tokenFile': 'KATAMARI_TOKEN_FILE',
};

/** KATAMARI_* variables that are not settings: options of the command, and the environment of a chassis. */
const OTHER_VARIABLES: readonly string[] = [
  'KATAMARI_CONFIG',
  'KATAMARI_URL',
  'KATAMARI_MESH',
  'KATAMARI_LISTEN',
  'KATAMARI_RESOURCE',
  'KATAMARI_LIFELINE',
  'KATAMARI_CONCURRENCY',
  'KATAMARI_FAMILY',
];

const CONSUL_VARIABLES: Readonly<Record<string, string>> = {
  'consul.address': 'CONSUL_HTTP_ADDR',
  'consul.token': 'CONSUL_HTTP_TOKEN',
  'consul.caFile': 'CONSUL_CACERT',
  'consul.certFile': 'CONSUL_CLIENT_CERT',
  'consul.keyFile': 'CONSUL_CLIENT_KEY',
};

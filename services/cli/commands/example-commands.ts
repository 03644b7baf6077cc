// Example commands for `katamari up`: one per faceplate, built from the IDL of a pool that is up. The IDL comes from
// the mesh, so the examples work for any service.
import { encodeParams } from '../../../core/idl/mod.ts';
import { parseAddress } from '../../../core/mod.ts';
import type { Interface, Method } from '../../../core/thrift/mod.ts';
import { type Config, CONFIG_FILE_NAMES } from '../../config/mod.ts';
import { AdminClient } from '../kit/admin-client.ts';
import type { MeshHandle, CliContext } from '../kit/context.ts';
import { exampleParams, exampleMethod } from '../kit/method-help.ts';
import { shellWord } from './call.ts';
import { existsSync } from 'node:fs';
import path from 'node:path';

export interface ExampleCommand {
  readonly what: string;
  readonly line: string;
}

/**
 * Returns the example commands, first those for text indices. `file` is the path of the configuration, which admin
 * commands need to find the token.
 */
export async function exampleCommands(
  context: CliContext,
  mesh: MeshHandle,
  config: Config,
  file: string,
  indices: readonly string[] = [],
): Promise<readonly ExampleCommand[]> {
  const program = howToRun(context);
  // Without a file there is nothing to name.
  const isUsual = file === '' || CONFIG_FILE_NAMES.some((name) => name === file);
  const status = {
    what: 'Show pools and resources in this terminal',
    line: [...program, 'status', '-v', ...meshWords(mesh), ...(isUsual ? [] : ['--config', shellWord(file)])].join(' '),
  };
  const stats = { what: 'Live pools, queues and rates: open in a browser', line: `${httpUrl(mesh.addresses.stats)}/` };
  const searches = indices.slice(0, 1).flatMap((name) => searchLines(program, mesh, name));
  const web = config.web.sites.slice(0, 1).map(({ prefix }) => ({
    what: 'Web: open in a browser',
    line: `${httpUrl(mesh.addresses.web)}${prefix === '/' ? '' : prefix}/`,
  }));
  for (const service of new Set(config.deployments.map((deployment) => deployment.service))) {
    const iface = await interfaceOf(mesh, service);
    const method = iface === undefined ? undefined : exampleMethod(iface);
    if (method !== undefined)
      return [...searches, ...callLines(program, mesh, config, service, method), ...web, status, stats];
  }
  return [...searches, ...web, status, stats];
}

function searchLines(program: readonly string[], mesh: MeshHandle, index: string): ExampleCommand[] {
  const body = { jsonrpc: '2.0', id: 1, method: `${index}.search`, params: { query: 'some words', fields: ['*'] } };
  return [
    {
      what: `Search ${index}`,
      line: [...program, 'index', 'search', index, "'some words'", ...meshWords(mesh)].join(' '),
    },
    {
      what: 'The same with JSON-RPC',
      line: `curl -s ${httpUrl(mesh.addresses.jsonRpc)}/rpc -H 'content-type: application/json' -d ${shellWord(JSON.stringify(body))}`,
    },
  ];
}

/** Returns an address with a scheme, given as a URL or as `host:port`. */
export function httpUrl(address: string): string {
  return (address.includes('://') ? address : `http://${address}`).replace(/\/$/, '');
}

/** Returns the `--mesh` option, or nothing if the mesh listens at the default address. */
function meshWords({ addresses }: MeshHandle): string[] {
  const url = httpUrl(addresses.jsonRpc);
  return url === DEFAULT_URL ? [] : ['--mesh', url];
}

function callLines(
  program: readonly string[],
  mesh: MeshHandle,
  config: Config,
  service: string,
  method: Method,
): ExampleCommand[] {
  const jsonRpc = httpUrl(mesh.addresses.jsonRpc);
  const params = exampleParams(method);
  const body = { jsonrpc: '2.0', id: 1, method: `${service}.${method.name}`, params };
  const pairs = Object.entries(params).map(([name, value]) => shellWord(`${name}=${plainText(value)}`));
  const { host, port } = parseAddress(mesh.addresses.thrift) ?? { host: config.host, port: config.ports.thrift };
  return [
    {
      what: 'JSON-RPC',
      line: `curl -s ${jsonRpc}/rpc -H 'content-type: application/json' -d ${shellWord(JSON.stringify(body))}`,
    },
    {
      what: 'The same call with the command line',
      line: [...program, 'call', ...meshWords(mesh), `${service}.${method.name}`, ...pairs].join(' '),
    },
    {
      what: 'Thrift: the same call as raw bytes, as any Thrift client sends it; prints the reply in hex',
      line: `node -e ${shellWord(
        `require("net").connect(${port},"${host}").once("data",d=>{console.log(d.toString("hex"));process.exit()})` +
          `.write(Buffer.from("${thriftMessage(service, method, params).toString('hex')}","hex"))`,
      )}`,
    },
  ];
}

/**
 * Returns `katamari` if it is on PATH, else the shortest form of the current command line that works from this
 * directory.
 */
function howToRun({ program, env, cwd }: CliContext): readonly string[] {
  // npm adds its own folders to PATH. The shell of the user does not have them.
  const folders = (env['PATH'] ?? '').split(path.delimiter).filter((folder) => !folder.includes('node_modules'));
  if (folders.some((folder) => existsSync(path.join(folder, 'katamari')))) return ['katamari'];
  const short = (word: string): string => {
    const name = path.basename(word);
    if (folders.includes(path.dirname(word))) return name;
    const below = path.relative(cwd, word);
    return path.isAbsolute(word) && !below.startsWith('..') ? below : word;
  };
  return program.map((word) => shellWord(short(word)));
}

/** Leaves out the quotes if `katamari call` would read the value as text anyway. */
function plainText(value: unknown): string {
  return typeof value === 'string' && /^[A-Za-z]\w*$/.test(value) && !/^(true|false|null)$/.test(value)
    ? value
    : JSON.stringify(value);
}

/** Encodes a call as a framed Thrift message: strict binary protocol, multiplexed name. */
function thriftMessage(service: string, method: Method, params: Record<string, unknown>): Buffer {
  const name = Buffer.from(`${service}:${method.name}`);
  const head = Buffer.alloc(12 + name.length);
  head.writeUInt32BE(0x80010001, 0);
  head.writeUInt32BE(name.length, 4);
  name.copy(head, 8);
  head.writeUInt32BE(1, 8 + name.length);
  const message = Buffer.concat([head, encodeParams(method, params)]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(message.length);
  return Buffer.concat([length, message]);
}

/** Loads the interface of a service from the mesh. Without an IDL, there are fewer examples. */
async function interfaceOf(mesh: MeshHandle, service: string): Promise<Interface | undefined> {
  try {
    return await new AdminClient({
      url: httpUrl(mesh.addresses.jsonRpc),
      from: 'up',
      bearer: '',
      findToken: () => ({ token: '', from: '' }),
    }).interfaceOf(service, '');
  } catch {
    return undefined;
  }
}

const DEFAULT_URL = 'http://127.0.0.1:9080';

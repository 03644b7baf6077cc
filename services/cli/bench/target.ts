// Finds what a bench needs to know about a mesh. The interface of the method in each version comes from the JSON-RPC
// port, as for any client. The Thrift port and the URLs of the metrics come from the status (with the admin token),
// the local configuration, or the command line.

import { type Address, dialAddress, isUnspecified, parseAddress, urlOf } from '../../../core/mod.ts';
import type { MeshStatus } from '../../../core/rpc/mod.ts';
import type { Interface, Method } from '../../../core/thrift/mod.ts';
import { ExitError, EXIT, type Config, didYouMean } from '../../config/mod.ts';
import { listMethods } from '../commands/call.ts';
import { interfaceIn, type AdminClient, type ServiceIdl } from '../kit/admin-client.ts';
import { loadFor, type CliContext } from '../kit/context.ts';
import { describeMethod } from '../kit/method-help.ts';
import { printable } from '../kit/terminal.ts';
import type { BenchOptions, BenchPlan } from './plan.ts';

export interface BenchTarget {
  /** Name of the mesh; '' if unknown. */
  readonly mesh: string;
  readonly thrift: Address;
  /** The method in each version of the plan. */
  readonly methods: readonly Method[];
  /** URLs of the managers' metrics; empty if unknown. */
  readonly statsUrls: readonly string[];
  /** Global timeout in ms; undefined if unknown. */
  readonly timeoutMs: number | undefined;
}

export async function findTarget(
  context: CliContext,
  client: AdminClient,
  plan: BenchPlan,
  options: BenchOptions,
): Promise<BenchTarget> {
  const methods: Method[] = [];
  for (const version of plan.versions) methods.push(await methodOf(client, plan, version));
  const status = await statusOf(client);
  const config = configOf(context, client, options);
  return {
    mesh: status?.mesh ?? '',
    thrift: findThrift(client, options, status, config),
    methods,
    statsUrls: statsUrlsOf(status, config),
    timeoutMs: status?.timeoutMs,
  };
}

async function methodOf(client: AdminClient, { service, method: name }: BenchPlan, version: string): Promise<Method> {
  const found = await client.findIdl(service, version);
  if ('why' in found) throw new ExitError(EXIT.failed, printable(found.why));
  const known = interfaceOf(found);
  if (name === '') {
    throw new ExitError(
      EXIT.usage,
      `"${service}" has no method name, expected ${service}.method\n${listMethods(known)}`,
    );
  }
  const method = known.methods.get(name);
  if (method === undefined) {
    const hint = didYouMean(name, known.methods.keys());
    throw new ExitError(
      EXIT.failed,
      `${service}@${printable(found.version)} has no method "${name}"${hint}\n${listMethods(known)}`,
    );
  }
  if (!method.oneway) return method;
  throw new ExitError(
    EXIT.failed,
    `${service}.${name} is oneway: it gets no reply, so there is no latency to measure\n${describeMethod(method)}`,
  );
}

function interfaceOf(idl: ServiceIdl): Interface {
  const known = interfaceIn(idl);
  if (known !== undefined) return known;
  throw new ExitError(EXIT.failed, `The mesh sent an IDL for ${printable(idl.service)} that does not declare it`);
}

/** Returns undefined without a valid admin token; the caller then tries other sources. */
async function statusOf(client: AdminClient): Promise<MeshStatus | undefined> {
  try {
    return await client.status();
  } catch (error) {
    if (error instanceof ExitError && error.exitCode === EXIT.failed) return undefined;
    throw error;
  }
}

/** Returns the local configuration if it belongs to this mesh. */
function configOf(context: CliContext, client: AdminClient, options: BenchOptions): Config | undefined {
  try {
    const { config } = loadFor(context, { config: options.config, flags: [] });
    return urlOf(dialAddress({ host: config.host, port: config.ports.jsonRpc })) === client.url ? config : undefined;
  } catch {
    return undefined;
  }
}

function findThrift(
  client: AdminClient,
  options: BenchOptions,
  status: MeshStatus | undefined,
  config: Config | undefined,
): Address {
  if (options.thrift !== undefined) {
    const named = addressOf(options.thrift);
    if (named !== undefined) return named;
    throw new ExitError(
      EXIT.usage,
      `--thrift: found ${JSON.stringify(options.thrift)}, expected HOST:PORT such as 127.0.0.1:9090`,
    );
  }
  const listener = addressOf(status?.listeners.find(({ name }) => name === 'thrift')?.address ?? '');
  // If the port listens on all addresses, use the host at which the JSON-RPC port was reached.
  if (listener !== undefined) return { host: reachable(listener.host, client.url), port: listener.port };
  if (config !== undefined && config.ports.thrift > 0)
    return dialAddress({ host: config.host, port: config.ports.thrift });
  throw new ExitError(
    EXIT.usage,
    `The mesh at ${client.url} reports its Thrift port only to callers with its admin token: set the port with --thrift HOST:PORT, or the token with --token, KATAMARI_TOKEN or --config FILE`,
  );
}

function statsUrlsOf(status: MeshStatus | undefined, config: Config | undefined): readonly string[] {
  const managers = (status?.processes ?? []).filter(({ role, stats }) => role === 'manager' && stats !== '');
  if (managers.length > 0) return managers.map(({ stats }) => stats);
  return config === undefined || config.ports.stats === 0
    ? []
    : [urlOf(dialAddress({ host: config.host, port: config.ports.stats }))];
}

function addressOf(text: string): Address | undefined {
  const address = parseAddress(text);
  return address?.port === 0 ? undefined : address;
}

function reachable(host: string, url: string): string {
  return isUnspecified(host) ? new URL(url).hostname.replace(/^\[|\]$/g, '') : host;
}

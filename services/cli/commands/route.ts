// `katamari route` shows or sets which version of a service gets which of its calls: by weights on the command line, or
// by a file with rules. `--reset` restores the route of the configuration.

import { type MeshStatus, mergePools, type MergedPool } from '../../../core/rpc/mod.ts';
import { ExitError, EXIT, readRouteFile, type ExitCode } from '../../config/mod.ts';
import { wholeRoute, type Route, type RouteExplanation, type RouteMirror, type RouteRule } from '../../mesh/mod.ts';
import type { AdminClient, ServiceRoute } from '../kit/admin-client.ts';
import { IndexClient } from '../kit/index-client.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { unknownTarget } from '../kit/target-name.ts';
import { formatTable, printable, type Column, type Terminal } from '../kit/terminal.ts';
import { copyLines, readCopies, type CopyOptions } from './route-copies.ts';
import { formatHistory } from './route-history.ts';
import { aliveColor } from './status.ts';
import { listOf, readText } from '../kit/words.ts';
import path from 'node:path';
import { stringify } from 'yaml';

export interface RouteOptions extends ClientOptions, CopyOptions {
  readonly reset?: boolean | undefined;
  /** Path of the argument that is the sticky key; '' for none. */
  readonly sticky?: string | undefined;
  /** List the changes of the route. */
  readonly history?: boolean | undefined;
  /** Undo the last change, or the one with this number and all since. */
  readonly undo?: string | true | undefined;
  /** Refuse the change if the route is not that of the change with this number any more. */
  readonly expect?: string | undefined;
  /** File with the whole route, as in katamari.yaml; `-` for standard input. */
  readonly file?: string | undefined;
  /** Copy calls to a version: `2.0.0=10` for 10 % of them; `off` for none. */
  readonly mirror?: string | undefined;
  /** Print the route as such a file. */
  readonly yaml?: boolean | undefined;
  /** Say what the route does with the call that the options below describe. */
  readonly explain?: boolean | undefined;
  readonly method?: string | undefined;
  readonly version?: string | undefined;
  readonly caller?: string | undefined;
  readonly roles?: string | undefined;
  readonly header?: readonly string[] | undefined;
  readonly tags?: string | undefined;
  readonly key?: string | undefined;
  /** Also with versions that do not exist yet. */
  readonly force?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/** One version of the service, deployed or only named in the route. */
interface RouteLine {
  readonly version: string;
  /** Weight in the route; undefined without a route, when the resources of a version determine its share. */
  readonly weight: number | undefined;
  readonly share: number;
  readonly alive: number;
  readonly wanted: number;
  readonly ratePerS: number;
}

export async function runRoute(
  context: CliContext,
  service: string,
  shares: readonly string[],
  options: RouteOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  if (options.explain === true) return await explain(context, service, shares, options);
  const client = connect(context, options);
  const given = await givenRoute(context, client, service, shares, options);
  if (options.history === true) return await showHistory(terminal, client, service, options);
  const isForced = options.force === true;
  if (given === 'undo') await client.undoRoute(service, changeOf(options.undo), isForced);
  else if (changesOf(options).length > 0) {
    const now = await routeNow(client, service);
    const mirror = options.mirror === undefined ? {} : { mirror: readMirror(options.mirror) };
    const change = { ...mirror, ...readCopies(options, now), ...expected(options) };
    await client.setRoute(service, { ...(given ?? weightsOf(now)), ...change }, isForced);
  } else if (given !== undefined) await client.setRoute(service, { ...given, ...expected(options) }, isForced);
  const [status, routes] = [await client.status(), await client.routes()];
  const route = routes.find(({ serviceName }) => serviceName === service);
  if (options.yaml === true) {
    const {
      serviceName: _,
      index: _index,
      by: _by,
      atMs: _atMs,
      splitIndex: _splitIndex,
      ...document
    } = route ?? { weights: {} };
    terminal.write(stringify({ routes: { [service]: document } }));
    return EXIT.done;
  }
  const ofIndex = await indexLines(client, status, service, route);
  const lines = ofIndex.length > 0 ? ofIndex : linesOf(status, service, route);
  if (options.json === true) {
    const { serviceName: _, ...document } = route ?? { weights: {} };
    terminal.write(`${JSON.stringify({ service, ...document, versions: lines })}\n`);
    return EXIT.done;
  }
  if (lines.length === 0) {
    const names = [...status.pools.map((pool) => pool.service), ...routes.map(({ serviceName }) => serviceName)];
    throw unknownTarget(service, names);
  }
  terminal.write(`${formatRoute(terminal, service, route, lines).join('\n')}\n`);
  return EXIT.done;
}

async function showHistory(
  terminal: Terminal,
  client: AdminClient,
  service: string,
  { json }: RouteOptions,
): Promise<ExitCode> {
  const changes = await client.routeHistory(service);
  if (json === true) terminal.write(changes.map((change) => `${JSON.stringify(change)}\n`).join(''));
  else terminal.write(`${formatHistory(terminal, service, changes).join('\n')}\n`);
  return EXIT.done;
}

async function routeNow(client: AdminClient, service: string): Promise<Route> {
  return (await client.routes()).find(({ serviceName }) => serviceName === service) ?? { weights: {} };
}

/** The weights that a change of something else keeps. It is refused if the route changes meanwhile. */
function weightsOf({ weights, index = 0 }: Route): Route {
  return { weights, index };
}

/** The options that change a part of the route, beside or without shares. */
function changesOf({ mirror, hedge, majority }: RouteOptions): string[] {
  return Object.entries({ mirror, hedge, majority }).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name}`],
  );
}

/** The number of a change; 0 for the last one. */
function changeOf(text: string | true | undefined): number {
  if (text === undefined || text === true) return 0;
  if (/^[1-9]\d{0,9}$/.test(text)) return Number(text);
  throw new ExitError(
    EXIT.usage,
    `Found ${JSON.stringify(text)}, expected the number of a change, as --history lists it`,
  );
}

/** What makes setRoute refuse a change of another route. */
function expected({ expect }: RouteOptions): Pick<Route, 'index'> {
  return expect === undefined ? {} : { index: expect === '0' ? 0 : changeOf(expect) };
}

/** Prints which version a call would get, and why. The exit code is 1 if it would get none. */
async function explain(
  context: CliContext,
  service: string,
  shares: readonly string[],
  options: RouteOptions,
): Promise<ExitCode> {
  if (shares.length > 0) throw new ExitError(EXIT.usage, 'Found both shares and --explain, expected one of them');
  const { terminal } = context;
  const { method = '', version = '', caller = '', key = '' } = options;
  const headers = Object.fromEntries((options.header ?? []).map(readHeader));
  const lists = { roles: listOf(options.roles), tags: listOf(options.tags) };
  const client = connect(context, options);
  const found = await client.explainRoute({ serviceName: service, method, version, caller, key, headers, ...lists });
  if (options.json === true) terminal.write(`${JSON.stringify({ service, ...found })}\n`);
  else {
    const steps = found.steps.length === 0 ? [] : [...formatTable(terminal, STEP_COLUMNS, found.steps), ''];
    const what = found.version === '' ? 'This call' : found.version;
    terminal.write(`${[...steps, printable(`${what}: ${found.why}.`)].join('\n')}\n`);
  }
  return found.isServed ? EXIT.done : EXIT.failed;
}

/** Parses `x-beta=yes`. */
function readHeader(text: string): readonly [string, string] {
  const [, name, value] = /^([^=]+)=(.*)$/.exec(text) ?? [];
  if (name === undefined || value === undefined)
    throw new ExitError(EXIT.usage, `--header: found ${JSON.stringify(text)}, expected name=value`);
  return [name.toLowerCase(), value];
}

/** What to do: the route to set, or to undo a change; undefined to show the present one. */
async function givenRoute(
  context: CliContext,
  client: AdminClient,
  service: string,
  shares: readonly string[],
  options: RouteOptions,
): Promise<Route | 'undo' | undefined> {
  const { reset, file, undo, history, sticky } = options;
  const given = [
    shares.length > 0 ? ['shares'] : sticky === undefined ? [] : ['--sticky'],
    reset === true ? ['--reset'] : [],
    file === undefined ? [] : ['--file'],
    undo === undefined ? [] : ['--undo'],
    history === true ? ['--history'] : [],
  ];
  if (shares.length === 0) given.push(changesOf(options).slice(0, 1));
  const [one, other] = given.flat();
  if (other !== undefined) throw new ExitError(EXIT.usage, `Found both ${one} and ${other}, expected one of them`);
  if (shares.length > 0) return { weights: readShares(shares), sticky };
  if (sticky !== undefined) {
    return { ...weightsOf(await routeNow(client, service)), sticky };
  }
  if (reset === true) return { weights: {} };
  if (undo !== undefined) return 'undo';
  if (file === undefined) return undefined;
  const text = file === '-' ? await context.readInput() : readText(path.resolve(context.cwd, file), file);
  // What the file leaves out goes.
  return wholeRoute(readRouteFile(text, file, service));
}

/** The versions of an index. Its processes are the managers that serve its shards. */
async function indexLines(
  client: AdminClient,
  { pools }: MeshStatus,
  service: string,
  route: ServiceRoute | undefined,
): Promise<RouteLine[]> {
  if (pools.some((pool) => pool.service === service)) return [];
  const indices = (await new IndexClient(client).known(true)).filter(({ name }) => name === service);
  const weights = route?.weights ?? {};
  return indices.map(({ version, share, shardList }) => {
    const holders = shardList.flatMap(({ replicas }) => replicas);
    const wanted = new Set(holders.map(({ manager }) => manager)).size;
    const alive = new Set(holders.filter(({ state }) => state === 'SERVING').map(({ manager }) => manager)).size;
    const weight = Object.keys(weights).length > 0 ? (weights[version] ?? 0) : undefined;
    return { version, weight, share, alive, wanted, ratePerS: 0 };
  });
}

function linesOf({ pools }: MeshStatus, service: string, route: ServiceRoute | undefined): RouteLine[] {
  const weights = route?.weights ?? {};
  const hasWeights = Object.keys(weights).length > 0;
  const own = mergePools(pools).filter((pool) => pool.service === service);
  const versions = [...new Set([...own.map(({ version }) => version), ...Object.keys(weights)])].sort();
  return versions.map((version) => {
    const ofVersion = own.filter((pool) => pool.version === version);
    const sum = (figure: (pool: MergedPool) => number): number =>
      ofVersion.reduce((all, pool) => all + figure(pool), 0);
    return {
      version,
      weight: hasWeights ? (weights[version] ?? 0) : undefined,
      // The share that the router gives it now.
      share: Math.max(0, ...ofVersion.map((pool) => pool.weight)),
      alive: sum(({ alive }) => alive),
      wanted: sum(({ wanted }) => wanted),
      ratePerS: sum(({ ratePerS }) => ratePerS),
    };
  });
}

function formatRoute(
  terminal: Terminal,
  service: string,
  route: ServiceRoute | undefined,
  lines: readonly RouteLine[],
): string[] {
  const hasWeights = Object.keys(route?.weights ?? {}).length > 0;
  const hasRoute = route !== undefined;
  const notRunning = lines.filter(({ weight, wanted }) => (weight ?? 0) > 0 && wanted === 0);
  const isShared = lines.some(({ share }) => share > 0);
  const isIgnored =
    hasWeights && isShared && notRunning.length === lines.filter(({ weight }) => (weight ?? 0) > 0).length;
  return [
    hasWeights
      ? `${printable(service)} is routed by weights.`
      : hasRoute
        ? `${printable(service)} has no weights: versions share the calls by their number of resources.`
        : `${printable(service)} has no route: versions share the calls by their number of resources.`,
    ...(route?.index === undefined ? [] : [authorOf(route)]),
    '',
    ...formatTable(terminal, COLUMNS, lines),
    ...ruleLines(terminal, route),
    ...notRunning.map(
      ({ version }) =>
        `No process runs ${printable(service)}@${printable(version)}; ${isShared ? 'its share goes to the other versions' : 'its calls wait for one'}.`,
    ),
    ...(isIgnored
      ? ['No version with a weight runs, so all versions share the calls by their number of resources.']
      : []),
  ];
}

/** `Change 12, by ada at 2026-03-01T10:00:00.000Z.` */
function authorOf({ index, by = '', atMs = 0 }: ServiceRoute): string {
  return printable(`Change ${index}, by ${by} at ${new Date(atMs).toISOString()}.`);
}

/** What a route has beside its weights. */
function ruleLines(terminal: Terminal, route: ServiceRoute | undefined): string[] {
  const { rules = [], experiment, fallback, callersChoose = true, sticky, mirror } = route ?? {};
  const more = [
    ...(sticky === undefined ? [] : [`The sticky key of a call that brings none is ${printable(sticky)}.`]),
    ...(experiment === undefined ? [] : [`Sticky keys are spread by the name ${printable(experiment)}.`]),
    ...(fallback === 'fail' ? ['A call whose version has nobody alive fails at once.'] : []),
    ...(fallback === undefined || fallback === 'fail'
      ? []
      : [`A call whose version has nobody alive goes to ${printable(fallback)}.`]),
    ...(callersChoose ? [] : ['Callers may not ask for a version.']),
    ...(mirror === undefined ? [] : [mirrorLine(mirror)]),
    ...copyLines(route ?? {}),
  ];
  const table = rules.length === 0 ? [] : ['', ...formatTable(terminal, RULE_COLUMNS, rules)];
  return more.length === 0 ? table : [...table, '', ...more];
}

/** `caller ada or qa-*, method search` */
function conditionsOf({ callers, roles, tags, methods, keys, headers = {}, share }: RouteRule): string {
  const lists = { caller: callers, role: roles, tag: tags, method: methods, key: keys };
  const conditions = Object.entries(lists).flatMap(([what, items]) =>
    items === undefined ? [] : [`${what} ${items.join(' or ')}`],
  );
  const values = Object.entries(headers).map(([name, value]) =>
    value === '*' ? `header ${name}` : `header ${name}: ${value}`,
  );
  return printable([...conditions, ...values, ...(share === undefined ? [] : [`${share} % of the keys`])].join(', '));
}

function mirrorLine({ to, share = 100, methods }: RouteMirror): string {
  const of = methods === undefined ? 'readonly and idempotent methods' : methods.join(', ');
  return printable(`Copies of ${share} % of the calls of ${of} go to ${to}; \`katamari diff\` compares the answers.`);
}

/** Parses `2.0.0`, `2.0.0=10` and `off`. */
function readMirror(word: string): RouteMirror {
  if (word === 'off') return { to: '' };
  const [, to, share] = /^(\d[\w.+-]*?)(?:=(\d{1,3}(?:\.\d{1,6})?))?$/.exec(word) ?? [];
  if (to === undefined || Number(share ?? 0) > 100)
    throw new ExitError(
      EXIT.usage,
      `--mirror: found ${JSON.stringify(word)}, expected version=percentage, such as 2.0.0=10, or off`,
    );
  return { to, ...(share === undefined ? {} : { share: Number(share) }) };
}

/** Parses `1.0.0=90 2.0.0=10`. */
function readShares(words: readonly string[]): Record<string, number> {
  const weights: Record<string, number> = {};
  for (const word of words) {
    const [, version, weight] = /^(\d[\w.+-]*)=(\d{1,9})$/.exec(word) ?? [];
    if (version === undefined || weight === undefined) {
      throw new ExitError(
        EXIT.usage,
        `Found ${JSON.stringify(word)}, expected version=weight with a whole weight, such as 1.0.0=90`,
      );
    }
    if (Object.hasOwn(weights, version)) throw new ExitError(EXIT.usage, `Found "${version}=" twice, expected it once`);
    weights[version] = Number(weight);
  }
  if (Object.values(weights).every((weight) => weight === 0))
    throw new ExitError(EXIT.usage, 'Found only weights of 0, expected one above 0');
  return weights;
}

const STEP_COLUMNS: readonly Column<RouteExplanation['steps'][number]>[] = [
  { head: 'RULE', text: ({ rule }) => rule },
  { head: 'APPLIES', text: ({ applies }) => (applies ? 'yes' : 'no') },
  { head: 'WHY', text: ({ why }) => why },
];

const RULE_COLUMNS: readonly Column<RouteRule>[] = [
  { head: 'RULE', text: ({ name }) => name },
  { head: 'VERSION', text: ({ to }) => to },
  { head: 'CALLS WITH', text: conditionsOf },
];

const COLUMNS: readonly Column<RouteLine>[] = [
  { head: 'VERSION', text: ({ version }) => version },
  { head: 'WEIGHT', isNumber: true, text: ({ weight }) => (weight === undefined ? '-' : String(weight)) },
  { head: 'SHARE', isNumber: true, text: ({ share }) => `${Math.round(share * 100)}%` },
  { head: 'ALIVE', isNumber: true, text: ({ alive, wanted }) => `${alive}/${wanted}`, color: aliveColor },
  { head: 'CALLS/S', isNumber: true, text: ({ ratePerS }) => ratePerS.toFixed(1) },
];

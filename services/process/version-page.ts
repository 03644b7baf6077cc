// The versions of a service for the status page: the shares of its route, their comparison, what mirrors found, and the
// history. A view is reused for twenty times as long as it took, so that many viewers do not multiply the work. What an
// operator changes goes to the admin service of this process like a call from outside.

import { decodeResult, encodeParams } from '../../core/idl/mod.ts';
import { asKatamariError, KatamariError, type Clock } from '../../core/mod.ts';
import { createCall, dispatchOf, type MeshStatus } from '../../core/rpc/mod.ts';
import type {
  ComparedPart,
  OperatorAnswer,
  OperatorRequest,
  RefusedStatus,
  ShownChange,
  ShownRoute,
  VersionShare,
  VersionSource,
  VersionsView,
} from '../../faceplates/stats/mod.ts';
import { ConsulError } from '../consul/mod.ts';
import { chooseVersions, compareChosen } from '../master/mod.ts';
import type { ObservedVersions, Offer, Route, RouteChange, RouteMirror, Routes } from '../mesh/mod.ts';
import { adminCallOf, rolloutsOf, type AdminCallWanted } from './version-requests.ts';

export interface VersionPageOptions {
  readonly clock: Clock;
  readonly routes: () => Routes;
  readonly routeHistory: (service: string) => Promise<readonly RouteChange[]>;
  readonly observe: (service: string) => Promise<ObservedVersions>;
  readonly meshStatus: () => Promise<MeshStatus>;
  /** The admin services of this process. */
  readonly admin: readonly Offer[];
  /** With this token, the page reads rollouts from them for each reader. */
  readonly rootToken: () => string;
}

/** A view with the histograms of all methods. */
interface WholeView {
  readonly view: VersionsView;
  readonly untilMs: number;
}

export class VersionPage implements VersionSource {
  readonly #options: VersionPageOptions;
  /** By service and versions, the oldest first. */
  readonly #views = new Map<string, WholeView>();
  readonly #pending = new Map<string, Promise<VersionsView | undefined>>();

  constructor(options: VersionPageOptions) {
    this.#options = options;
  }

  async view(service: string, part: ComparedPart): Promise<VersionsView | undefined> {
    const { clock } = this.#options;
    const key = JSON.stringify([service, part.first, part.second]);
    const known = this.#views.get(key);
    if (known !== undefined && clock.nowMs() < known.untilMs) return withOneMethod(known.view, part.method);
    let pending = this.#pending.get(key);
    if (pending === undefined) {
      pending = this.#read(service, part, key).finally(() => this.#pending.delete(key));
      this.#pending.set(key, pending);
    }
    const view = await pending;
    return view === undefined ? undefined : withOneMethod(view, part.method);
  }

  async operate({ service, body, token, address }: OperatorRequest): Promise<OperatorAnswer> {
    try {
      const wanted = adminCallOf(service, body);
      const overtaken = wanted.method === 'undoRoute' ? await this.#overtaken(service, wanted.expectedIndex) : '';
      if (overtaken !== '') return { status: 409, error: overtaken };
      return await this.#callAdmin(wanted, token, address);
    } catch (thrown) {
      if (thrown instanceof ConsulError) return { status: 503, error: `Consul failed (${thrown.message}); try again` };
      const { code, message } = asKatamariError(thrown);
      return { status: STATUS_OF_ERROR[code] ?? 502, error: message };
    } finally {
      // The next view has what was changed.
      for (const key of this.#views.keys()) if (serviceOfKey(key) === service) this.#views.delete(key);
    }
  }

  /**
   * undoRoute restores what a change has replaced, whoever has made changes since. Returns who has made one that the
   * operator has not seen; '' for nobody.
   */
  async #overtaken(service: string, expected: number): Promise<string> {
    const [last] = await this.#options.routeHistory(service);
    if (last === undefined || last.index === expected) return '';
    const { by, index } = last;
    return `The route of ${service} was changed meanwhile by ${by} (change ${index}), so nothing was undone; look at it and try again`;
  }

  async #callAdmin(wanted: AdminCallWanted, token: string, address: string): Promise<OperatorAnswer> {
    const { admin, clock } = this.#options;
    const offer = admin.find(({ details }) => details.service === wanted.service);
    const method = offer?.interface.methods.get(wanted.method);
    if (offer === undefined || method === undefined)
      throw new KatamariError('no_pool', `This process has no ${wanted.service}.${wanted.method}`);
    const call = createCall({
      service: wanted.service,
      method: wanted.method,
      args: encodeParams(method, { ...wanted.params, token }),
      deadlineMs: clock.nowMs() + WAIT_MS,
      caller: `stats ${address}`,
    });
    const { body } = await dispatchOf(offer.send)(call);
    const result = decodeResult(method, body);
    if (result.ok) return { status: 200, result: wanted.read(result.value) };
    const { code = '', why = result.exception } = result.fields as { code?: string; why?: string };
    return { status: STATUS_OF_REFUSAL[code] ?? 409, error: why };
  }

  async #read(service: string, part: ComparedPart, key: string): Promise<VersionsView | undefined> {
    const { clock, meshStatus, routes, observe } = this.#options;
    const startedMs = clock.nowMs();
    const { pools } = await meshStatus();
    const own = pools.filter((pool) => pool.service === service);
    const route = routes().get(service);
    if (own.length === 0 && route === undefined) return undefined;
    const [observed, history, rollout] = await Promise.all([
      observe(service),
      this.#history(service),
      this.#rollout(service),
    ]);
    const versions = sharesOf(route, own);
    const view: VersionsView = {
      service,
      versions,
      route: route === undefined ? undefined : shownRoute(route),
      index: route?.index ?? 0,
      ...(await compare(service, part, route, versions, observed)),
      mirror: mirrorOf(service, observed),
      ...rollout,
      ...history,
    };
    const nowMs = clock.nowMs();
    const freshMs = Math.min(FRESH_MS_MAX, Math.max(FRESH_MS_MIN, REUSE_FACTOR * (nowMs - startedMs)));
    this.#views.delete(key);
    this.#views.set(key, { view, untilMs: nowMs + freshMs });
    for (const oldest of this.#views.keys()) if (this.#views.size > VIEWS_MAX) this.#views.delete(oldest);
    return view;
  }

  async #rollout(service: string): Promise<Pick<VersionsView, 'rollout' | 'whyNoRollout'>> {
    const answer = await this.#callAdmin(rolloutsOf(service), this.#options.rootToken(), '');
    return 'error' in answer
      ? { rollout: undefined, whyNoRollout: answer.error }
      : { rollout: answer.result, whyNoRollout: '' };
  }

  async #history(service: string): Promise<Pick<VersionsView, 'history' | 'whyNoHistory'>> {
    try {
      return { history: (await this.#options.routeHistory(service)).map(shownChange), whyNoHistory: '' };
    } catch (error) {
      if (!(error instanceof ConsulError)) throw error;
      return { history: [], whyNoHistory: `Consul does not answer (${error.message})` };
    }
  }
}

function serviceOfKey(key: string): unknown {
  return (JSON.parse(key) as readonly unknown[])[0];
}

/** The versions of the route and of the pools. Without weights, copies share the calls. */
function sharesOf(route: Route | undefined, pools: MeshStatus['pools']): readonly VersionShare[] {
  const weights = new Map(Object.entries(route?.weights ?? {}));
  const total = [...weights.values()].reduce((sum, weight) => sum + weight, 0);
  const names = [...new Set([...weights.keys(), ...pools.map(({ version }) => version)])].sort(byVersion);
  const copies = (version: string, what: 'alive' | 'wanted'): number =>
    pools.filter((pool) => pool.version === version).reduce((sum, pool) => sum + pool[what], 0);
  const allAlive = pools.reduce((sum, { alive }) => sum + alive, 0);
  return names.map((version) => {
    const [alive, wanted] = [copies(version, 'alive'), copies(version, 'wanted')];
    if (total > 0) {
      const weight = weights.get(version) ?? 0;
      return { version, weight, share: (100 * weight) / total, alive, wanted };
    }
    return { version, weight: undefined, share: allAlive === 0 ? 0 : (100 * alive) / allAlive, alive, wanted };
  });
}

function byVersion(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}

function shownRoute(route: Route): ShownRoute {
  const { by = '', atMs = 0, rules = [], sticky, experiment, fallback, callersChoose, mirror } = route;
  const { hedge = {}, majority = {} } = route;
  const parts = [
    ...(sticky === undefined ? [] : [`sticky by ${sticky}`]),
    ...(experiment === undefined ? [] : [`experiment ${experiment}`]),
    ...(mirror === undefined ? [] : [mirrorText(mirror)]),
    ...(fallback === undefined ? [] : [`fallback ${fallback}`]),
    ...Object.entries(hedge).map(([method, after]) => `hedge ${method} ${after}`),
    ...Object.entries(majority).map(([method, votes]) => `majority ${method} ${votes}`),
    ...(callersChoose === false ? ['callers may not choose a version'] : []),
  ];
  return { by, atMs, rules: rules.map(({ name, to }) => ({ name, to })), parts };
}

function mirrorText({ to, share = 100 }: RouteMirror): string {
  return `${share} % mirrored to ${to}`;
}

function shownChange({ index, by, atMs, route }: RouteChange): ShownChange {
  const { weights, rules = [], mirror } = route ?? {};
  return { index, by, atMs, weights, rules: rules.length, mirror: mirror === undefined ? '' : mirrorText(mirror) };
}

async function compare(
  service: string,
  { first, second }: ComparedPart,
  route: Route | undefined,
  versions: readonly VersionShare[],
  observed: ObservedVersions,
): Promise<Pick<VersionsView, 'comparison' | 'whyNotCompared'>> {
  const names = versions.map(({ version }) => version);
  try {
    const compared = chooseVersions(service, [first, second], route, names);
    return { comparison: await compareChosen(compared, observed), whyNotCompared: '' };
  } catch (error) {
    const { fields } = error as { readonly fields?: Readonly<Record<string, unknown>> };
    if (fields === undefined) throw error;
    return { comparison: undefined, whyNotCompared: String(fields['why']) };
  }
}

/** Counts and paths. The differences have data of calls, which only an operator may see. */
function mirrorOf(service: string, { mirrors }: ObservedVersions): VersionsView['mirror'] {
  const isOwn = (one: { readonly serviceName: string }): boolean => one.serviceName === service;
  const paths = mirrors.paths.filter(isOwn).sort((a, b) => b.calls - a.calls);
  return { counts: mirrors.counts.filter(isOwn), paths: paths.slice(0, PATHS_MAX) };
}

/** A comparison as far as it is read here. */
interface MethodsCompared {
  readonly methods: readonly {
    readonly method: string;
    readonly first: Readonly<Record<string, unknown>>;
    readonly second: Readonly<Record<string, unknown>>;
  }[];
}

/** Leaves out the histograms and the verdicts of all other methods. */
function withOneMethod(view: VersionsView, method: string): VersionsView {
  const compared = view.comparison as MethodsCompared | undefined;
  if (compared === undefined) return view;
  const methods = compared.methods.map((one) => {
    if (one.method === method) return one;
    const [first, second] = [one.first, one.second].map((figures) => ({ ...figures, durations: [] }));
    return { ...one, first, second };
  });
  return { ...view, comparison: { ...compared, methods } };
}

const STATUS_OF_REFUSAL: Readonly<Record<string, RefusedStatus>> = {
  wrong_token: 401,
  missing_scope: 403,
  rate_limited: 429,
  invalid: 400,
  consul_failed: 503,
};
const STATUS_OF_ERROR: Readonly<Record<string, RefusedStatus>> = { bad_request: 400, timeout: 503 };
const WAIT_MS = 30_000;
const FRESH_MS_MIN = 1_000;
const FRESH_MS_MAX = 10_000;
const REUSE_FACTOR = 20;
const VIEWS_MAX = 100;
const PATHS_MAX = 100;

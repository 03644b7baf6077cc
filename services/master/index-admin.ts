// The methods of the admin service for indices, in the shapes of idl/indices.thrift. It checks what it is given
// before anything is written: the name, the source as a manager sees it, the managers that could serve it.

import type { Clock } from '../../core/mod.ts';
import { valid } from 'semver';
import {
  INDEX_NAME,
  indexIdOf,
  isVersionRange,
  manifestHash,
  parsePlaces,
  type AssignmentRecord,
  type HoldingsRecord,
  type IndexRecord,
  type ManagerRecord,
  type ManifestRecord,
  type ReplicaFacts,
  type Route,
  type Routes,
  type SourceFacts,
} from '../mesh/mod.ts';
import { refused, type AdminMethod, type TokenArgs } from './admin-guard.ts';
import { IndexLeader, type IndexPlan } from './index-leader.ts';
import { indexStatus, type ThriftIndexStatus } from './index-status.ts';
import { type IndexStore, manifestText, unknownIndex } from './index-store.ts';
import { type ContentChoice, hasContentService } from './placement.ts';

/** What the mesh orders and holds. */
export interface MeshHoldings {
  readonly managers: ReadonlyMap<string, ManagerRecord>;
  readonly drained: ReadonlySet<string>;
  readonly holdings: ReadonlyMap<string, HoldingsRecord>;
  readonly orders: ReadonlyMap<string, AssignmentRecord>;
}

export interface IndexActions {
  readonly store: IndexStore;
  /** @throws Error when it cannot be read */
  readonly manifest: (sha256: string) => Promise<ManifestRecord>;
  readonly managers: () => ReadonlyMap<string, ManagerRecord>;
  /** Lists a source on a manager. @throws KatamariError bad_request that says what is wrong with the source */
  readonly inspect: (manager: string, source: string) => Promise<SourceFacts>;
  /** What the managers say about the shards of an index, or of all for ''; without those that do not answer. */
  readonly replicas: (index: string) => Promise<ReadonlyMap<string, readonly ReplicaFacts[]>>;
  readonly readHoldings: () => Promise<MeshHoldings>;
  /** Whether a service that is no index has this name. */
  readonly isService: (name: string) => boolean;
  readonly routes: () => Routes;
  /** Refuses when another client changes the route at the same time. */
  readonly setRoute: (service: string, route: Route) => Promise<void>;
  /** `change` gets the route that is in force, again after a change of another client; undefined leaves it. */
  readonly changeRoute: (service: string, change: (route: Route) => Route | undefined) => Promise<void>;
  /** Share of the calls of an index that a version gets, from 0 to 1. */
  readonly shareOf: (name: string, version: string) => number;
  readonly clock: Clock;
}

interface ThriftNewIndex {
  readonly name: string;
  readonly version: string;
  readonly source: string;
  readonly contentService: string;
  readonly replicas?: number;
  readonly promoteAtReplicas: number;
}

interface IndexArgs extends TokenArgs {
  readonly name: string;
  readonly version: string;
}

interface NewIndexArgs extends TokenArgs {
  readonly index: ThriftNewIndex;
}

export function indexMethods(actions: IndexActions): Readonly<Record<string, AdminMethod>> {
  const admin = new IndexAdmin(actions);
  return {
    inspectSource: {
      scope: 'deploy',
      act: ({ source, contentService }: TokenArgs & { source: string; contentService: string }) =>
        admin.report(source, contentService),
    },
    planIndex: { scope: 'deploy', act: ({ index }: NewIndexArgs) => admin.plan(index) },
    addIndex: {
      scope: 'deploy',
      subject: ({ index }: NewIndexArgs) => indexIdOf(index),
      act: async ({ index }: NewIndexArgs, { caller, note }) => {
        note(null, index);
        return await admin.add(index, caller.name);
      },
    },
    setIndexReplicas: {
      scope: 'operate',
      subject: indexIdOf,
      act: async ({ name, version, replicas }: IndexArgs & { replicas: number }, { note }) => {
        note(undefined, { replicas });
        return await admin.replicate(name, version, replicas);
      },
    },
    promoteIndex: {
      scope: 'operate',
      subject: indexIdOf,
      act: async ({ name, version, force }: IndexArgs & { force: boolean }, { note }) => {
        note(actions.routes().get(name)?.weights ?? null, { [version]: 100 });
        await admin.promote(name, version, force);
      },
    },
    removeIndex: {
      scope: 'deploy',
      subject: indexIdOf,
      act: async ({ name, version }: IndexArgs, { note }) => {
        note((await actions.store.get(name, version)) ?? null, null);
        await admin.remove(name, version);
      },
    },
    getIndices: {
      scope: 'read',
      act: ({ name, withShards }: TokenArgs & { name: string; withShards: boolean }) => admin.status(name, withShards),
    },
  };
}

/**
 * The state of index versions with their shards.
 * @param records as last read from Consul, which may not answer
 */
export function readIndices(
  actions: IndexActions,
  records: readonly IndexRecord[],
): Promise<readonly ThriftIndexStatus[]> {
  return new IndexAdmin(actions).look(records);
}

class IndexAdmin {
  readonly #actions: IndexActions;
  /** The conditions of all versions, reused for CONDITIONS_MS: they cost reads of Consul and a plan. */
  #conditions: { readonly untilMs: number; readonly of: Promise<IndexPlan['conditions']> } | undefined;

  constructor(actions: IndexActions) {
    this.#actions = actions;
  }

  async report(source: string, contentService: string): Promise<unknown> {
    const content = contentOf(contentService);
    const { manager, facts } = await this.#inspect(source, content);
    return {
      shards: facts.shards.length,
      bytes: bytesOf(facts),
      names: facts.shards.map(({ name }) => name),
      warnings: facts.warnings,
      manager,
      manifest: manifestHash(manifestText(facts)),
    };
  }

  async plan(index: ThriftNewIndex): Promise<unknown> {
    const record = await this.#checked(index, '');
    const { facts } = await this.#inspect(record.source, record);
    const id = indexIdOf(record);
    const { orders, conditions } = await this.#plan(new Map([[id, { record, manifest: facts }]]));
    const managers = [...orders].flatMap(([manager, own]) => {
      const places = own.get(id);
      if (places === undefined) return [];
      const shards = [...places].map((place) => facts.shards[place]).filter((shard) => shard !== undefined);
      return [{ manager, shards: shards.map(({ name }) => name), bytes: bytesOf({ shards }) }];
    });
    return { managers, conditions: conditions.get(id) ?? [] };
  }

  async add(index: ThriftNewIndex, by: string): Promise<unknown> {
    const { store } = this.#actions;
    const record = await this.#checked(index, by);
    const known = await store.get(record.name, record.version);
    if (known !== undefined) {
      checkSame(known, record, index.replicas);
      await this.#heal(known);
      return { status: await this.#one(known), isNew: false, warnings: [] };
    }
    const { facts } = await this.#inspect(record.source, record);
    await this.#keepRoute(record);
    const added = await store.add(record, facts);
    return { status: await this.#one(added), isNew: true, warnings: facts.warnings };
  }

  /** Writes the list of the shards of a version again when Consul has lost it, and its source is what it was. */
  async #heal(known: IndexRecord): Promise<void> {
    const { store, manifest } = this.#actions;
    const isReadable = await manifest(known.manifest).then(
      () => true,
      () => false,
    );
    if (isReadable) return;
    const { facts } = await this.#inspect(known.source, known);
    if (manifestHash(manifestText(facts)) === known.manifest) await store.putManifest(facts);
    else
      throw bad(
        `The list of the shards of ${indexIdOf(known)} is lost, and its source has changed; add it as another version`,
      );
  }

  async replicate(name: string, version: string, replicas: number): Promise<ThriftIndexStatus> {
    checkReplicas(replicas);
    return await this.#one(await this.#actions.store.setReplicas(name, version, replicas));
  }

  async promote(name: string, version: string, force: boolean): Promise<void> {
    const { store, setRoute, changeRoute } = this.#actions;
    const record = await store.get(name, version);
    if (record === undefined) throw unknownIndex(name, version, await store.list());
    const { served } = await this.#one(record);
    if (served < record.shards && !force) {
      const why = `${served} of ${record.shards} shards of ${name}@${version} are served, so calls would fail; wait for the others, or force it`;
      throw bad(why);
    }
    // Its shards that are served can be asked for with a lower minCoverage.
    if (force) await store.setReady(name, version);
    await setRoute(name, { weights: { [version]: 100 } });
    // It may have been removed meanwhile.
    if ((await store.get(name, version)) !== undefined) return;
    await changeRoute(name, (route) => withoutVersion(route, version));
    throw unknownIndex(name, version, await store.list());
  }

  async remove(name: string, version: string): Promise<void> {
    const { store, changeRoute } = this.#actions;
    const versions = (await store.list()).filter((one) => one.name === name);
    const others = versions.filter((one) => one.version !== version);
    if (others.length === versions.length) throw unknownIndex(name, version, await store.list());
    // The route goes first: without its record, a version cannot be removed again.
    await changeRoute(name, (route) => {
      if ((route.weights[version] ?? 0) > 0 && others.length > 0) {
        const why = `${name}@${version} gets calls that name no version; give them to another one first: katamari index promote ${name}@${others[0]?.version}`;
        throw bad(why);
      }
      if (others.length > 0) return withoutVersion(route, version);
      return Object.keys(route.weights).length === 0 ? undefined : { weights: {} };
    });
    await store.remove(name, version);
    // It may have been promoted meanwhile.
    await changeRoute(name, (route) => withoutVersion(route, version));
  }

  async status(name: string, withShards: boolean): Promise<readonly ThriftIndexStatus[]> {
    const records = await this.#actions.store.list();
    const asked = name === '' ? records : records.filter((one) => one.name === name);
    if (asked.length === 0 && name !== '') throw unknownIndex(name, '', records);
    return await this.#statuses(asked, name, withShards);
  }

  /** Returns the state of these versions. If Consul does not answer, its error is a condition of each. */
  async look(records: readonly IndexRecord[]): Promise<readonly ThriftIndexStatus[]> {
    return await this.#statuses(records, '', true, async () => {
      try {
        return await this.#currentConditions();
      } catch (error) {
        const why = `what keeps shards from being placed is unknown: ${(error as Error).message}`;
        return new Map(records.map((record) => [indexIdOf(record), [why]]));
      }
    });
  }

  async #one(record: IndexRecord): Promise<ThriftIndexStatus> {
    const [status] = await this.#statuses([record], record.name, false);
    return status as ThriftIndexStatus;
  }

  async #statuses(
    records: readonly IndexRecord[],
    name: string,
    withShards: boolean,
    readConditions: () => Promise<IndexPlan['conditions']> = () => this.#currentConditions(),
  ): Promise<readonly ThriftIndexStatus[]> {
    if (records.length === 0) return [];
    const [replicas, conditions] = await Promise.all([this.#actions.replicas(name), readConditions()]);
    return await Promise.all(
      records.map(async (record) => {
        const manifest = await this.#actions.manifest(record.manifest).catch(() => undefined);
        const own = [
          ...(manifest === undefined ? ['the list of its shards cannot be read from Consul'] : []),
          ...(conditions.get(indexIdOf(record)) ?? []),
        ];
        const share = this.#actions.shareOf(record.name, record.version);
        return indexStatus({ record, manifest, replicas, conditions: own, share }, withShards);
      }),
    );
  }

  #currentConditions(): Promise<IndexPlan['conditions']> {
    const nowMs = this.#actions.clock.nowMs();
    if (this.#conditions !== undefined && nowMs < this.#conditions.untilMs) return this.#conditions.of;
    const of = this.#plan(new Map()).then(({ conditions }) => conditions);
    this.#conditions = { untilMs: nowMs + CONDITIONS_MS, of };
    of.catch(() => (this.#conditions = undefined));
    return of;
  }

  /** Places the shards of all index versions, and of those given, as the leader would. */
  async #plan(more: ReadonlyMap<string, { readonly record: IndexRecord; readonly manifest: ManifestRecord }>): Promise<{
    readonly orders: ReadonlyMap<string, ReadonlyMap<string, readonly number[]>>;
    readonly conditions: IndexPlan['conditions'];
  }> {
    const { store, manifest, readHoldings, clock } = this.#actions;
    const { managers, drained, holdings, orders } = await readHoldings();
    const indices = new Map((await store.list()).map((record) => [indexIdOf(record), record]));
    const manifests = new Map<string, ManifestRecord>();
    for (const [id, one] of more) {
      indices.set(id, one.record);
      manifests.set(one.record.manifest, one.manifest);
    }
    for (const { manifest: sha256 } of indices.values()) {
      if (manifests.has(sha256)) continue;
      const found = await manifest(sha256).catch(() => undefined);
      if (found !== undefined) manifests.set(sha256, found);
    }
    const plan = new IndexLeader(clock).plan({
      indices,
      unreadable: new Set(),
      manifests,
      managers,
      drained,
      holdings,
      ordered: new Map([...managers.keys()].map((name) => [name, orders.get(name)?.shards ?? []])),
    });
    return { orders: placesByIndex(plan), conditions: plan.conditions };
  }

  /** Lists a source on a manager that has the content service. @throws KatamariError */
  async #inspect(source: string, content: ContentChoice): Promise<{ manager: string; facts: SourceFacts }> {
    const [manager] = this.#able(content);
    if (manager === undefined) throw noContentService(content, this.#actions.managers());
    return { manager, facts: await this.#actions.inspect(manager, source) };
  }

  /** Names of the managers with a living copy of the content service. */
  #able(content: ContentChoice): readonly string[] {
    return [...this.#actions.managers()]
      .filter(
        ([, { pools, isDraining }]) =>
          !isDraining &&
          hasContentService(
            pools.filter(({ alive }) => alive > 0),
            content,
          ),
      )
      .map(([name]) => name);
  }

  /** Checks all that can be checked without the source. @throws KatamariError */
  async #checked(index: ThriftNewIndex, by: string): Promise<IndexRecord> {
    const { name, version, source, contentService, promoteAtReplicas } = index;
    if (!INDEX_NAME.test(name))
      throw bad(`"${name}" cannot be the name of an index, expected letters, digits and "_", and a letter first: wiki`);
    if (valid(version) !== version)
      throw bad(`"${version}" is no version of an index, expected three numbers such as 3.0.0`);
    if (this.#actions.isService(name))
      throw bad(`${name} is the name of a service of the mesh; an index is a service too, so give it another name`);
    if (!URL.canParse(source)) throw bad(`The source is "${source}", expected a URL such as file:///srv/indices/wiki`);
    const content = contentOf(contentService);
    const managers = this.#able(content);
    if (managers.length === 0) throw noContentService(content, this.#actions.managers());
    const replicas = index.replicas ?? Math.min(REPLICAS_USUAL, managers.length);
    checkReplicas(replicas);
    if (promoteAtReplicas < 0 || promoteAtReplicas > replicas)
      throw bad(`promoteAtReplicas is ${promoteAtReplicas}, expected 0 to the number of replicas, ${replicas}`);
    if (replicas > managers.length)
      throw bad(
        `${replicas} replicas are wanted, and ${managers.length === 1 ? `only ${managers[0]} has` : `${managers.length} managers have`} ` +
          `${contentService}; start it on more managers, or ask for fewer replicas (--replicas ${managers.length})`,
      );
    const common = { name, version, source: source.replace(/\/+$/, ''), ...content, replicas, promoteAtReplicas };
    return {
      ...common,
      manifest: NO_MANIFEST,
      shards: 0,
      bytes: 0,
      by,
      atMs: Date.now(),
      readyAtMs: 0,
      promotedAtMs: 0,
    };
  }

  /** Before a second version is added, the first one gets all calls by a route, until another is promoted. */
  async #keepRoute({ name, version }: IndexRecord): Promise<void> {
    const { store, changeRoute } = this.#actions;
    const others = (await store.list()).filter((one) => one.name === name && one.version !== version);
    const [first] = [...others].sort((a, b) => a.atMs - b.atMs);
    if (first === undefined) return;
    const route = { weights: { [first.version]: 100 } };
    await changeRoute(name, ({ weights }) => (Object.keys(weights).length > 0 ? undefined : route));
  }
}

/** The places of each index version in the orders of each manager. */
function placesByIndex({ orders }: IndexPlan): ReadonlyMap<string, ReadonlyMap<string, readonly number[]>> {
  return new Map(
    [...orders].map(([manager, own]) => [
      manager,
      new Map(own.map(({ indexVersion, places }) => [indexVersion, parsePlaces(places)])),
    ]),
  );
}

/** Reads `Lucene` or `Lucene@^1`. @throws KatamariError */
function contentOf(text: string): ContentChoice {
  const [contentService = '', contentRange = ''] = text.split('@');
  if (/^[A-Za-z_][\w.]{0,199}$/.test(contentService) && isVersionRange(contentRange))
    return { contentService, contentRange };
  throw bad(`The content service is "${text}", expected a name, or one with a range of versions such as Lucene@^1`);
}

function checkReplicas(replicas: number): void {
  if (replicas >= 1 && replicas <= REPLICAS_MAX) return;
  throw bad(`The number of replicas is ${replicas}, expected 1 to ${REPLICAS_MAX}`);
}

/** @throws KatamariError when a version is added again with something else */
function checkSame(known: IndexRecord, asked: IndexRecord, replicas: number | undefined): void {
  if (known.source !== asked.source)
    throw bad(
      `${indexIdOf(known)} exists, with the source ${known.source}; a version never changes, so add another version`,
    );
  const [before, now] = [known, asked].map(({ contentService, contentRange }) => `${contentService}@${contentRange}`);
  if (before !== now) throw bad(`${indexIdOf(known)} exists, with the content service ${before}; add another version`);
  if (replicas !== undefined && known.replicas !== replicas)
    throw bad(
      `${indexIdOf(known)} exists, with ${known.replicas} replicas; change them with katamari index replicate ${indexIdOf(known)} ${replicas}`,
    );
}

function noContentService(content: ContentChoice, managers: ReadonlyMap<string, ManagerRecord>): Error {
  const { contentService, contentRange } = content;
  const what = contentRange === '' ? contentService : `${contentService}@${contentRange}`;
  const others = [...managers.values()]
    .flatMap(({ pools }) => pools)
    .filter(({ service }) => service === contentService);
  const versions = [...new Set(others.map(({ version }) => version))].join(', ');
  const hint = versions === '' ? 'deploy it first' : `versions here are ${versions}`;
  return bad(`No manager has a copy of the content service ${what}; ${hint}`);
}

function bytesOf({ shards }: Pick<SourceFacts, 'shards'>): number {
  return shards.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** The route without one version; undefined when it does not name it. */
function withoutVersion({ weights }: Route, version: string): Route | undefined {
  if (!Object.hasOwn(weights, version)) return undefined;
  return { weights: Object.fromEntries(Object.entries(weights).filter(([one]) => one !== version)) };
}

function bad(why: string): Error {
  return refused('invalid', why);
}

const CONDITIONS_MS = 1_000;
const REPLICAS_MAX = 1_000;
/** Default number of replicas. */
const REPLICAS_USUAL = 2;
/** Manifest of a record whose source has not been listed. */
const NO_MANIFEST = '0'.repeat(64);

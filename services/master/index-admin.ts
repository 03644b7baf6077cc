// The methods of the admin service for indices, in the shapes of idl/indices.thrift. It checks what it is given
// before anything is written: the name, the source as a manager sees it, the managers that could serve it.

import { valid } from 'semver';
import { clipText, KatamariError } from '../../core/mod.ts';
import { INDEX_NAME, indexIdOf, manifestHash, type IndexRecord, type Route, type SourceFacts } from '../mesh/mod.ts';
import type { AdminMethod, TokenArgs } from './admin-guard.ts';
import type { IndexActions } from './index-actions.ts';
import {
  bad,
  checkManagers,
  checkPins,
  checkReplicas,
  checkSame,
  contentOf,
  noContentService,
  runsContent,
} from './index-checks.ts';
import { IndexReports } from './index-reports.ts';
import type { ThriftIndexStatus } from './index-status.ts';
import { manifestText, unknownIndex } from './index-store.ts';
import { promotionWarnings, replicaWarnings, spaceWarnings } from './index-warnings.ts';
import type { ContentChoice } from './placement.ts';

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

/** Struct ChangedIndex. */
interface ThriftChangedIndex {
  readonly status: ThriftIndexStatus;
  readonly warnings: readonly string[];
}

export function indexMethods(actions: IndexActions): Readonly<Record<string, AdminMethod>> {
  const reports = new IndexReports(actions);
  const admin = new IndexAdmin(actions, reports);
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
    pinIndex: {
      scope: 'operate',
      subject: indexIdOf,
      act: async (
        { name, version, managers, force }: IndexArgs & { managers: readonly string[]; force: boolean },
        { note },
      ) => {
        note((await actions.store.get(name, version))?.pinnedTo ?? [], managers);
        return await admin.pin(name, version, managers, force);
      },
    },
    promoteIndex: {
      scope: 'operate',
      subject: indexIdOf,
      act: async ({ name, version, force }: IndexArgs & { force: boolean }, { caller, note }) => {
        note(actions.routes().get(name)?.weights ?? null, { [version]: 100 });
        return await admin.promote(name, version, force, caller.name);
      },
    },
    removeIndex: {
      scope: 'deploy',
      subject: indexIdOf,
      act: async ({ name, version }: IndexArgs, { caller, note }) => {
        note((await actions.store.get(name, version)) ?? null, null);
        await admin.remove(name, version, caller.name);
      },
    },
    getIndices: {
      scope: 'read',
      act: ({ name, withShards }: TokenArgs & { name: string; withShards: boolean }) =>
        reports.status(name, withShards),
    },
    getIndexNodes: { scope: 'read', act: () => reports.nodes() },
    getIndexDocuments: {
      scope: 'read',
      act: ({ name, version }: IndexArgs) => actions.store.documents(name, version),
    },
  };
}

class IndexAdmin {
  readonly #actions: IndexActions;
  readonly #reports: IndexReports;

  constructor(actions: IndexActions, reports: IndexReports) {
    this.#actions = actions;
    this.#reports = reports;
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
    checkManagers(record, this.#able(record));
    const { facts } = await this.#inspect(record.source, record);
    const id = indexIdOf(record);
    const { orders, conditions } = await this.#reports.plan(new Map([[id, { record, manifest: facts }]]));
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
      return { ...(await this.#changed(known, await this.#replicaWarnings(known))), isNew: false };
    }
    checkManagers(record, this.#able(record));
    const { facts } = await this.#inspect(record.source, record);
    await this.#keepRoute(record);
    const added = await store.add(record, facts);
    const warnings = [
      ...facts.warnings,
      ...(await this.#replicaWarnings(added)),
      ...spaceWarnings(added, facts.shards, await this.#reports.freeBytesFor(added)),
    ];
    return { ...(await this.#changed(added, warnings)), isNew: true };
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

  async replicate(name: string, version: string, replicas: number): Promise<ThriftChangedIndex> {
    checkReplicas(replicas);
    const record = await this.#actions.store.setReplicas(name, version, replicas);
    return await this.#changed(record, await this.#replicaWarnings(record));
  }

  async pin(name: string, version: string, managers: readonly string[], force: boolean): Promise<ThriftChangedIndex> {
    checkPins(managers, [...this.#actions.managers().keys()], force);
    const record = await this.#actions.store.setPins(name, version, managers);
    return await this.#changed(record, await this.#replicaWarnings(record));
  }

  async promote(name: string, version: string, force: boolean, by: string): Promise<ThriftChangedIndex> {
    const { store, setRoute, changeRoute } = this.#actions;
    const record = await store.get(name, version);
    if (record === undefined) throw unknownIndex(name, version, await store.list());
    const versions = await this.#reports.status(name, false);
    const now = versions.find((one) => one.version === version) ?? (await this.#reports.one(record));
    if (now.served < record.shards && !force) {
      const why = `${now.served} of ${record.shards} shards of ${name}@${version} are served, so calls would fail; wait for the others, or force it`;
      throw bad(why);
    }
    const [before] = versions.filter((one) => one.share > 0).sort((a, b) => b.share - a.share);
    const warnings = promotionWarnings(before?.version === version ? undefined : before, now);
    // Its shards that are served can be asked for with a lower minCoverage.
    if (force) await store.setReady(name, version);
    await setRoute(name, { weights: { [version]: 100 } }, by);
    // It may have been removed meanwhile.
    if ((await store.get(name, version)) !== undefined) return await this.#changed(record, warnings);
    await changeRoute(name, by, (route) => withoutVersion(route, version));
    throw unknownIndex(name, version, await store.list());
  }

  async remove(name: string, version: string, by: string): Promise<void> {
    const { store, changeRoute, forgetRoutes } = this.#actions;
    const versions = (await store.list()).filter((one) => one.name === name);
    const others = versions.filter((one) => one.version !== version);
    if (others.length === versions.length) throw unknownIndex(name, version, await store.list());
    // The route goes first: without its record, a version cannot be removed again.
    await changeRoute(name, by, (route) => {
      if ((route.weights[version] ?? 0) > 0 && others.length > 0) {
        const why = `${name}@${version} gets calls that name no version; give them to another one first: katamari index promote ${name}@${others[0]?.version}`;
        throw bad(why);
      }
      if (others.length > 0) return withoutVersion(route, version);
      return Object.keys(route.weights).length === 0 ? undefined : { ...route, weights: {} };
    });
    await store.remove(name, version);
    // It may have been promoted meanwhile.
    await changeRoute(name, by, (route) => withoutVersion(route, version));
    if (others.length === 0) await forgetRoutes(name);
  }

  async #replicaWarnings(record: IndexRecord): Promise<readonly string[]> {
    return replicaWarnings(record, await this.#reports.holdersFor(record));
  }

  async #changed(record: IndexRecord, warnings: readonly string[]): Promise<ThriftChangedIndex> {
    this.#reports.changed();
    return { status: await this.#reports.one(record), warnings };
  }

  /**
   * Lists a source on a manager that has the content service. If the link to a manager is down, it asks the next one,
   * and all of them again for a few seconds.
   * @throws KatamariError
   */
  async #inspect(source: string, content: ContentChoice): Promise<{ manager: string; facts: SourceFacts }> {
    const { clock, inspect } = this.#actions;
    const endMs = clock.nowMs() + UNREACHABLE_MS;
    for (;;) {
      let unreachable: unknown = noContentService(content, this.#actions.managers());
      for (const manager of this.#able(content)) {
        try {
          return { manager, facts: await inspect(manager, source) };
        } catch (error) {
          if (!isUnreachable(error)) throw ofManager(manager, error);
          unreachable = error;
        }
      }
      if (!isUnreachable(unreachable) || clock.nowMs() >= endMs) throw unreachable;
      await new Promise<void>((resolve) => clock.after(TRY_AGAIN_MS, resolve));
    }
  }

  /** Names of the managers with a living copy of the content service. */
  #able(content: ContentChoice): readonly string[] {
    return [...this.#actions.managers()].filter(([, record]) => runsContent(record, content)).map(([name]) => name);
  }

  /** Checks all that can be checked without the source. @throws KatamariError */
  async #checked(index: ThriftNewIndex, by: string): Promise<IndexRecord> {
    const { name, version, source, contentService, promoteAtReplicas } = index;
    if (!INDEX_NAME.test(name))
      throw bad(
        `"${clipText(name, NAME_CHARS_MAX)}" cannot be the name of an index, expected at most 128 letters, digits and "_", and a letter first: wiki`,
      );
    if (valid(version) !== version)
      throw bad(
        `"${clipText(version, NAME_CHARS_MAX)}" is no version of an index, expected three numbers such as 3.0.0`,
      );
    if (this.#actions.isService(name))
      throw bad(`${name} is the name of a service of the mesh; an index is a service too, so give it another name`);
    if (!URL.canParse(source))
      throw bad(`The source is "${clipText(source, NAME_CHARS_MAX)}", expected a URL such as file:///srv/indices/wiki`);
    const content = contentOf(contentService);
    const managers = this.#able(content);
    if (managers.length === 0) throw noContentService(content, this.#actions.managers());
    const replicas = index.replicas ?? Math.min(REPLICAS_USUAL, managers.length);
    checkReplicas(replicas);
    if (promoteAtReplicas < 0 || promoteAtReplicas > replicas)
      throw bad(`promoteAtReplicas is ${promoteAtReplicas}, expected 0 to the number of replicas, ${replicas}`);
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
  async #keepRoute({ name, version, by }: IndexRecord): Promise<void> {
    const { store, changeRoute } = this.#actions;
    const others = (await store.list()).filter((one) => one.name === name && one.version !== version);
    const [first] = [...others].sort((a, b) => a.atMs - b.atMs);
    if (first === undefined) return;
    const weights = { [first.version]: 100 };
    await changeRoute(name, by, (route) => (Object.keys(route.weights).length > 0 ? undefined : { ...route, weights }));
  }
}

/** Whether a manager did not get a call, or went away with it. Another one may answer. */
function isUnreachable(error: unknown): boolean {
  return error instanceof KatamariError && (error.code === 'resource_failed' || error.code === 'draining');
}

/**
 * The error of a manager that looked at a source, with its name: a path on another machine, and the settings of another
 * manager, are what is wrong most often.
 */
function ofManager(manager: string, error: unknown): unknown {
  if (!(error instanceof KatamariError) || error.code !== 'bad_request') return error;
  return new KatamariError('bad_request', `The manager ${manager} cannot list the source: ${error.message}`);
}

function bytesOf({ shards }: Pick<SourceFacts, 'shards'>): number {
  return shards.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** The route without one version; undefined when it does not name it. */
function withoutVersion(route: Route, version: string): Route | undefined {
  if (!Object.hasOwn(route.weights, version)) return undefined;
  const weights = Object.fromEntries(Object.entries(route.weights).filter(([one]) => one !== version));
  return { ...route, weights };
}

/** A manager is out of reach for so long after its start, or while its machine is busy. */
const UNREACHABLE_MS = 5_000;
const TRY_AGAIN_MS = 250;
/** Default number of replicas. */
const REPLICAS_USUAL = 2;
/** Characters of a wrong name in a message. */
const NAME_CHARS_MAX = 200;
/** Manifest of a record whose source has not been listed. */
const NO_MANIFEST = '0'.repeat(64);

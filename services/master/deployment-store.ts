// Stores the desired state in Consul: deployments and drained managers. The leader watches the same keys and acts on
// them; this class starts nothing. Each write is a check-and-set against the last read, so of two concurrent changes
// one fails with an error. A document can be as large as one Consul value.

import { KatamariError } from '../../core/mod.ts';
import type { ConsulClient } from '../consul/mod.ts';
import {
  DEPLOYMENT,
  DOCUMENT_BYTES_MAX,
  deploymentId,
  keysOf,
  readEntry,
  type Deployment,
  type EventLog,
  type Keys,
} from '../mesh/mod.ts';
import { isDeepStrictEqual } from 'node:util';

/** Receives the documents before and after a change, before it is made; null for none. */
type ChangeNote = (before: unknown, after: unknown) => void;

export type DeployOutcome = 'created' | 'changed' | 'unchanged';

export interface DeploymentStoreOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  readonly events: EventLog;
}

/** The value of a deployment key. */
interface StoredDeployment {
  /** Undefined if the document is invalid. */
  readonly deployment: Deployment | undefined;
  readonly why: string;
  readonly modifyIndex: number;
}

/** Each method also throws ConsulError if Consul does not answer or refuses. */
export class DeploymentStore {
  readonly #options: DeploymentStoreOptions;
  readonly #keys: Keys;

  constructor(options: DeploymentStoreOptions) {
    this.#options = options;
    this.#keys = keysOf(options.mesh);
  }

  /**
   * Returns all deployments, sorted by service, then version as text. Invalid documents are left out; the leader
   * reports them.
   */
  async list(): Promise<Deployment[]> {
    const { entries } = await this.#options.client.list(this.#keys.deployments);
    return entries
      .map((entry) => ({ key: entry.key, deployment: readEntry(DEPLOYMENT, entry) }))
      .filter((one): one is { key: string; deployment: Deployment } => !(one.deployment instanceof Error))
      .filter(({ key, deployment }) => key === this.#keyOf(deployment.service, deployment.version))
      .map(({ deployment }) => deployment)
      .sort((a, b) => compare(a.service, b.service) || compare(a.version, b.version));
  }

  /**
   * Creates or replaces a deployment. @throws KatamariError `bad_request` if it is too large or changed concurrently
   */
  async put(deployment: Deployment, note: ChangeNote = ignore): Promise<DeployOutcome> {
    const { service, version } = deployment;
    const id = deploymentId(deployment);
    const before = await this.#find(service, version);
    note(before?.deployment ?? null, deployment);
    if (before?.deployment !== undefined && isDeepStrictEqual(before.deployment, deployment)) return 'unchanged';
    if (before === undefined) await this.#checkLimit(id);
    if (!(await this.#write(deployment, before?.modifyIndex ?? 0))) {
      throw new KatamariError(
        'bad_request',
        `${id} was changed by another client at the same time, so this change was not made. Check the deployment and try again`,
      );
    }
    const what = before?.deployment === undefined ? '' : describeChange(before.deployment, deployment);
    this.#report(id, before === undefined ? `new, ${describeCopies(deployment.count)}` : what || 'repaired');
    return before === undefined ? 'created' : 'changed';
  }

  /**
   * Changes only the number of copies; retries after concurrent changes. @throws KatamariError `no_pool`,
   * `bad_request`
   */
  async scale(service: string, version: string, count: number, note: ChangeNote = ignore): Promise<Deployment> {
    if (!Number.isInteger(count) || count < 0 || count > COUNT_MAX)
      throw new KatamariError('bad_request', `The count is ${count}, expected a whole number, 0 to ${COUNT_MAX}`);
    const id = deploymentId({ service, version });
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
      const found = await this.#find(service, version);
      if (found === undefined) throw await this.#unknown(service, version);
      if (found.deployment === undefined) {
        throw new KatamariError(
          'bad_request',
          `The deployment ${id} in Consul is invalid (${found.why}). Deploy it again with katamari deploy`,
        );
      }
      const { deployment } = found;
      const scaled = { ...deployment, count };
      note(deployment, scaled);
      if (deployment.count === count) return deployment;
      if (!(await this.#write(scaled, found.modifyIndex))) continue;
      this.#report(id, describeChange(deployment, scaled));
      return scaled;
    }
    throw contentionError(id);
  }

  /** Removes a deployment. Returns false if it does not exist. */
  async remove(service: string, version: string, note: ChangeNote = ignore): Promise<boolean> {
    const id = deploymentId({ service, version });
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
      const found = await this.#find(service, version);
      if (found === undefined) return false;
      note(found.deployment ?? null, null);
      if (!(await this.#options.client.delete(this.#keyOf(service, version), { cas: found.modifyIndex }))) continue;
      this.#report(id, 'removed');
      return true;
    }
    throw contentionError(id);
  }

  /**
   * Drains a manager. It stays drained after a restart.
   *
   * @throws KatamariError `no_pool` if Consul has no such manager
   */
  async drain(manager: string, note: ChangeNote = ignore): Promise<void> {
    const { client, events } = this.#options;
    checkManagerName(manager);
    const managers = await this.#managers();
    if (!managers.includes(manager)) {
      throw new KatamariError(
        'no_pool',
        `No manager of this mesh is called "${manager}"; there are ${managers.join(', ') || 'none'}`,
      );
    }
    const isDrained = (await this.drained()).includes(manager);
    note({ isDrained }, { isDrained: true });
    const since = new Date().toISOString();
    // If the key exists, the manager is already drained and the time stays.
    if (await client.put(`${this.#keys.drained}${manager}`, JSON.stringify({ since }), { cas: 0 }))
      events.add('drained', manager, 'runs no copies until it is undrained');
  }

  /** Ends the drain of a manager, even if it is not present. */
  async undrain(manager: string, note: ChangeNote = ignore): Promise<void> {
    const { client, events } = this.#options;
    checkManagerName(manager);
    const isDrained = (await this.drained()).includes(manager);
    note({ isDrained }, { isDrained: false });
    if (!isDrained) return;
    await client.delete(`${this.#keys.drained}${manager}`);
    events.add('drained', manager, 'undrained: can run copies again');
  }

  /** Returns the names of the drained managers. */
  async drained(): Promise<string[]> {
    return await this.#namesBelow(this.#keys.drained);
  }

  async #managers(): Promise<string[]> {
    return await this.#namesBelow(this.#keys.managers);
  }

  async #namesBelow(prefix: string): Promise<string[]> {
    const { entries } = await this.#options.client.list(prefix);
    const valid = entries.filter(({ problem }) => problem === '');
    return valid.map(({ key }) => key.slice(prefix.length)).sort(compare);
  }

  async #find(service: string, version: string): Promise<StoredDeployment | undefined> {
    checkDeploymentName(service, version);
    const entry = await this.#options.client.get(this.#keyOf(service, version));
    if (entry === undefined) return undefined;
    const read = readEntry(DEPLOYMENT, entry);
    const { modifyIndex } = entry;
    return read instanceof Error
      ? { deployment: undefined, why: read.message, modifyIndex }
      : { deployment: read, why: '', modifyIndex };
  }

  async #write(deployment: Deployment, cas: number): Promise<boolean> {
    const text = JSON.stringify(deployment);
    const bytes = Buffer.byteLength(text);
    if (bytes > DOCUMENT_BYTES_MAX) {
      throw new KatamariError(
        'bad_request',
        `The deployment ${deploymentId(deployment)} is ${Math.ceil(bytes / 1024)} KiB, limit is ${Math.floor(DOCUMENT_BYTES_MAX / 1024)} KiB, the limit of a value in Consul; ` +
          'shorten its env, or remove comments from its IDL',
      );
    }
    return await this.#options.client.put(this.#keyOf(deployment.service, deployment.version), text, { cas });
  }

  async #checkLimit(id: string): Promise<void> {
    const count = (await this.list()).length;
    if (count < DEPLOYMENTS_MAX) return;
    throw new KatamariError(
      'bad_request',
      `Cannot deploy ${id}: the mesh has ${count} deployments, limit is ${DEPLOYMENTS_MAX}; remove old versions with katamari undeploy`,
    );
  }

  async #unknown(service: string, version: string): Promise<KatamariError> {
    const known = (await this.list()).map(deploymentId);
    const shown = known.length > NAMES_MAX ? [...known.slice(0, NAMES_MAX), '...'] : known;
    return new KatamariError(
      'no_pool',
      `${service}@${version} is not a deployment of the mesh; deployments are ${shown.join(', ') || 'none'}`,
    );
  }

  #report(id: string, text: string): void {
    this.#options.events.add('deployment_changed', id, text);
  }

  #keyOf(service: string, version: string): string {
    return `${this.#keys.deployments}${service}/${version}`;
  }
}

/** Describes the changed fields: `count 2 -> 4, env, command`; '' without changes. */
export function describeChange(before: Deployment, after: Deployment): string {
  return changedFields(before, after)
    .map((field) => (field === 'count' ? `count ${before.count} -> ${after.count}` : field))
    .join(', ');
}

/** Returns the names of the fields that differ. */
export function changedFields(before: Deployment, after: Deployment): (keyof Deployment)[] {
  const names = Object.keys(after) as (keyof Deployment)[];
  return names.filter((name) => !isDeepStrictEqual(before[name], after[name]));
}

function checkDeploymentName(service: string, version: string): void {
  // Both names become parts of a key.
  if (/^[A-Za-z_][\w.]{0,199}$/.test(service) && /^\d[\w.+-]{0,99}$/.test(version)) return;
  throw new KatamariError(
    'bad_request',
    `"${service}@${version}" is not a valid deployment name, expected Service@version such as Calculator@1.0.0`,
  );
}

function checkManagerName(manager: string): void {
  if (/^\w[\w.-]{0,62}$/.test(manager)) return;
  throw new KatamariError('bad_request', `"${manager}" is not a valid manager name; see katamari status`);
}

function describeCopies(count: number): string {
  return `${count} ${count === 1 ? 'copy' : 'copies'}`;
}

function contentionError(id: string): KatamariError {
  return new KatamariError(
    'bad_request',
    `${id} was changed by other clients ${ATTEMPTS_MAX} times in a row; try again`,
  );
}

function ignore(): void {}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Limit of deployments in one order. */
const DEPLOYMENTS_MAX = 10_000;
const COUNT_MAX = 10_000;
/** Attempts of a change that concurrent changes overtake. */
const ATTEMPTS_MAX = 10;
/** Names in one message. */
const NAMES_MAX = 20;

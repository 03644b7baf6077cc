// The wanted state of the mesh as admins write it into Consul: deployments, and the managers that are to run nothing.
// The leader reads the same
import { KatamariError } from '../../core/mod.ts';
import type { ConsulClient } from '../consul/mod.ts';
import {
  DEPLOYMENT,
  deploymentId,
  keysOf,
  readRecord,
  type Deployment,
  type EventLog,
  type Keys,
} from '../mesh/mod.ts';

// keys and acts on them; nothing here starts anything. Each write depends on what was read before it, so of two
// admins at the same moment one is told to look again. A document is at most what Consul takes in one value.

import { isDeepStrictEqual } from 'node:util';
export type DeployOutcome = 'created' | 'changed' | 'unchanged';

export interface DeploymentStoreOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  readonly events: EventLog;
}

/** What was found under the key of a deployment. */
interface StoredDeployment {
  /** Undefined when it makes no sense. */
  readonly deployment: Deployment | undefined;
  readonly why: string;
  readonly modifyIndex: number;
}

/** Each method may also throw ConsulError: Consul does not answer, or refuses. */
export class DeploymentStore {
  readonly #options: DeploymentStoreOptions;
  readonly #keys: Keys;

  constructor(options: DeploymentStoreOptions) {
    this.#options = options;
    this.#keys = keysOf(options.mesh);
  }

  /** By service, then version as text. Documents that make no sense are left out; the leader reports them. */
  async list(): Promise<Deployment[]> {
    const { entries } = await this.#options.client.list(this.#keys.deployments);
    return entries
      .map(({ key, value }) => ({ key, deployment: readRecord(DEPLOYMENT, value) }))
      .filter((one): one is { key: string; deployment: Deployment } => !(one.deployment instanceof Error))
      .filter(({ key, deployment }) => key === this.#keyOf(deployment.service, deployment.version))
      .map(({ deployment }) => deployment)
      .sort((a, b) => compare(a.service, b.service) || compare(a.version, b.version));
  }

  /** @throws KatamariError bad_request: too large, or somebody else changed it at the same moment */
  async put(deployment: Deployment): Promise<DeployOutcome> {
    const { service, version } = deployment;
    const id = deploymentId(deployment);
    const before = await this.#find(service, version);
    if (before?.deployment !== undefined && isDeepStrictEqual(before.deployment, deployment)) return 'unchanged';
    if (before === undefined) await this.#checkRoom(id);
    if (!(await this.#write(deployment, before?.modifyIndex ?? 0))) {
      throw new KatamariError(
        'bad_request',
        `Somebody else changed ${id} at the same moment, and this change was not made; look at it and say it again`,
      );
    }
    const what = before?.deployment === undefined ? '' : describeChange(before.deployment, deployment);
    this.#tell(id, before === undefined ? `new, ${describeCopies(deployment.count)}` : what || 'repaired');
    return before === undefined ? 'created' : 'changed';
  }

  /** Changes the count alone, whatever else is being changed meanwhile. @throws KatamariError no_pool, bad_request */
  async scale(service: string, version: string, count: number): Promise<Deployment> {
    if (!Number.isInteger(count) || count < 0 || count > COUNT_MAX)
      throw new KatamariError('bad_request', `The count is ${count}, expected a whole number, 0 to ${COUNT_MAX}`);
    const id = deploymentId({ service, version });
    for (let tries = 1; tries <= TRIES_MAX; tries++) {
      const found = await this.#find(service, version);
      if (found === undefined) throw await this.#unknown(service, version);
      if (found.deployment === undefined) {
        throw new KatamariError(
          'bad_request',
          `What Consul has of ${id} makes no sense (${found.why}); deploy it again with katamari deploy`,
        );
      }
      const { deployment } = found;
      if (deployment.count === count) return deployment;
      const scaled = { ...deployment, count };
      if (!(await this.#write(scaled, found.modifyIndex))) continue;
      this.#tell(id, describeChange(deployment, scaled));
      return scaled;
    }
    throw tooBusy(id);
  }

  /** False when there was no such deployment. */
  async remove(service: string, version: string): Promise<boolean> {
    const id = deploymentId({ service, version });
    for (let tries = 1; tries <= TRIES_MAX; tries++) {
      const found = await this.#find(service, version);
      if (found === undefined) return false;
      if (!(await this.#options.client.delete(this.#keyOf(service, version), { cas: found.modifyIndex }))) continue;
      this.#tell(id, 'taken away');
      return true;
    }
    throw tooBusy(id);
  }

  /**
   * The manager is to run nothing from now on, also after it was restarted.
   * @throws KatamariError no_pool when Consul knows no such manager
   */
  async drain(manager: string): Promise<void> {
    const { client, events } = this.#options;
    checkName(manager);
    const managers = await this.#managers();
    if (!managers.includes(manager)) {
      throw new KatamariError(
        'no_pool',
        `No manager of this mesh is called "${manager}"; there are ${managers.join(', ') || 'none'}`,
      );
    }
    const since = new Date().toISOString();
    // Already drained: it stays drained since then.
    if (await client.put(`${this.#keys.drained}${manager}`, JSON.stringify({ since }), { cas: 0 }))
      events.add('drained', manager, 'is to run nothing from now on');
  }

  /** Also of a manager that is not there now. */
  async undrain(manager: string): Promise<void> {
    const { client, events } = this.#options;
    checkName(manager);
    if (!(await this.drained()).includes(manager)) return;
    await client.delete(`${this.#keys.drained}${manager}`);
    events.add('drained', manager, 'no more: it may run copies again');
  }

  /** Names of the managers that are to run nothing. */
  async drained(): Promise<string[]> {
    return await this.#namesBelow(this.#keys.drained);
  }

  async #managers(): Promise<string[]> {
    return await this.#namesBelow(this.#keys.managers);
  }

  async #namesBelow(prefix: string): Promise<string[]> {
    const { entries } = await this.#options.client.list(prefix);
    return entries.map(({ key }) => key.slice(prefix.length)).sort(compare);
  }

  async #find(service: string, version: string): Promise<StoredDeployment | undefined> {
    checkSubject(service, version);
    const entry = await this.#options.client.get(this.#keyOf(service, version));
    if (entry === undefined) return undefined;
    const read = readRecord(DEPLOYMENT, entry.value);
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
        `The deployment ${deploymentId(deployment)} is ${Math.ceil(bytes / 1024)} KiB, limit is ${DOCUMENT_BYTES_MAX / 1024} KiB, which is what Consul keeps in one value; ` +
          'shorten its env, or take comments out of its IDL',
      );
    }
    return await this.#options.client.put(this.#keyOf(deployment.service, deployment.version), text, { cas });
  }

  async #checkRoom(id: string): Promise<void> {
    const count = (await this.list()).length;
    if (count < DEPLOYMENTS_MAX) return;
    throw new KatamariError(
      'bad_request',
      `Cannot deploy ${id}: the mesh has ${count} deployments, limit is ${DEPLOYMENTS_MAX}; take old versions away with katamari undeploy`,
    );
  }

  async #unknown(service: string, version: string): Promise<KatamariError> {
    const there = (await this.list()).map(deploymentId);
    const some = there.length > NAMES_MAX ? [...there.slice(0, NAMES_MAX), '...'] : there;
    return new KatamariError(
      'no_pool',
      `${service}@${version} is no deployment of the mesh; those are ${some.join(', ') || 'none'}`,
    );
  }

  #tell(id: string, text: string): void {
    this.#options.events.add('deployment_changed', id, text);
  }

  #keyOf(service: string, version: string): string {
    return `${this.#keys.deployments}${service}/${version}`;
  }
}

/** What differs, for people: `count 2 -> 4, env, command`; '' when nothing does. */
export function describeChange(before: Deployment, after: Deployment): string {
  return changedFields(before, after)
    .map((field) => (field === 'count' ? `count ${before.count} -> ${after.count}` : field))
    .join(', ');
}

/** Names of the fields that differ. */
export function changedFields(before: Deployment, after: Deployment): (keyof Deployment)[] {
  const names = Object.keys(after) as (keyof Deployment)[];
  return names.filter((name) => !isDeepStrictEqual(before[name], after[name]));
}

function checkSubject(service: string, version: string): void {
  // Both become parts of a key.
  if (/^[A-Za-z_][\w.]{0,199}$/.test(service) && /^\d[\w.+-]{0,99}$/.test(version)) return;
  throw new KatamariError(
    'bad_request',
    `"${service}@${version}" cannot be a deployment, expected Service@version such as Calculator@1.0.0`,
  );
}

function checkName(manager: string): void {
  if (/^\w[\w.-]{0,62}$/.test(manager)) return;
  throw new KatamariError('bad_request', `"${manager}" cannot be the name of a manager; see katamari status`);
}

function describeCopies(count: number): string {
  return `${count} ${count === 1 ? 'copy' : 'copies'}`;
}

function tooBusy(id: string): KatamariError {
  return new KatamariError(
    'bad_request',
    `${id} is being changed all the time by somebody else; try again in a moment`,
  );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Consul refuses larger values. */
const DOCUMENT_BYTES_MAX = 512 * 1024;
/** As many as an order may hold. */
const DEPLOYMENTS_MAX = 10_000;
const COUNT_MAX = 10_000;
/** A change that was overtaken is made again on what is there now. */
const TRIES_MAX = 10;
/** In one message. */
const NAMES_MAX = 20;

// Checks of what an operator asks of indices, and the words of the refusals.

import { indexIdOf, isVersionRange, type IndexRecord, type ManagerRecord } from '../mesh/mod.ts';
import { refused } from './admin-guard.ts';
import { type ContentChoice, hasContentService } from './placement.ts';

/** Reads `Lucene` or `Lucene@^1`. @throws ThriftException AdminRefused */
export function contentOf(text: string): ContentChoice {
  const [contentService = '', contentRange = ''] = text.split('@');
  if (/^[A-Za-z_][\w.]{0,199}$/.test(contentService) && isVersionRange(contentRange))
    return { contentService, contentRange };
  throw bad(`The content service is "${text}", expected a name, or one with a range of versions such as Lucene@^1`);
}

export function checkReplicas(replicas: number): void {
  if (replicas >= 1 && replicas <= REPLICAS_MAX) return;
  throw bad(`The number of replicas is ${replicas}, expected 1 to ${REPLICAS_MAX}`);
}

/**
 * Checks the managers that a version is to be kept on.
 * @param known the managers that are here
 * @param force also names that are not known, for managers that are off
 * @throws ThriftException AdminRefused
 */
export function checkPins(managers: readonly string[], known: readonly string[], force: boolean): void {
  if (managers.length > PINS_MAX) throw bad(`${managers.length} managers are named, the limit is ${PINS_MAX}`);
  const wrong = managers.find((name) => !/^[\w.-]{1,200}$/.test(name));
  if (wrong !== undefined) throw bad(`"${wrong}" cannot be the name of a manager`);
  const unknown = managers.filter((name) => !known.includes(name));
  if (unknown.length === 0 || force) return;
  const names = [...known].sort();
  const shown = names.length > NAMES_MAX ? [...names.slice(0, NAMES_MAX), '...'] : names;
  throw refused(
    'unknown_name',
    `No manager of this mesh is called ${unknown.map((name) => `"${name}"`).join(', ')}; there are ${shown.join(', ') || 'none'}. ` +
      'For a manager that is off, force the pin (--force)',
  );
}

/**
 * More replicas than there are managers for them are most likely a mistake in a new version.
 * @param able names of the managers that have the content service
 * @throws ThriftException AdminRefused
 */
export function checkManagers(record: IndexRecord, able: readonly string[]): void {
  const { replicas } = record;
  if (replicas <= able.length) return;
  const service = contentText(record);
  const have =
    able.length === 1 ? `only the manager ${able[0]} has ${service}` : `${able.length} managers have ${service}`;
  throw bad(
    `${replicas} replicas are wanted, and ${have}; start it on more managers, or add ${indexIdOf(record)} with --replicas ` +
      `${able.length} now, and more with katamari index replicate when they are there`,
  );
}

/** @throws ThriftException AdminRefused when a version is added again with something else */
export function checkSame(known: IndexRecord, asked: IndexRecord, replicas: number | undefined): void {
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

export function noContentService(content: ContentChoice, managers: ReadonlyMap<string, ManagerRecord>): Error {
  const { contentService } = content;
  const pools = [...managers.values()].flatMap((manager) => manager.pools);
  const others = pools.filter(({ service }) => service === contentService);
  const versions = [...new Set(others.map(({ version }) => version))].join(', ');
  const services = [...new Set(pools.map(({ service }) => service))].sort().slice(0, NAMES_MAX).join(', ');
  const deploy = `deploy it first${services === '' ? '' : `, or name one of the services here: ${services}`}`;
  const hint = versions === '' ? deploy : `versions here are ${versions}`;
  return bad(`No manager has a copy of the content service ${contentText(content)}; ${hint}`);
}

/** Whether a manager stays and has a living copy of the content service. */
export function runsContent({ pools, isDraining }: ManagerRecord, content: ContentChoice): boolean {
  const alive = pools.filter((pool) => pool.alive > 0);
  return !isDraining && hasContentService(alive, content);
}

/** `Lucene@^1` */
export function contentText({ contentService, contentRange }: ContentChoice): string {
  return contentRange === '' ? contentService : `${contentService}@${contentRange}`;
}

export function bad(why: string): Error {
  return refused('invalid', why);
}

const REPLICAS_MAX = 1_000;
const PINS_MAX = 1_000;
/** Names in one message. */
const NAMES_MAX = 20;

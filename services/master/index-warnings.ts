// What an operator should know about a change of an index that is carried out all the same, in words.

import { describeSize } from '../../core/mod.ts';
import { indexIdOf, type IndexRecord, type SourceFacts } from '../mesh/mod.ts';
import { contentText } from './index-checks.ts';
import type { ThriftIndexStatus } from './index-status.ts';

/**
 * Warns of more replicas than there are managers for them: others may join later.
 * @param holders names of the managers that may hold shards of the version
 */
export function replicaWarnings(record: IndexRecord, holders: readonly string[]): string[] {
  const { replicas, promoteAtReplicas, promotedAtMs, pinnedTo = [] } = record;
  if (holders.length >= replicas) return [];
  const warnings: string[] = [];
  if (pinnedTo.length > 0 && pinnedTo.length < replicas) {
    const pins = `it is pinned to ${managersText(pinnedTo.length)} (${namesText(pinnedTo)})`;
    warnings.push(`${wantedText(replicas)}, and ${pins}; pin it to more, or ask for fewer replicas`);
  }
  if (pinnedTo.length === 0 || holders.length < Math.min(replicas, pinnedTo.length)) {
    const have = haveText(holders, contentText(record), pinnedTo);
    warnings.push(`${wantedText(Math.min(replicas, pinnedTo.length || replicas))}, and ${have}; ${LATER}`);
  }
  if (promoteAtReplicas > holders.length && promotedAtMs === 0) {
    const how = `katamari index promote ${indexIdOf(record)}`;
    warnings.push(
      `until each shard has ${promoteAtReplicas} ${promoteAtReplicas === 1 ? 'replica' : 'replicas'}, it gets no calls that name no version; promote it with ${how}`,
    );
  }
  return warnings;
}

/**
 * Warns of a shard that is larger than what any manager has left on its disk: the leader places it nowhere.
 * @param freeBytes disk left for shards by name of the manager that may hold them; of those that have told it
 */
export function spaceWarnings(
  record: IndexRecord,
  shards: SourceFacts['shards'],
  freeBytes: ReadonlyMap<string, number | undefined>,
): string[] {
  const known = [...freeBytes].flatMap(([name, free]) => (free === undefined ? [] : [{ name, free }]));
  const [emptiest] = known.sort((a, b) => b.free - a.free);
  if (emptiest === undefined || known.length < freeBytes.size) return [];
  const tooLarge = shards.filter(({ bytes }) => bytes > emptiest.free);
  const [largest] = [...tooLarge].sort((a, b) => b.bytes - a.bytes);
  if (largest === undefined) return [];
  const what = tooLarge.length === 1 ? `the shard ${largest.name} is` : `${tooLarge.length} shards are`;
  const size = tooLarge.length === 1 ? describeSize(largest.bytes) : `up to ${describeSize(largest.bytes)}`;
  const have = `no manager with ${contentText(record)} has more than ${describeSize(emptiest.free)} of disk left for shards`;
  return [`${what} ${size} large, and ${have} (${emptiest.name}); free space there, or split the shards`];
}

/**
 * Warns when a version that gets the calls has less than the one before, or is not whole.
 * @param before the version that got most of the calls; undefined when it is this one, or none did
 */
export function promotionWarnings(before: ThriftIndexStatus | undefined, now: ThriftIndexStatus): string[] {
  const warnings: string[] = [];
  const { name, version, served, shards, replicas, replicasServed } = now;
  const compared = before === undefined ? '' : `${version} has fewer than ${before.version}`;
  if (before !== undefined && now.entries < before.entries)
    warnings.push(`entries ${changeText(before.entries, now.entries)}: ${compared}`);
  if (before !== undefined && replicas < before.replicas)
    warnings.push(
      `replicas ${changeText(before.replicas, replicas)}: ${compared}; ` +
        `katamari index replicate ${name}@${version} ${before.replicas} asks for as many`,
    );
  if (before !== undefined && now.contentService !== before.contentService)
    warnings.push(`content service ${before.contentService} -> ${now.contentService}: its methods may differ`);
  if (served < shards)
    warnings.push(
      `${served} of ${shards} shards are served: calls fail until the others are, except with a lower minCoverage`,
    );
  else if (replicasServed < replicas)
    warnings.push(`${name}@${version} is degraded: some shard has ${replicasServed} of ${replicas} replicas`);
  return warnings;
}

/** `1.2M -> 0.8M`; exact where the short forms are equal. */
function changeText(before: number, now: number): string {
  const [from, to] = [before, now].map((count) => shortCount(count, Math.max(before, now)));
  return from === to ? `${before} -> ${now}` : `${from} -> ${to}`;
}

/** In the unit of the larger of two counts. */
function shortCount(count: number, largest: number): string {
  if (largest < 10_000) return String(count);
  return largest < 1_000_000 ? `${(count / 1_000).toFixed(1)}k` : `${(count / 1_000_000).toFixed(1)}M`;
}

function wantedText(replicas: number): string {
  return replicas === 1 ? '1 replica is wanted' : `${replicas} replicas are wanted`;
}

function haveText(holders: readonly string[], service: string, pinnedTo: readonly string[]): string {
  const of = pinnedTo.length === 0 ? '' : ` of those that it is pinned to (${namesText(pinnedTo)})`;
  if (holders.length === 0) return `no manager${of} has ${service}`;
  return holders.length === 1
    ? `only the manager ${holders[0]}${of} has ${service}`
    : `only ${holders.length} managers${of} have ${service} (${namesText(holders)})`;
}

function managersText(count: number): string {
  return count === 1 ? '1 manager' : `${count} managers`;
}

function namesText(names: readonly string[]): string {
  return (names.length > NAMES_MAX ? [...names.slice(0, NAMES_MAX), '...'] : names).join(', ');
}

const LATER = 'the others are placed when more managers can hold them';
const NAMES_MAX = 10;

// What an operator should know about a change of an index that is carried out all the same, in words.

import { indexIdOf, type IndexRecord } from '../mesh/mod.ts';
import { contentText } from './index-checks.ts';

/**
 * Warns of more replicas than there are managers for them: others may join later.
 * @param holders names of the managers that may hold shards of the version
 */
export function replicaWarnings(record: IndexRecord, holders: readonly string[]): string[] {
  const { replicas, promoteAtReplicas, promotedAtMs } = record;
  if (holders.length >= replicas) return [];
  const warnings = [`${wantedText(replicas)}, and ${haveText(holders, contentText(record))}; ${LATER}`];
  if (promoteAtReplicas > holders.length && promotedAtMs === 0) {
    const how = `katamari index promote ${indexIdOf(record)}`;
    warnings.push(
      `until each shard has ${promoteAtReplicas} replicas, it gets no calls that name no version; promote it with ${how}`,
    );
  }
  return warnings;
}

function wantedText(replicas: number): string {
  return replicas === 1 ? '1 replica is wanted' : `${replicas} replicas are wanted`;
}

function haveText(holders: readonly string[], service: string): string {
  const shown = holders.length > NAMES_MAX ? [...holders.slice(0, NAMES_MAX), '...'] : holders;
  if (holders.length === 0) return `no manager has ${service}`;
  return holders.length === 1
    ? `only the manager ${shown[0]} has ${service}`
    : `only ${holders.length} managers have ${service} (${shown.join(', ')})`;
}

const LATER = 'the others are placed when more managers can hold them';
const NAMES_MAX = 10;

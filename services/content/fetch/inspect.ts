// Lists a source for the operator who adds it.

import type { SourceListing } from './job.ts';
import { listSource } from './source-listing.ts';
import type { ShardSource } from './shard-source.ts';

/** @throws SourceError that says what to change */
export async function inspect(source: string, reader: ShardSource): Promise<SourceListing> {
  const shards = await listSource(source, reader);
  const warnings: string[] = [];
  const empty = shards.filter(({ bytes }) => bytes === 0).map(({ name }) => name);
  if (empty.length > 0) warnings.push(`${some(empty)}: without a byte; a content server may refuse an empty shard`);
  const youngestMs = youngestStamp(shards.flatMap(({ files }) => files.map(({ stamp }) => stamp)));
  const mayBeWritten = reader.finishedAtMs !== undefined && Date.now() - youngestMs < YOUNG_MS;
  // A file that is younger than the mark was written after it.
  if (mayBeWritten && youngestMs > ((await reader.finishedAtMs?.(source)) ?? 0))
    warnings.push('files have changed in the last seconds; a shard that is still written cannot be fetched');
  return { shards: shards.map(({ name, bytes, digest }) => ({ name, bytes, digest })), warnings };
}

function some(names: readonly string[]): string {
  const more = names.length > NAMES_SHOWN ? ` and ${names.length - NAMES_SHOWN} more` : '';
  return `${names.slice(0, NAMES_SHOWN).join(', ')}${more}`;
}

function youngestStamp(stamps: readonly string[]): number {
  return stamps.reduce((max, stamp) => Math.max(max, Number(stamp) || 0), 0);
}

const NAMES_SHOWN = 3;
const YOUNG_MS = 5_000;

// The table of index versions, as `katamari index list` and `katamari status` print it.

import { describeSize } from '../../../core/mod.ts';
import type { IndexStateName, IndexSummary } from './index-client.ts';
import type { Color, Column } from './terminal.ts';

const STATE_COLORS: Readonly<Record<IndexStateName, Color>> = {
  LOADING: 'yellow',
  COMPLETE: 'green',
  DEGRADED: 'yellow',
  INCOMPLETE: 'red',
};

const COLUMNS: readonly Column<IndexSummary>[] = [
  { head: 'INDEX', text: ({ name, version }) => `${name}@${version}` },
  { head: 'STATE', text: ({ state }) => state.toLowerCase(), color: ({ state }) => STATE_COLORS[state] },
  { head: 'SHARDS', isNumber: true, text: ({ served, shards }) => `${served}/${shards}` },
  { head: 'REPLICAS', isNumber: true, text: ({ replicasServed, replicas }) => `${replicasServed}/${replicas}` },
  { head: 'ENTRIES', isNumber: true, text: ({ entries }) => String(entries), dropOrder: 1 },
  { head: 'SIZE', isNumber: true, text: ({ bytes }) => describeSize(bytes), dropOrder: 1 },
  { head: 'CALLS', isNumber: true, text: ({ share }) => `${Math.round(share * 100)}%` },
  { head: 'SERVICE', text: ({ contentService }) => contentService, dropOrder: 2 },
];

/** The columns; PINNED only when some version is. */
export function indexColumns(indices: readonly IndexSummary[]): readonly Column<IndexSummary>[] {
  if (indices.every(({ pinnedTo }) => pinnedTo.length === 0)) return COLUMNS;
  return [...COLUMNS, { head: 'PINNED', text: ({ pinnedTo }) => pinnedTo.join(' ') || '-', dropOrder: 3 }];
}

/** How many managers may hold its shards. */
export function holdersText({ holders }: IndexSummary): string {
  if (holders === 0) return 'no manager can hold it';
  return holders === 1 ? '1 manager can hold it' : `${holders} managers can hold it`;
}

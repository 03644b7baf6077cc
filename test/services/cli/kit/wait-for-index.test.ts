// What `katamari index add` shows while it waits.
import { describe, expect, test } from 'vitest';
import type { IndexClient, IndexSummary } from '../../../../services/cli/kit/index-client.ts';
import type { Terminal } from '../../../../services/cli/kit/terminal.ts';
import { waitForIndex } from '../../../../services/cli/kit/wait-for-index.ts';

const WIKI = { name: 'wiki', version: '1.0.0' };
const REFUSED = 'wiki@1.0.0/b on m1: Words@1.0.0/1 refused it: words.txt has version 9';

function stateOf(served: number, conditions: readonly string[], change: Partial<IndexSummary> = {}): IndexSummary {
  const state = served === 2 ? 'COMPLETE' : 'LOADING';
  const counts = { shards: 2, served, replicas: 1, replicasServed: 0, holders: 1, bytesDone: 0, bytesWanted: 0 };
  return { ...WIKI, ...counts, state, conditions, ...change } as IndexSummary;
}

/** What is written to a pipe while the index goes through these states. */
async function writtenFor(...states: readonly IndexSummary[]): Promise<string[]> {
  const left = [...states];
  const client = { status: () => Promise.resolve([left.length > 1 ? left.shift() : left[0]]) };
  let written = '';
  const terminal = { isScreen: false, columns: () => 80, write: (text: string) => (written += text) };
  await waitForIndex(terminal as unknown as Terminal, client as unknown as IndexClient, WIKI, 60_000);
  return written.split('\n').slice(0, -1);
}

describe('waitForIndex()', () => {
  test('shows once why a shard is refused, however often it is tried', async () => {
    const written = await writtenFor(
      stateOf(1, [`${REFUSED} (1 try)`]),
      stateOf(1, [`${REFUSED} (2 tries)`]),
      stateOf(1, [`${REFUSED} (3 tries)`, 'wiki@1.0.0/b on m2: its disk is full (1 try)']),
      stateOf(2, []),
    );
    expect(written).toEqual([
      'wiki@1.0.0 loading: 1 of 2 shards served',
      `  ${REFUSED}`,
      '  wiki@1.0.0/b on m2: its disk is full',
      'wiki@1.0.0 complete: 2 of 2 shards served',
    ]);
  });

  test('does not end with all that fits before the leader has recorded it', async () => {
    const all = { replicas: 2, replicasServed: 1 };
    const written = await writtenFor(
      stateOf(2, [], { ...all, state: 'LOADING' }),
      stateOf(2, [], { ...all, state: 'DEGRADED' }),
    );
    expect(written).toEqual([
      'wiki@1.0.0 loading: 2 of 2 shards served',
      'wiki@1.0.0 degraded: 2 of 2 shards served',
      expect.stringContaining('wiki@1.0.0 has 1 of 2 replicas'),
    ]);
  });
});

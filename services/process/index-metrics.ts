// The metrics of indices: `katamari_gather_*` of the calls that this process gathers, `katamari_index_*` of what it
// sees of each version, `katamari_shards` and `katamari_fetch*` of what its manager holds. A mesh without indices has
// none of them.

import type { MetricFamily } from '../../faceplates/stats/mod.ts';
import { GATHER_RESULTS, type Gatherer } from '../gather/mod.ts';
import type { ManagerRole } from './manager-role.ts';

type Samples = MetricFamily['samples'];

/** @param own the manager of this process */
export function indexFamilies(gatherer: Gatherer, own: ManagerRole | undefined): readonly MetricFamily[] {
  const { records } = gatherer;
  const held = own?.replicas('') ?? [];
  if (records.size === 0 && held.length === 0) return [];
  const { requests, missing, calls } = gatherer.counts;
  const methods = [...calls].flatMap(([id, own]) => [...own].map(([method, results]) => ({ id, method, results })));
  const versions = [...records].slice(0, SERIES_MAX);
  return [
    {
      name: 'katamari_gather_calls_total',
      type: 'counter',
      help: 'Calls of an index that this process gathered, by result.',
      samples: methods.slice(0, SERIES_MAX).flatMap(({ id, method, results }) =>
        // Zeros too: a series that appears with its first failure hides it from rate().
        GATHER_RESULTS.map((result) => ({ labels: { ...labelsOf(id), method, result }, value: results[result] })),
      ),
    },
    {
      name: 'katamari_gather_requests_total',
      type: 'counter',
      help: 'Requests to managers for gathered calls: first ones, retries, and hedges to a second manager.',
      samples: by('kind', requests),
    },
    {
      name: 'katamari_gather_missing_shards_total',
      type: 'counter',
      help: 'Shards that were missing in the answer of a gathered call, by reason.',
      samples: Object.entries(missing).map(([lack, value]) => ({ labels: { lack: snakeCase(lack) }, value })),
    },
    {
      name: 'katamari_index_shards',
      type: 'gauge',
      help: 'Shards of an index version.',
      samples: versions.map(([id, { shards }]) => ({ labels: labelsOf(id), value: shards })),
    },
    {
      name: 'katamari_index_shards_served',
      type: 'gauge',
      help: 'Shards of an index version that a manager serves that this process can reach.',
      samples: versions.map(([id]) => ({ labels: labelsOf(id), value: gatherer.servedShards(id) })),
    },
    ...(own === undefined ? [] : managerFamilies(own, held)),
  ];
}

function managerFamilies(own: ManagerRole, held: ReturnType<ManagerRole['replicas']>): readonly MetricFamily[] {
  const byVersion = new Map<string, Record<string, number>>();
  for (const { shard, state } of held) {
    const id = shard.slice(0, shard.indexOf('/'));
    const states = byVersion.get(id) ?? Object.fromEntries(REPLICA_STATES.map((one) => [one, 0]));
    states[state] = (states[state] ?? 0) + 1;
    byVersion.set(id, states);
  }
  const { bytes, running, waiting } = own.fetches();
  const { damaged, checks, checkedBytes } = own.checks();
  return [
    {
      name: 'katamari_shards',
      type: 'gauge',
      help: 'Shards that this manager is to hold, by state.',
      samples: [...byVersion]
        .slice(0, SERIES_MAX)
        .flatMap(([id, states]) =>
          by('state', states).map(({ labels, value }) => ({ labels: { ...labelsOf(id), ...labels }, value })),
        ),
    },
    {
      name: 'katamari_fetch_bytes_total',
      type: 'counter',
      help: 'Bytes of shards that this manager has fetched.',
      samples: [{ labels: {}, value: bytes }],
    },
    {
      name: 'katamari_fetches',
      type: 'gauge',
      help: 'Fetches of shards that run, and those that wait for their turn.',
      samples: by('state', { running, waiting }),
    },
    {
      name: 'katamari_shards_damaged_total',
      type: 'counter',
      help: 'Shards whose files this manager has found damaged, withdrawn and fetched again.',
      samples: [{ labels: {}, value: damaged }],
    },
    {
      name: 'katamari_shard_checks_total',
      type: 'counter',
      help: 'Checks of the files of a shard against their SHA-256, by result.',
      samples: by('result', checks),
    },
    {
      name: 'katamari_shard_check_bytes_total',
      type: 'counter',
      help: 'Bytes of shards that these checks have read.',
      samples: [{ labels: {}, value: checkedBytes }],
    },
  ];
}

function by(label: string, values: Readonly<Record<string, number>>): Samples {
  return Object.entries(values).map(([name, value]) => ({ labels: { [label]: name }, value }));
}

function labelsOf(id: string): { readonly index: string; readonly version: string } {
  const at = id.indexOf('@');
  return { index: id.slice(0, at), version: id.slice(at + 1) };
}

/** `timedOut` as `timed_out`. */
function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** See the replica in services/content. */
const REPLICA_STATES = ['fetching', 'opening', 'serving', 'leaving', 'backing_off'];
/** Series by index version; the first ones are shown. */
const SERIES_MAX = 500;

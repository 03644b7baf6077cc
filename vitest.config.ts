import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** These take longest. They start first, so that a run does not end with one of them alone. */
const LONGEST = [
  'acceptance/matrix',
  'acceptance/large-values',
  'acceptance/quotas',
  'http/fast-path',
  'json-rpc/sums',
  'fuzz/fuzz',
  'cluster/rest',
  'cluster/consul-away',
  'cluster/chaos',
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ moduleId }: TestSpecification): boolean =>
      LONGEST.some((name) => moduleId.endsWith(`${name}.test.ts`));
    const sorted = await super.sort(files);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Real processes, sockets and waits: four files at a time keep two cores busy.
    maxWorkers: 4,
    pool: 'forks',
    // Longer than a wait for a fact (test/kit/tools/wait.ts), whose error says more.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // The summary at the end of a run has only the messages of failures, so these show whole values.
    chaiConfig: { truncateThreshold: 4_000 },
    sequence: { sequencer: LongestFirst },
  },
}) as object;

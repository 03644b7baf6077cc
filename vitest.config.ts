import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Real processes, sockets and waits: three files at a time keep two cores busy.
    maxWorkers: 3,
    pool: 'forks',
    testTimeout: 20_000,
    hookTimeout: 30_000,
  },
}) as object;

// What a cluster says when a test fails: the end of every log, and what Consul has of masters and sessions.

import { afterEach } from 'vitest';
import { runtimeName } from '../../../core/mod.ts';
import type { Cluster } from './cluster.ts';

/** Prints the state of the cluster after each test of this file that fails. Bun does not tell hooks that one has. */
export function reportFailures(clusterOf: () => Cluster | undefined): void {
  if (runtimeName() === 'bun') return;
  afterEach(async ({ task }) => {
    const cluster = clusterOf();
    if (task.result?.state !== 'fail' || cluster === undefined) return;
    for (const process of cluster.processes) {
      const state = process.isRunning ? `runs as ${process.pid}` : 'does not run';
      console.log(`-- ${process.name} ${state}\n${process.lastLines(LINES)}`);
    }
    for (const path of ASKED) console.log(`-- Consul ${path}\n${await answerOf(cluster, path)}`);
  }, REPORT_MS);
}

async function answerOf(cluster: Cluster, path: string): Promise<string> {
  try {
    const response = await cluster.consul.ask(path);
    return `${response.status} ${await response.text()}`;
  } catch (error) {
    return String(error);
  }
}

const ASKED = ['/v1/kv/katamari/test/leader?consistent', '/v1/kv/katamari/test/masters?recurse', '/v1/session/list'];
const LINES = 15;
const REPORT_MS = 60_000;

// Quotas of the access policy as clients see them: on every port, in the metrics, in `katamari access explain`, and a
// quiet client beside a noisy one.

import { execFile, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect } from '../../client/mod.ts';
import { scriptCommand } from '../../core/mod.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { work } from '../kit/mesh/mesh.ts';
import { readMetrics, sumOf } from '../kit/mesh/metrics.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { until } from '../kit/tools/wait.ts';

const run = promisify(execFile);
const COPIES = 4;
const CALL_MS = 40;
const QUIET_CALLS = 40;
const TOKENS = { quiet: randomBytes(24).toString('hex'), noisy: randomBytes(24).toString('hex') };

let mesh: MeshProcess;

beforeAll(async () => {
  const tokens = Object.entries(TOKENS).map(([name, token]) => ({
    name,
    sha256: createHash('sha256').update(token).digest('hex'),
  }));
  mesh = await startMeshProcess({ settings: { access: { tokens } }, deployments: [work({ count: COPIES })] });
});

afterAll(async () => {
  await mesh?.end();
});

/** Runs a command of the CLI against the mesh. Returns its output. */
async function katamari(...args: string[]): Promise<string> {
  const [program = '', ...before] = scriptCommand(path.join(REPOSITORY, 'services/cli/main.ts'));
  const env = { ...process.env, KATAMARI_TOKEN: mesh.adminToken, KATAMARI_URL: mesh.addresses.jsonRpc, NO_COLOR: '1' };
  const { stdout } = await run(program, [...before, ...args], { env });
  return stdout;
}

async function apply(policy: string): Promise<void> {
  const file = path.join(mesh.directory, 'policy.yaml');
  writeFileSync(file, policy);
  await katamari('access', 'apply', file);
}

const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` });

async function quotaCalls(labels: Readonly<Record<string, string>>): Promise<number> {
  const text = await (await fetch(`${mesh.addresses.stats}/metrics`)).text();
  return sumOf(readMetrics(text), 'katamari_quota_calls_total', labels);
}

describe('A quota', () => {
  test('refuses calls with the time until the next one, over JSON-RPC and Thrift, and spares other callers', async () => {
    await apply('quotas: [{ name: slow, who: noisy, calls: Work.say, rate: 2/min }]');
    const say = (token: string) => mesh.call('Work.say', { text: 'hello' }, bearer(token));
    for (let n = 0; n < 2; n++) expect(await say(TOKENS.noisy)).toMatchObject({ status: 200, result: 'hello' });
    const refused = await say(TOKENS.noisy);
    expect(refused).toMatchObject({ status: 429, error: { code: -32007, data: { code: 'rate_limited' } } });
    expect(refused.error?.message).toMatch(
      /^This caller has reached the rate of quotas\[0\] \(line 1\) of the access policy: 2\/min \(2 at once\); try again in \d+ ms$/,
    );
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(20);
    expect(Number(refused.error?.data?.['retryAfterMs'])).toBeGreaterThan(20_000);

    const client = connect({ addresses: mesh.addresses.thrift, token: TOKENS.noisy });
    // What was used on one port counts on the others.
    await expect(client.service('Work')['say']?.({ text: 'hello' })).rejects.toMatchObject({
      code: 'rate_limited',
      facts: { notRun: true, retryAfterMs: expect.any(Number) as number },
    });
    expect(await client.service('Work')['pid']?.()).toBeGreaterThan(0);
    client.close();
    for (let n = 0; n < 5; n++) expect(await say(TOKENS.quiet)).toMatchObject({ status: 200 });

    expect(await quotaCalls({ quota: 'slow', result: 'allowed' })).toBe(2);
    expect(await quotaCalls({ quota: 'slow', result: 'rate' })).toBeGreaterThanOrEqual(2);
  });

  test('is explained, and an exceeded one is an event', async () => {
    expect(await katamari('access', 'explain', 'noisy', 'Work.say')).toBe(
      'allowed: version 1 of the policy has no rules, so it allows everything; quotas[0] (line 1) limits it to 2/min (2 at once)\n',
    );
    expect(await katamari('access', 'explain', 'quiet', 'Work.say')).not.toContain('quotas');
    expect(await katamari('events')).toMatch(/limited +token noisy slow: reached its rate: 2\/min \(2 at once\)/);
  });
});

describe('A quiet client beside a noisy one', () => {
  /** Latency in ms of each of some calls, one after the other. */
  async function latencies(): Promise<number[]> {
    const client = connect({ addresses: mesh.addresses.thrift, token: TOKENS.quiet });
    const take = async (ms: number): Promise<unknown> => client.service('Work')['take']?.({ ms });
    await take(1);
    const found: number[] = [];
    for (let n = 0; n < QUIET_CALLS; n++) {
      const startMs = performance.now();
      await take(CALL_MS);
      found.push(performance.now() - startMs);
    }
    client.close();
    return found;
  }

  /**
   * The p99 of the quiet client beside the noisy one, divided by its p99 alone, measured in turns. The median of the
   * rounds, because the machine has other work too.
   */
  async function compare(rounds: number, how = ''): Promise<{ ratio: number; noisy: Record<string, number> }> {
    const ratios: number[] = [];
    const counts: Record<string, number> = {};
    for (let round = 0; round < rounds; round++) {
      const alone = await latencies();
      const noisy = startNoisy(how);
      await noisy.isCalling;
      const beside = await latencies();
      for (const [result, count] of Object.entries(await noisy.stop())) counts[result] = (counts[result] ?? 0) + count;
      ratios.push(p99(beside) / p99(alone));
    }
    return { ratio: median(ratios), noisy: counts };
  }

  function startNoisy(how: string): { isCalling: Promise<void>; stop: () => Promise<Record<string, number>> } {
    const [program = '', ...before] = scriptCommand(path.join(REPOSITORY, 'test/fixtures/client/noisy.ts'));
    const args = [mesh.addresses.thrift, TOKENS.noisy, '32', 'Work.take', JSON.stringify({ ms: CALL_MS }), how];
    const child = spawn(program, [...before, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (part: string) => (text += part));
    const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
    return {
      isCalling: until('the noisy client to call', async () => {
        const { pools } = await mesh.status();
        return pools.some(({ alive, free }) => alive - free >= COPIES - 1);
      }).then(() => undefined),
      stop: async () => {
        child.kill('SIGTERM');
        await ended;
        return JSON.parse(text) as Record<string, number>;
      },
    };
  }

  test('with a quota of concurrency is answered as fast as alone', async () => {
    await apply('quotas: []\nrules: [{ who: ["*", anonymous], may: "*" }]');
    const fair = await compare(3);
    await apply(`quotas: [{ name: rest, who: noisy, concurrency: ${COPIES - 1} }]`);
    const limited = await compare(7, 'pauses');
    const flooded = await compare(3);
    console.log(
      `p99 of the quiet client, of alone: ${limited.ratio.toFixed(2)} with a quota (noisy: ${JSON.stringify(limited.noisy)}), ` +
        `${flooded.ratio.toFixed(2)} if the noisy one calls on without a pause (${JSON.stringify(flooded.noisy)}), ` +
        `${fair.ratio.toFixed(2)} in the fair queue without a quota (${JSON.stringify(fair.noisy)})`,
    );
    expect(limited.noisy['rate_limited']).toBeGreaterThan(100);
    expect(flooded.noisy['rate_limited']).toBeGreaterThan(1_000);
    // Without a pause the refusals take all of a processor, which the quiet client's machine needs too.
    expect(limited.ratio).toBeLessThan(1.5);
  }, 180_000);
});

function p99(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.ceil(values.length * 0.99) - 1] ?? Number.NaN;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

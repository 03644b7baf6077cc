// The web faceplate in a whole mesh: real chassis and links, crashes and shutdown.

import { afterEach, describe, expect, test } from 'vitest';
import { fixture, startTestMesh, type TestMesh } from '../kit/mesh/mesh.ts';
import { rawClient } from '../kit/wire/raw-http.ts';
import { DEFAULT_LIMITS } from '../../core/mod.ts';
import { until } from '../kit/tools/wait.ts';

const meshes: TestMesh[] = [];
afterEach(async () => {
  for (const mesh of meshes.splice(0)) await mesh.end();
});

async function start(
  change: Readonly<Record<string, unknown>> = {},
  settings: Readonly<Record<string, unknown>> = {},
): Promise<{ mesh: TestMesh; url: string }> {
  const deployment = { service: 'Web', version: '1.0.0', command: fixture('web.ts'), count: 1, ...change };
  const web = { port: 0, sites: [{ prefix: '/app', service: 'Web', timeout: '20s' }] };
  const mesh = await startTestMesh([deployment], { web, timeout: '20s', ...settings });
  meshes.push(mesh);
  await mesh.mesh.whenReady;
  return { mesh, url: `${mesh.mesh.addresses.web}/app` };
}

/** Counters that must add up whenever no call is in flight. */
function expectBalanced({ mesh }: TestMesh): void {
  const { accepted, replied, failed, refused, timed_out, cancelled } = mesh.status().calls;
  expect(replied + failed + refused + timed_out + cancelled).toBe(accepted);
}

describe('The web faceplate of a mesh', () => {
  test('passes bodies of the maximum size both ways, and refuses larger ones with an error', async () => {
    const { mesh, url } = await start();
    const limit = DEFAULT_LIMITS.frameBytesMax - 65_536;
    const bytes = Buffer.alloc(limit, 'Katamari ');
    const answer = await fetch(`${url}/echo`, { method: 'POST', body: bytes });
    expect([answer.status, Buffer.from(await answer.arrayBuffer()).equals(bytes)]).toEqual([200, true]);
    const over = await fetch(`${url}/make?${DEFAULT_LIMITS.frameBytesMax + 1}`);
    expect([over.status, await over.text()]).toEqual([413, expect.stringContaining('limit is 16777216') as string]);
    const after = await fetch(`${url}/echo`, { method: 'POST', body: 'still there' });
    expect(await after.text()).toBe('still there');
    expectBalanced(mesh);
  });

  test('answers 502 when the application dies, does not retry the request, and continues with the next copy', async () => {
    const { mesh, url } = await start({ count: 2 });
    const died = await fetch(`${url}/die`);
    expect(died.status).toBe(502);
    expect(await died.text()).toContain('failed while it worked on handle_request');
    expect(mesh.ledger().filter((line) => line.startsWith('die')).length).toBe(1);
    const next = await fetch(`${url}/echo`, { method: 'POST', body: 'alive' });
    expect([next.status, await next.text()]).toEqual([200, 'alive']);
    expectBalanced(mesh);
  });

  test('answers 504 at the deadline, 503 with Retry-After when the queue is full', async () => {
    const { mesh, url } = await start(
      { queue: { max: 1 } },
      { web: { port: 0, sites: [{ prefix: '/app', service: 'Web', timeout: '700ms' }] } },
    );
    const running = fetch(`${url}/take?5000`);
    await until('it to run', () => mesh.ledger().length === 1);
    const waiting = fetch(`${url}/echo`);
    await until('it to wait', () => mesh.pool('Web@1.0.0').queued === 1);
    const refused = await fetch(`${url}/echo`);
    expect(refused.status).toBe(503);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    await refused.text();
    expect([(await running).status, (await waiting).status]).toEqual([504, 504]);
    expectBalanced(mesh);
  });

  test('is in status, metrics and Consul', async () => {
    const { mesh, url } = await start();
    await (await fetch(`${url}/echo`)).text();
    const { listeners } = mesh.mesh.status();
    expect(listeners.find(({ name }) => name === 'web')?.address).toBe(mesh.mesh.addresses.web);
    const metrics = await (await fetch(`${mesh.mesh.addresses.stats}/metrics`)).text();
    expect(metrics).toMatch(/faceplate="web",service="Web",method="handle_request"/);
    await until('its entry in Consul', async () => {
      const [entry] = (await mesh.readConsul('catalog/service/katamari-web')) as { ServicePort: number }[];
      return entry !== undefined && mesh.mesh.addresses.web.endsWith(`:${entry.ServicePort}`);
    });
  });

  test('loses no request when the mesh drains under load', async () => {
    const { mesh, url } = await start({ count: 3 });
    const statuses: number[] = [];
    let isOver = false;
    const ask = async (): Promise<void> => {
      while (!isOver) {
        try {
          const answer = await fetch(`${url}/take?5`);
          await answer.arrayBuffer();
          statuses.push(answer.status);
          if (answer.status !== 200) isOver = true;
        } catch {
          // No further connection is accepted.
          isOver = true;
        }
      }
    };
    const asking = Array.from({ length: 8 }, ask);
    await until('some load', () => statuses.length > 50);
    await mesh.mesh.drain();
    await Promise.all(asking);
    expect(statuses.filter((status) => status !== 200 && status !== 503)).toEqual([]);
    expect(mesh.ledger().length).toBe(statuses.filter((status) => status === 200).length);
    expectBalanced(mesh);
  });

  test('refuses to start when the folder of a site does not exist, and names a port that is taken', async () => {
    const refusal = async (web: unknown): Promise<string> => {
      try {
        await start({}, { web });
      } catch (error) {
        return (error as Error).message;
      }
      return 'it started';
    };
    expect(await refusal({ port: 0, sites: [{ prefix: '/a', files: 'nowhere' }] })).toMatch(
      /^web\.sites: files of the site \/a is \/.*nowhere, which is not a directory; create it/,
    );
    const { mesh } = await start();
    const port = Number(new URL(mesh.mesh.addresses.web).port);
    expect(await refusal({ port, sites: [{ prefix: '/a', service: 'Web' }] })).toMatch(/EADDRINUSE|in use/);
    const client = await rawClient(port);
    client.destroy();
  });
});

// Health checks, status and events of the stats faceplate, over a real connection.

import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { MeshEvent, MeshStatus, PoolStatus } from '../../../core/rpc/mod.ts';
import type { StatsFaceplate } from '../../../faceplates/stats/faceplate.ts';
import type { MeshOverview } from '../../../faceplates/stats/overview.ts';
import { FakeMesh, madeFleet, madePool, madeProcess } from './fake-mesh.ts';

const mesh = new FakeMesh();
let faceplate: StatsFaceplate;

beforeAll(async () => {
  faceplate = await mesh.serve();
});

beforeEach(() => {
  mesh.change = {};
  mesh.pools = [
    madePool('Calculator', '1.0.0', ['busy', 'busy', 'idle', 'backing_off']),
    madePool('Calculator', '2.0.0', ['busy', 'starting']),
    madePool('Reformulate', '1.0.0', ['failed']),
  ];
});

afterAll(() => faceplate.close());

function get(path: string, init: RequestInit = {}): Promise<Response> {
  return fetch(`http://127.0.0.1:${faceplate.port}${path}`, init);
}

async function answer(path: string): Promise<[status: number, text: string]> {
  const response = await get(path);
  return [response.status, await response.text()];
}

describe('GET /status/Service/N', () => {
  test('is 200 when N resources are alive, busy ones included', async () => {
    expect(await answer('/status/Calculator/4')).toEqual([
      200,
      'Calculator: 4 alive (1 free, 3 busy), at least 4 required\n',
    ]);
  });

  test('is 200 for a pool that is busy to the last resource', async () => {
    mesh.pools = [madePool('Calculator', '1.0.0', ['busy', 'busy'], { queued: 64 })];
    expect(await answer('/status/Calculator/2')).toEqual([
      200,
      'Calculator: 2 alive (0 free, 2 busy), at least 2 required\n',
    ]);
  });

  test('is 503 when fewer are alive: starting, backing off and failed ones do not count', async () => {
    expect(await answer('/status/Calculator/5')).toEqual([
      503,
      'Calculator: 4 alive (1 free, 3 busy), at least 5 required\n',
    ]);
    expect((await answer('/status/Reformulate/1'))[0]).toBe(503);
  });

  test('counts only one version if it is given', async () => {
    expect((await answer('/status/Calculator@1.0.0/3'))[0]).toBe(200);
    expect((await answer('/status/Calculator@2.0.0/2'))[0]).toBe(503);
    expect((await answer('/status/Calculator%402.0.0/1'))[0]).toBe(200);
  });

  test('is 503 for a service without a pool, and lists the existing services', async () => {
    expect(await answer('/status/Nobody/1')).toEqual([
      503,
      'No pool offers Nobody; services here: Calculator, Reformulate\n',
    ]);
    expect((await answer('/status/Calculator@3.0.0/0'))[0]).toBe(503);
  });

  test('is 400 when N is not an integer', async () => {
    for (const bad of ['-1', '1.5', 'two', '1e3', '0x1', '12345678901234567890', '%20']) {
      const [status, said] = await answer(`/status/Calculator/${bad}`);
      expect([bad, status]).toEqual([bad, 400]);
      expect(said).toContain('expected a whole number');
    }
  });

  test('answers HEAD with the same status and no body', async () => {
    const response = await get('/status/Calculator/9', { method: 'HEAD' });
    expect([response.status, await response.text()]).toEqual([503, '']);
  });
});

describe('GET /readyz and /livez', () => {
  test('readyz is 200 when ready, and 503 with a note when not ready or draining', async () => {
    expect(await answer('/readyz')).toEqual([200, 'ready\n']);
    mesh.change = { isReady: false, note: 'Reformulate@2.0.0 has 0 of 4' };
    expect(await answer('/readyz')).toEqual([503, 'not ready: Reformulate@2.0.0 has 0 of 4\n']);
    mesh.change = { isDraining: true };
    expect(await answer('/readyz')).toEqual([503, 'draining\n']);
  });

  test('livez is 200 in each of these cases', async () => {
    mesh.change = { isReady: false, isDraining: true };
    expect(await answer('/livez')).toEqual([200, 'alive\n']);
  });
});

describe('GET /status', () => {
  test('is the whole status as JSON', async () => {
    const status = (await (await get('/status')).json()) as MeshStatus;
    expect(status.mesh).toBe('tests');
    expect(status.pools).toEqual(mesh.pools);
  });

  test('of a service is its pools and their sums', async () => {
    const seen = (await (await get('/status/Calculator')).json()) as {
      alive: number;
      free: number;
      pools: PoolStatus[];
    };
    expect([seen.alive, seen.free]).toEqual([4, 1]);
    expect(seen.pools.map(({ id }) => id)).toEqual(['Calculator@1.0.0', 'Calculator@2.0.0']);
    const one = (await (await get('/status/Calculator@2.0.0')).json()) as { pools: PoolStatus[] };
    expect(one.pools.map(({ id }) => id)).toEqual(['Calculator@2.0.0']);
  });

  test('of a service without a pool is 404', async () => {
    expect(await answer('/status/Nobody')).toEqual([404, 'No pool offers Nobody; GET /status lists all pools\n']);
  });
});

describe('GET /mesh', () => {
  async function overview(of: FakeMesh): Promise<MeshOverview> {
    const asked = await of.serve();
    try {
      return (await (await fetch(`http://127.0.0.1:${asked.port}/mesh`)).json()) as MeshOverview;
    } finally {
      await asked.close();
    }
  }

  test('merges the pools of all managers, with the manager of each resource and a note for an unreachable manager', async () => {
    const { pools } = await overview(madeFleet());
    expect(pools.map(({ id, managers }) => [id, managers])).toEqual([
      ['Calculator@1.0.0', ['worker-1', 'worker-2']],
      ['Calculator@2.0.0', ['worker-2']],
      ['Reformulate@1.0.0', ['worker-1']],
      ['Search@1.0.0', ['worker-1', 'worker-2', 'worker-3']],
      ['Troublemaker@0.1.0', ['worker-3']],
    ]);
    const [calculator, , , search] = pools;
    expect(calculator).toMatchObject({ wanted: 5, alive: 4, free: 1, queued: 12, ratePerS: 80, p50Ms: 3.5, p99Ms: 21 });
    expect(calculator?.resources.map(({ name, manager }) => `${name} ${manager}`)).toEqual([
      'Calculator@1.0.0/0 worker-1',
      'Calculator@1.0.0/1 worker-1',
      'Calculator@1.0.0/0 worker-2',
      'Calculator@1.0.0/1 worker-2',
      'Calculator@1.0.0/2 worker-2',
    ]);
    expect([search?.calls, search?.wanted, search?.note]).toEqual([
      100,
      8,
      'worker-3: manager worker-3 cannot be reached',
    ]);
  });

  test('lists each process once, with all its roles and the worst of their states', async () => {
    const made = madeFleet();
    made.processes = [
      madeProcess('a', 'master', 'host-a', { isLeader: true }),
      madeProcess('b', 'master', 'host-b'),
      madeProcess('a', 'manager', 'host-a', { capacity: 2, resources: 3 }),
      madeProcess('b', 'manager', 'host-b', { capacity: 1, resources: 4, state: 'unreachable' }),
      madeProcess('a', 'faceplate', 'host-a'),
      madeProcess('b', 'faceplate', 'host-c'),
    ];
    made.change = { name: 'a', leader: 'a', term: 7 };
    const seen = await overview(made);
    expect([seen.leader, seen.term]).toEqual(['a', 7]);
    expect(seen.processes).toEqual([
      {
        name: 'a',
        machine: 'host-a',
        stats: 'http://host-a.example:9081',
        roles: ['master', 'manager', 'faceplate'],
        state: 'up',
        capacity: 2,
        resources: 3,
        isLeader: true,
        isThis: true,
      },
      expect.objectContaining({ name: 'b', roles: ['master', 'manager'], state: 'unreachable', resources: 4 }),
      expect.objectContaining({ name: 'b', machine: 'host-c', roles: ['faceplate'], isThis: false }),
    ]);
  });

  test('equals /status when there is only one process', async () => {
    const { pools, processes, calls } = (await (await get('/mesh')).json()) as MeshOverview;
    expect(pools.map(({ id }) => id)).toEqual(mesh.pools.map(({ id }) => id));
    expect([processes, calls]).toEqual([[], mesh.status().calls]);
  });
});

describe('GET /events', () => {
  test('returns the events after the given number', async () => {
    mesh.happened.length = 0;
    for (const name of ['a', 'b', 'c']) mesh.happens('resource_ended', name, 'crashed', ['last words']);
    const all = (await (await get('/events')).json()) as { lastSeq: number; events: MeshEvent[] };
    expect([all.lastSeq, all.events.map(({ subject }) => subject)]).toEqual([3, ['a', 'b', 'c']]);
    expect(all.events[0]?.lines).toEqual(['last words']);
    const news = (await (await get('/events?after=2')).json()) as { lastSeq: number; events: MeshEvent[] };
    expect(news.events.map(({ subject }) => subject)).toEqual(['c']);
    expect(await (await get('/events?after=3')).json()).toEqual({ lastSeq: 3, events: [] });
  });

  test('is 400 when that is not a number', async () => {
    const [status, said] = await answer('/events?after=yesterday');
    expect([status, said]).toEqual([400, expect.stringContaining('"yesterday"')]);
  });
});

describe('the stats faceplate', () => {
  test('refuses every method but GET and HEAD', async () => {
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
      const response = await get('/status', { method });
      expect([method, response.status, response.headers.get('allow')]).toEqual([method, 405, 'GET, HEAD']);
    }
  });

  test('refuses an unexpected body before reading it', async () => {
    const response = await get('/status', { method: 'POST', body: 'x'.repeat(100_000) });
    await response.text();
    expect(response.status).toBe(413);
  });

  test('forbids foreign scripts, frames and content on every answer', async () => {
    for (const path of ['/', '/status', '/metrics', '/nothing', '/page-assets/page.js']) {
      const { headers } = await get(path);
      const policy = headers.get('content-security-policy') ?? '';
      expect(policy).toContain("default-src 'none'");
      expect(policy).not.toContain('unsafe');
      expect(headers.get('x-content-type-options')).toBe('nosniff');
    }
  });

  test('serves the page and every file it refers to, and nothing else', async () => {
    const page = await (await get('/')).text();
    const named = [...page.matchAll(/(?:src|href)="(page-assets\/[^"]+)"/g)].map((match) => match[1] ?? '');
    expect(named.length).toBeGreaterThan(3);
    for (const path of named) expect([path, (await get(`/${path}`)).status]).toEqual([path, 200]);
    expect(page).not.toMatch(/https?:\/\//);
    for (const path of [
      '/page-assets/..%2ffaceplate.ts',
      '/page-assets/faceplate.ts',
      '/page-assets/%2e%2e/mod.ts',
      '/etc/passwd',
    ]) {
      expect([path, (await get(path)).status]).toEqual([path, 404]);
    }
  });

  test('answers 304 to a browser that has the file', async () => {
    const first = await get('/page-assets/page.css');
    await first.text();
    const again = await get('/page-assets/page.css', { headers: { 'if-none-match': first.headers.get('etag') ?? '' } });
    expect(again.status).toBe(304);
  });

  test('lists the available paths when an unknown one is requested', async () => {
    const [status, said] = await answer('/metricz');
    expect(status).toBe(404);
    expect(said).toContain('/metrics');
  });

  test('may be closed twice, and frees the port', async () => {
    const other = await mesh.serve();
    const { port } = other;
    await other.close();
    await other.close();
    const next = await mesh.serve(port);
    expect(next.port).toBe(port);
    await next.close();
  });
});

// Routes of the stats faceplate: metrics, status, health checks, events, and the dashboard page. Only GET and HEAD, but
// for what an operator does on the page (version-routes.ts). Every response has a content security policy that allows
// only the page's own files.

import { Hono, type Context } from 'hono';
import type { HttpEnv } from '../../core/http/mod.ts';
import { DURATION_BOUNDS_S, type DurationHistogram, type MeshStatus } from '../../core/rpc/mod.ts';
import type { Asset } from './assets.ts';
import { METRICS_CONTENT_TYPE, writeMetrics } from './exposition.ts';
import { healthOf, poolsOf, readServiceName, readiness, sum, type Health } from './health.ts';
import type { IndicesOverview } from './index-overview.ts';
import { readMetrics } from './metrics.ts';
import { overviewOf } from './overview.ts';
import type { StatsSources } from './sources.ts';
import { addVersionRoutes, VERSIONS_PATH } from './version-routes.ts';

/** Returns the Hono app of the faceplate. */
export function statsRoutes(sources: StatsSources, assets: ReadonlyMap<string, Asset>): Hono<{ Bindings: HttpEnv }> {
  const app = new Hono<{ Bindings: HttpEnv }>();

  app.use(async (context, next) => {
    const { method, path } = context.req;
    const allowed = VERSIONS_PATH.test(path) ? ['GET', 'HEAD', 'POST'] : ['GET', 'HEAD'];
    if (allowed.includes(method)) await next();
    else {
      const allow = allowed.join(', ');
      context.res = context.text(`${method} is not served here, only ${allow}\n`, 405, { allow });
    }
    for (const [name, value] of SECURITY_HEADERS) context.res.headers.set(name, value);
    if (!context.res.headers.has('cache-control')) context.res.headers.set('cache-control', 'no-store');
  });

  app.get('/', (context) => sendAsset(context, assets.get('index.html')));
  app.get('/page-assets/:name', (context) => sendAsset(context, assets.get(context.req.param('name'))));

  app.get('/metrics', async (context) =>
    context.body(await writeMetrics(readMetrics(sources)), 200, { 'content-type': METRICS_CONTENT_TYPE }),
  );

  app.get('/livez', (context) => context.text('alive\n'));
  app.get('/readyz', (context) => sendHealth(context, readiness(sources.status())));

  const meshStatus = (): Promise<MeshStatus> => sources.meshStatus?.() ?? Promise.resolve(sources.status());
  app.get('/status', async (context) => context.json(await meshStatus()));
  const indices = (): Promise<IndicesOverview> => sources.indices?.() ?? Promise.resolve(NO_INDICES);
  app.get('/mesh', async (context) => context.json(overviewOf(...(await Promise.all([meshStatus(), indices()])))));
  app.get('/indices', async (context) => context.json(await indices()));
  app.get('/indices/:id/shards', async (context) => {
    const id = context.req.param('id');
    const names = await sources.shardNames?.(id);
    return names === undefined
      ? context.text(`There is no ${id}; GET /indices lists all versions\n`, 404)
      : context.json(names);
  });
  app.get('/status/:service', async (context) => {
    const name = context.req.param('service');
    const pools = poolsOf(await meshStatus(), readServiceName(name));
    if (pools.length === 0) return context.text(`No pool offers ${name}; GET /status lists all pools\n`, 404);
    return context.json({
      ...readServiceName(name),
      alive: sum(pools, (pool) => pool.alive),
      free: sum(pools, (pool) => pool.free),
      queued: sum(pools, (pool) => pool.queued),
      pools,
    });
  });
  app.get('/status/:service/:wanted', async (context) =>
    sendHealth(context, healthOf(await meshStatus(), context.req.param('service'), context.req.param('wanted'))),
  );

  app.get('/events', (context) => {
    const after = context.req.query('after') ?? '0';
    if (!/^\d{1,15}$/.test(after)) {
      return context.text(
        `Cannot list events after "${after}": expected a sequence number, as in /events?after=0\n`,
        400,
      );
    }
    const events = sources.events(Number(after));
    return context.json({ lastSeq: events.at(-1)?.seq ?? Number(after), events });
  });
  addVersionRoutes(app, sources.versions);
  app.get('/durations', (context) => context.json(durations(sources)));

  app.notFound((context) =>
    context.text(
      'Nothing here. Try /, /status, /mesh, /status/Service, /status/Service/2, /versions/Service, /indices, /events, /metrics, /livez, /readyz\n',
      404,
    ),
  );
  app.onError((error, context) => context.text(`Cannot answer: ${error.message}\n`, 500));
  return app;
}

const NO_INDICES: IndicesOverview = { versions: [], requests: {}, missing: {} };

const SECURITY_HEADERS: readonly (readonly [string, string])[] = [
  [
    'content-security-policy',
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  ],
  ['x-content-type-options', 'nosniff'],
  ['referrer-policy', 'no-referrer'],
  ['cross-origin-resource-policy', 'same-origin'],
  ['cross-origin-opener-policy', 'same-origin'],
];

function sendAsset(context: Context, asset: Asset | undefined): Response | Promise<Response> {
  if (asset === undefined) return context.notFound();
  const headers = { etag: asset.etag, 'cache-control': 'no-cache' };
  if (context.req.header('if-none-match') === asset.etag) return context.body(null, 304, headers);
  return context.body(asset.body, 200, { ...headers, 'content-type': asset.contentType });
}

function sendHealth(context: Context, health: Health): Response {
  return context.text(`${health.text}\n`, health.status);
}

/**
 * Returns counts of all calls by duration since the start. The page subtracts two samples to draw quantiles of an
 * interval.
 */
function durations({ callStats }: StatsSources): { boundsS: readonly number[]; total: number[]; queue: number[] } {
  const total = DURATION_BOUNDS_S.map(() => 0).concat(0);
  const queue = total.slice();
  for (const { stats } of callStats.entries()) {
    addCounts(total, stats.total);
    addCounts(queue, stats.queue);
  }
  return { boundsS: DURATION_BOUNDS_S, total, queue };
}

function addCounts(to: number[], { counts }: DurationHistogram): void {
  for (const [i, n] of counts.entries()) to[i] = (to[i] ?? 0) + n;
}

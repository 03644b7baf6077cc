// The stats faceplate: an HTTP server with metrics, status and health checks. It answers no calls and changes
// nothing. Every client that can reach its port can read everything, so it listens on loopback by default.

import { serveHttp, type HttpServer } from '../../core/http/mod.ts';
import type { FaceplateLimits } from '../../core/mod.ts';
import { readAssets } from './assets.ts';
import { statsRoutes } from './routes.ts';
import type { StatsSources } from './sources.ts';

export interface StatsFaceplateOptions extends StatsSources {
  readonly host: string;
  /** 0 means any free port. */
  readonly port: number;
  readonly limits: FaceplateLimits;
}

/** A running faceplate. `drain` finishes pending responses, `close` ends them. */
export type StatsFaceplate = HttpServer;

/** Reads the files of the page and listens. Rejects with the system error, such as `EADDRINUSE`. */
export async function startStatsFaceplate(options: StatsFaceplateOptions): Promise<StatsFaceplate> {
  const { host, port, limits } = options;
  const app = statsRoutes(options, await readAssets());
  return serveHttp({
    fetch: (request) => app.fetch(request),
    host,
    port,
    // Requests need no body. One of more than a few bytes is refused before it is read.
    limits: { ...limits, frameBytesMax: Math.min(limits.frameBytesMax, BODY_BYTES_MAX) },
    refusal: ({ message }) => JSON.stringify({ error: message }),
  });
}

const BODY_BYTES_MAX = 1024;

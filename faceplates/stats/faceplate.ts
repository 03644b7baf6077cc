// The stats faceplate: a small HTTP server that tells people and programs how the mesh is doing. It answers no calls
// and changes nothing; whoever may reach its port may read everything on it, so it listens on loopback unless told
// otherwise.

import { serveHttp, type HttpServer } from '../../core/http/mod.ts';
import type { FaceplateLimits } from '../../core/mod.ts';
import { readAssets } from './assets.ts';
import { statsRoutes } from './routes.ts';
import type { StatsSources } from './sources.ts';

export interface StatsFaceplateOptions extends StatsSources {
  readonly host: string;
  /** 0 for any free port. */
  readonly port: number;
  readonly limits: FaceplateLimits;
}

/** The running faceplate. `drain` finishes the answers under way, `close` ends now. */
export type StatsFaceplate = HttpServer;

/** Reads the page's files and listens; rejects with the system's error (`EADDRINUSE`) when it cannot. */
export async function startStatsFaceplate(options: StatsFaceplateOptions): Promise<StatsFaceplate> {
  const { host, port, limits } = options;
  const app = statsRoutes(options, await readAssets());
  return serveHttp({
    fetch: (request) => app.fetch(request),
    host,
    port,
    // Nobody has anything to send here: a body of more than a few bytes is refused before it is read.
    limits: { ...limits, frameBytesMax: Math.min(limits.frameBytesMax, BODY_BYTES_MAX) },
    refusal: ({ message }) => JSON.stringify({ error: message }),
  });
}

const BODY_BYTES_MAX = 1024;

// The stats faceplate: an HTTP server with metrics, status and health checks. It answers no calls. Every accepted
// caller can read everything, unless the access policy lists who may (core/rpc has identities). What an operator
// changes on the page goes to the admin service, with a token.

import {
  challengeOf,
  HttpCallers,
  requireAccepted,
  serveHttp,
  type HttpAccess,
  type HttpEnv,
  type HttpServer,
} from '../../core/http/mod.ts';
import type { ServerTls } from '../../core/link/mod.ts';
import { asKatamariError, ERROR_TABLE, KatamariError, type ByteLedger, type FaceplateLimits } from '../../core/mod.ts';
import type { Authenticator, CallerIdentity } from '../../core/rpc/mod.ts';
import { readAssets } from './assets.ts';
import { statsRoutes } from './routes.ts';
import type { StatsSources } from './sources.ts';

export interface StatsFaceplateOptions extends StatsSources {
  readonly host: string;
  /** 0 means any free port. */
  readonly port: number;
  readonly limits: FaceplateLimits;
  /** Verifies tokens of readers. Without it, every client is accepted. */
  readonly authenticator?: Authenticator | undefined;
  /** Whether the access policy lets a caller read; default all. */
  readonly mayRead?: (identity: CallerIdentity) => boolean;
  /** TLS instead of plain HTTP. */
  readonly tls?: ServerTls | undefined;
  /** Host names, and origins of web pages that may read. */
  readonly access?: HttpAccess;
  /** The ledger of the process; without it, the sums in `limits` bound this port alone. */
  readonly ledger?: ByteLedger;
}

/** A running faceplate. `drain` finishes pending responses, `close` ends them. */
export type StatsFaceplate = HttpServer;

/** Reads the files of the page and listens. Rejects with the system error, such as `EADDRINUSE`. */
export async function startStatsFaceplate(options: StatsFaceplateOptions): Promise<StatsFaceplate> {
  const { host, port, limits, ledger } = options;
  const app = statsRoutes(options, await readAssets());
  const callers = new HttpCallers(options.authenticator);
  return serveHttp({
    fetch: async (request, env) => {
      const refusal = OPEN_PATHS.has(new URL(request.url).pathname)
        ? undefined
        : await whyNotRead(callers, env, options.mayRead);
      return refusal ?? (await app.fetch(request, env));
    },
    host,
    port,
    // Only a change has a body, which is short. A longer one is refused before it is read.
    limits: { ...limits, frameBytesMax: Math.min(limits.frameBytesMax, BODY_BYTES_MAX) },
    tls: options.tls,
    access: options.access,
    rules: { hasPages: true },
    ...(ledger === undefined ? {} : { ledger }),
    refusal: ({ message }) => JSON.stringify({ error: message }),
  });
}

/** Returns the refusal of a client that may not read. */
async function whyNotRead(
  callers: HttpCallers,
  { incoming }: HttpEnv,
  mayRead: StatsFaceplateOptions['mayRead'],
): Promise<Response | undefined> {
  try {
    const identity = await callers.of(incoming.socket).of(incoming.headers.authorization ?? '');
    requireAccepted(identity);
    if (mayRead?.(identity) === false) {
      throw new KatamariError(
        'denied',
        `${identity.name} may not read this port: the access policy lists who may, under stats`,
      );
    }
    return undefined;
  } catch (thrown) {
    const error = asKatamariError(thrown);
    const challenge = challengeOf(error);
    return new Response(`${error.message}\n`, {
      status: error.facts.httpStatus ?? ERROR_TABLE[error.code].http,
      headers: {
        'content-type': 'text/plain; charset=utf-8',
        'cache-control': 'no-store',
        ...(challenge === undefined ? {} : { 'www-authenticate': challenge }),
      },
    });
  }
}

/** Health checks of load balancers, which tell nothing but the health of this process. */
const OPEN_PATHS: ReadonlySet<string> = new Set(['/livez', '/readyz']);
const BODY_BYTES_MAX = 8_192;

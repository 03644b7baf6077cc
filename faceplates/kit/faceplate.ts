// The interface of a faceplate: a network front end for one protocol, which turns requests into calls of the mesh.
// Built-in faceplates and those that a user adds in katamari.yaml implement this interface.

import type { HttpAccess } from '../../core/http/mod.ts';
import type { ByteLedger, FaceplateLimits } from '../../core/mod.ts';
import type { CallerIdentity, MeshAccess, StatsTable } from '../../core/rpc/mod.ts';

/**
 * A running faceplate: it listens.
 * @example
 * const faceplate: Faceplate = {
 *   address: '127.0.0.1:9100',
 *   connections: () => sockets.size,
 *   drain: () => server.finish(),
 *   close: () => server.end(),
 * };
 */
export interface Faceplate {
  /** The address on which it listens: `127.0.0.1:9100` or a URL. The last number in it is the port. */
  readonly address: string;
  /** Number of open connections. */
  connections(): number;
  /**
   * Accepts no more connections, replies to the calls that have begun, refuses later ones with `draining`, then
   * closes.
   */
  drain(): Promise<void>;
  /** Closes now and cancels the calls in flight. May be called twice, also during a drain. */
  close(): Promise<void>;
}

/**
 * The argument of `FaceplateModule.start`.
 * @example
 * start({ name, host, port, options }: FaceplateContext<{ service: string }>) { ... }
 */
export interface FaceplateContext<Options = unknown> {
  /** Name in status, metrics, call statistics and Consul (`katamari-<name>`). */
  readonly name: string;
  readonly mesh: MeshAccess;
  /** Call statistics. FaceplateCalls counts every call here, once when it arrives and once when it ends. */
  readonly callStats: StatsTable;
  /**
   * Returns who a client is, for `FaceplateRequest.identity`. The access policy decides by it. Without it, a call is
   * that of an anonymous caller from another machine, unless the mesh listens on loopback only.
   * @throws KatamariError denied for a token that is not valid
   * @example
   * const identity = await context.identify({ address, authorization: `Bearer ${token}` });
   */
  readonly identify: (client: {
    /** IP address of the client. */
    readonly address: string;
    /** `Bearer` and a token; '' or nothing for an anonymous client. */
    readonly authorization?: string;
  }) => Promise<CallerIdentity>;
  /** Limits on clients; a faceplate must enforce all of them. */
  readonly limits: FaceplateLimits;
  /** Sums of the bytes that clients hold, over all ports of the process; pass it to `serveLines` or `serveHttp`. */
  readonly ledger: ByteLedger;
  readonly host: string;
  /** Host names and origins that the configuration allows on HTTP ports; `serveHttp` enforces it. */
  readonly access: HttpAccess;
  /** 0 means any free port. */
  readonly port: number;
  /** The result of `FaceplateModule.options`. */
  readonly options: Options;
}

/**
 * Default export of a module that katamari.yaml names under `faceplates`.
 * @example
 * const line: FaceplateModule = { start: (context) => serveLines({ ...context, answer, refusal }) };
 * export default line;
 */
export interface FaceplateModule<Options = unknown> {
  /** Checks the `options` of the configuration; a module without it accepts none. */
  readonly options?: OptionsCheck<Options>;
  /** Resolves when the faceplate listens. An error stops the start of the mesh and is printed. */
  start(context: FaceplateContext<Options>): Faceplate | Promise<Faceplate>;
}

/**
 * A zod schema of any version with `safeParse`, or a function that returns the options or throws an error that says
 * what is wrong with them.
 */
export type OptionsCheck<Options> =
  | ((given: Readonly<Record<string, unknown>>) => Options)
  | {
      safeParse(given: unknown):
        | { readonly success: true; readonly data: Options }
        | {
            readonly success: false;
            readonly error: {
              readonly issues: readonly { readonly path: readonly PropertyKey[]; readonly message: string }[];
            };
          };
    };

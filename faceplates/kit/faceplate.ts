// What a faceplate is: a network front for one protocol, which turns what comes into calls of the mesh. The built-in ones and those that a
// user adds in katamari.yaml are the same thing: started with a FaceplateContext, held and ended by these four members.

import type { FaceplateLimits } from '../../core/mod.ts';
import type { MeshAccess, StatsTable } from '../../core/rpc/mod.ts';

/** A running front: it listens. */
export interface Faceplate {
  /** Where it listens, as people write it: `127.0.0.1:9100` or a URL. Its port is the last number in it. */
  readonly address: string;
  /** Connections that are open now. */
  connections(): number;
  /** Accepts no more, answers what has begun, refuses what comes after with `draining`, then ends. */
  drain(): Promise<void>;
  /** Ends now, whatever is under way; twice is fine, also while it drains. */
  close(): Promise<void>;
}

/** What a front is started with. */
export interface FaceplateContext<Options = unknown> {
  /** Its name in status, metrics and Consul (`katamari-<name>`); also the name of its page in the book. */
  readonly name: string;
  readonly mesh: MeshAccess;
  /** Every call is entered here once and settled once; FaceplateCalls does it. */
  readonly book: StatsTable;
  /** All of them hold for every front. */
  readonly limits: FaceplateLimits;
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** As its own check left them. */
  readonly options: Options;
}

/** Default export of a module that katamari.yaml names under `faceplates`. */
export interface FaceplateModule<Options = unknown> {
  /** Checks what stands under `options`; a module without it takes none. */
  readonly options?: OptionsCheck<Options>;
  /** Resolves when it listens; what it rejects with is shown to whoever started the mesh. */
  start(context: FaceplateContext<Options>): Faceplate | Promise<Faceplate>;
}

/** A zod schema (of any version that has `safeParse`), or a function that returns the options or throws what is wrong with them. */
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

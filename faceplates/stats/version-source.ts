// What the page shows of the versions of one service, and what an operator does with them there. The source forwards
// each change to the admin service of its process, which checks the token and writes the audit log.

/** The versions of a service side by side. */
export interface VersionsView {
  readonly service: string;
  /** By version. */
  readonly versions: readonly VersionShare[];
  /** Undefined if the service has no route. */
  readonly route: ShownRoute | undefined;
  /** Number of the change that made the route; 0 for that of the configuration. A change must name it. */
  readonly index: number;
  /** The struct VersionComparison of idl/versions.thrift; undefined if nothing can be compared. */
  readonly comparison: unknown;
  /** Why nothing can be compared; else ''. */
  readonly whyNotCompared: string;
  readonly mirror: ShownMirror;
  /** The struct RolloutStatus of the last rollout, or the one under way; undefined if there was none. */
  readonly rollout: unknown;
  /** Why rollouts cannot be read; else ''. */
  readonly whyNoRollout: string;
  /** The newest first. */
  readonly history: readonly ShownChange[];
  /** Why the history cannot be read; else ''. */
  readonly whyNoHistory: string;
}

/** How much of the calls a version gets. */
export interface VersionShare {
  readonly version: string;
  /** Its weight in the route; undefined if the route has no weights. */
  readonly weight: number | undefined;
  /** Percentage of the calls that no rule takes. */
  readonly share: number;
  readonly alive: number;
  readonly wanted: number;
}

/** A route without the keys, callers and headers of its rules, which not every reader may know. */
export interface ShownRoute {
  readonly by: string;
  /** When it was changed, in ms since 1970; 0 if never. */
  readonly atMs: number;
  readonly rules: readonly { readonly name: string; readonly to: string }[];
  /** Each other part in words, such as `sticky by args.user.id`. */
  readonly parts: readonly string[];
}

/** What mirrors have found, without the data of calls. */
export interface ShownMirror {
  readonly counts: readonly {
    readonly version: string;
    readonly method: string;
    readonly equal: number;
    readonly different: number;
    readonly failed: number;
    readonly skipped: number;
  }[];
  readonly paths: readonly {
    readonly version: string;
    readonly method: string;
    readonly path: string;
    readonly calls: number;
  }[];
}

/** A change of the route, with the weights that it set; undefined if it restored the route of the configuration. */
export interface ShownChange {
  readonly index: number;
  readonly by: string;
  readonly atMs: number;
  readonly weights: Readonly<Record<string, number>> | undefined;
  /** Number of its rules. */
  readonly rules: number;
  readonly mirror: string;
}

/** Which versions and which method a view compares. '' stands for those with the highest weights and all methods. */
export interface ComparedPart {
  readonly first: string;
  readonly second: string;
  readonly method: string;
}

/** A request of an operator. */
export interface OperatorRequest {
  readonly service: string;
  /** The body of the request, as JSON has it. */
  readonly body: unknown;
  /** The admin token. */
  readonly token: string;
  /** Address of the operator. */
  readonly address: string;
}

/** The answer of the admin service, or its refusal with an HTTP status. */
export type OperatorAnswer =
  | { readonly status: 200; readonly result: unknown }
  | { readonly status: RefusedStatus; readonly error: string };

/** HTTP status of a refusal. */
export type RefusedStatus = 400 | 401 | 403 | 409 | 429 | 502 | 503;

export interface VersionSource {
  /** Returns undefined for a service that the mesh does not have. */
  view(service: string, compared: ComparedPart): Promise<VersionsView | undefined>;
  operate(request: OperatorRequest): Promise<OperatorAnswer>;
}

// How the calls of a service are split over its versions.

/** Shares of a service's calls by version. A version that is not named gets none; no weights at all: shares by living resources. */
export interface Route {
  readonly weights: Readonly<Record<string, number>>;
}

// The route of a service: how its calls are split over its versions.

/**
 * Weights by version. A version without a weight gets no calls; without any weights, each version's weight is its
 * number of live resources.
 */
export interface Route {
  readonly weights: Readonly<Record<string, number>>;
}

/** Routes by service. A Map, because users choose the names of services, and one may be `constructor`. */
export type Routes = ReadonlyMap<string, Route>;
